"""TLBs that forget everything at once."""

from __future__ import annotations

from emu.arch.registers.exceptions import ESR_EL1
from hyp.exits import Intr
from lab.faults.fault import Status
from lab.faults.models.tlb_forget import TlbForget
from lab.faults.target import Target
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA
from tests.lab.faults.models.box import SYSTEM_OFF, Box


def loaded() -> Box:
    """Return a VM that has loaded 11 and is to load it again."""
    box = Box(a64.ldr(7, 1), a64.ldr(8, 1), *SYSTEM_OFF, stage1=True)
    box.put64(DATA, 11)
    assert isinstance(box.run(1), Intr)
    return box


def test_all_entries_go_and_nothing_else_changes() -> None:
    box = loaded()
    found = box.changes(TlbForget())
    assert {name.split()[1] for name in found} == {"TLB"}
    assert len(box.pe.mmu.tlb) == 0


def test_the_detail_says_how_many() -> None:
    box = loaded()
    held = len(box.pe.mmu.tlb)
    injection = TlbForget().inject(Target(box.vm, box.vcpu))
    assert injection == (Status.INJECTED, f"{held} entries of TLBs are gone", None, None)


def test_software_does_not_notice() -> None:
    box = loaded()
    TlbForget().inject(Target(box.vm, box.vcpu))
    before = box.pe.mmu.misses
    box.run()
    assert box.x(8) == 11
    assert box.pe.mmu.misses >= before + len({CODE, DATA})


def test_what_a_tlb_has_hidden_is_seen() -> None:
    for forget in (False, True):
        box = loaded()
        box.machine.memory.write_u64(box.stage1_leaf(DATA), 0)
        if forget:
            TlbForget().inject(Target(box.vm, box.vcpu))
        box.run()
        assert bool(box.vcpu.read(ESR_EL1)) is forget
