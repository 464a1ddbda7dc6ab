"""Reading the tables of a VM, without anybody noticing.

The walk is the hypervisor's own, over descriptors of its own: an observer of the VM's hears
nothing of it, no event is emitted, and nothing is harvested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA, PA
from hyp.descriptors import Descriptors
from hyp.errors import Errno
from hyp.memslots import MemoryRegionFlags
from hyp.pte import pte_to_phys
from hyp.walker import Walker
from lab.errors import UserError
from lab.ptdump.dump import Dump, Run, SlotInfo, Table, marked

if TYPE_CHECKING:
    from hyp.memslots import MemorySlot
    from hyp.vm import VM


def read_dump(vm: VM, *, guest: str = "", end: str = "", instructions: int = 0) -> Dump:
    """Read the stage-2 tables and the slots of a VM.

    Parameters
    ----------
    vm
        The VM; it is left as it is.
    guest, end, instructions
        For the dump's header.

    Raises
    ------
    UserError
        If the VM has been destroyed.
    """
    pgd, geometry = vm.pgt.pgd, vm.pgt.geometry
    if pgd is None:
        raise UserError("the VM has no stage-2 tables any more; dump it before it is destroyed")
    reader = _Reader(pgd, geometry.start_level)
    walker = Walker(Descriptors(vm.machine.memory), reader.leaf, table_pre=reader.table)
    walker.walk(pgd, geometry.start_level, IPA(0), IPA(vm.pgt.ia_end))
    return Dump(
        guest=guest,
        end=end,
        instructions=instructions,
        ipa_bits=geometry.ia_bits,
        start_level=geometry.start_level,
        fwb=vm.pgt.fwb,
        tables=tuple(reader.tables),
        runs=tuple(reader.runs),
        slots=tuple(_slot(slot) for slot in vm.memslots),
    )


class _Reader:
    """Visitors that gather tables and runs."""

    def __init__(self, pgd: PA, start_level: int) -> None:
        self.tables = [Table(IPA(0), start_level, pgd)]
        self.runs: list[Run] = []
        self._next_ptep = -1

    def table(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        del ptep, end
        self.tables.append(Table(IPA(addr), level + 1, pte_to_phys(old)))
        # The tables before and behind may happen to touch.
        self._next_ptep = -1
        return Errno.OK

    def leaf(self, ptep: int, old: int, level: int, addr: int, end: int) -> Errno:
        del end
        if ptep == self._next_ptep and self.runs[-1].continues(old):
            run = self.runs[-1]
            self.runs[-1] = run._replace(length=run.length + 1)
        else:
            self.runs.append(Run(IPA(addr), level, old, 1))
        self._next_ptep = ptep + 8
        return Errno.OK


def _slot(slot: MemorySlot) -> SlotInfo:
    log = slot.dirty_bitmap
    return SlotInfo(
        slot.id,
        slot.base_ipa,
        slot.size,
        bool(slot.flags & MemoryRegionFlags.READONLY),
        None if log is None else tuple(marked(slot.base_ipa, log.copy())),
    )
