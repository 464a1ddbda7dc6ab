"""What the probe keeps is no state of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.cpu.probe import Probe
    from tests.emu.cpu.bare import Bare


def attributes(probe: Probe) -> set[str]:
    return set(getattr(type(probe), "__mypyc_attrs__", ()) or vars(probe))


def test_nothing_of_the_probe_is_state(bare: Bare) -> None:
    probe = bare.pe.probe
    assert attributes(probe) == probe.NOT_STATE
    probe.ask(due=1000, each=True)
    probe.ask_about(levels=True)
    bare.pe.probe.close()
    assert attributes(probe) == probe.NOT_STATE
    assert not probe.armed
