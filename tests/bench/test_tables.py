from __future__ import annotations

from typing import TYPE_CHECKING

from bench import tables
from emu.arch.address import IPA, PA, VA
from emu.arch.features import CORTEX_A72
from emu.memory import PhysicalMemory
from emu.mmu.fault import Fault
from emu.mmu.mmu import Mmu
from emu.mmu.permissions import EXECUTE, READ, WRITE
from emu.mmu.regime import ControlRegisters

if TYPE_CHECKING:
    from emu.mmu.tlb import TlbEntry

BASE = IPA(0x4000_0000)
PAGE = 0x4020_1000
DEVICE = 0x0900_0000


def translated(va: int, need: int) -> TlbEntry | Fault:
    memory = PhysicalMemory(PA(BASE), 0x40_0000)
    memory.write(PA(BASE), tables.identity_map(BASE, [PAGE], [DEVICE]))
    mmu = Mmu(memory, CORTEX_A72)
    mmu.load(ControlRegisters(tables.SCTLR, tables.TCR, tables.ttbr(BASE), 0, 0, 0, 0))
    assert mmu.regime.stage1.lower.start_level == 0
    return mmu.walk(VA(va), need, 1)


def test_memory_is_mapped_to_itself_with_all_rights_of_el1() -> None:
    found = translated(PAGE + 8, READ | WRITE | EXECUTE)
    assert not isinstance(found, Fault)
    assert found.page == PAGE


def test_other_pages_are_not_mapped() -> None:
    assert isinstance(translated(PAGE + 0x1000, READ), Fault)


def test_devices_cannot_be_executed() -> None:
    found = translated(DEVICE, EXECUTE)
    assert isinstance(found, Fault)
    assert found.level == 3
