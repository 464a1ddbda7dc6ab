"""When debug exceptions are enabled, against a table written by hand from Arm ARM D2."""

from __future__ import annotations

import pytest

from emu.arch.debug.enabled import SS, DebugControls, is_enabled, is_stepping, ss_after_return
from emu.arch.registers.debug import MDSCR_EL1

EL0, EL1, EL2, D = 0x0, 0x5, 0x9, 1 << 9


def controls(
    *, kernel: bool = False, step: bool = True, locked: bool = False, to_el2: bool = False
) -> DebugControls:
    """Return the registers for some controls."""
    return DebugControls(MDSCR_EL1.build(KDE=kernel, SS=step), locked, to_el2)


@pytest.mark.parametrize(
    ("pstate", "kernel", "to_el2", "enabled"),
    [
        (EL0, False, False, True),
        (EL0 | D, False, False, True),
        (EL0, False, True, True),
        (EL1, False, False, False),
        (EL1, True, False, True),
        (EL1 | D, True, False, False),
        (EL1, False, True, True),
        (EL1 | D, False, True, True),
        (EL2, True, False, False),
        (EL2, False, True, False),
        (EL2, True, True, True),
        (EL2 | D, True, True, False),
    ],
)
def test_debug_exceptions_are_enabled_below_their_target_and_at_it_with_kde_and_not_d(
    pstate: int, kernel: bool, to_el2: bool, enabled: bool
) -> None:
    now = controls(kernel=kernel, to_el2=to_el2)
    assert is_enabled(now, pstate) is enabled
    assert is_stepping(now, pstate) is enabled
    assert not is_stepping(controls(kernel=kernel, to_el2=to_el2, step=False), pstate)
    assert not is_enabled(controls(kernel=kernel, to_el2=to_el2, locked=True), pstate)


@pytest.mark.parametrize("to_el2", [False, True])
def test_target(to_el2: bool) -> None:
    assert controls(to_el2=to_el2).target == 1 + to_el2


@pytest.mark.parametrize(
    ("source", "destination", "kept"),
    [
        (EL1 | D, EL0, True),
        (EL1 | D, EL1, True),
        (EL1 | D, EL1 | D, False),
        (EL1, EL0, False),
        (EL1, EL1, False),
        (EL2 | D, EL0, True),
    ],
)
def test_ss_is_taken_from_spsr_where_debug_exceptions_become_enabled(
    source: int, destination: int, kept: bool
) -> None:
    now = controls(kernel=True)
    assert ss_after_return(now, source, destination | SS) == (SS if kept else 0)
    assert ss_after_return(now, source, destination) == 0
    assert ss_after_return(controls(kernel=True, step=False), source, destination | SS) == 0
