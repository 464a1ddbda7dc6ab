"""The golden run, instruction by instruction: what the guest reads and writes without faults.

The run is watched from outside (:class:`lab.faults.moments.Moments`, the
listener of :class:`emu.memory.PhysicalMemory`), so that it ends as an unwatched one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.a64.access import AccessKind
from emu.arch.a64.general_registers import ALL, EVERYTHING, RegisterUse, register_use
from emu.arch.a64.loadstore import decode
from emu.arch.a64.maintenance import DC
from emu.arch.a64.system import decode_system
from emu.arch.address import PA, PAGE_MASK, PAGE_SHIFT, VA
from emu.arch.registers.exceptions import PSTATE
from emu.arch.registers.identification import DCZID_EL0
from emu.cpu.refill import privilege_of
from emu.mmu.fault import Fault
from emu.mmu.permissions import EL0, EXECUTE, READ, WRITE
from hyp.pte import GRANULE_SHIFT, LAST_LEVEL, PTE_ADDR, PTE_TABLE, PTRS_PER_PTE
from lab.campaign.frames import frames_of_slots
from lab.campaign.trace import GENERAL, Trace
from lab.faults.moments import Moments

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from hyp.vcpu import VCPU
    from lab.monitor import End
    from lab.vmm import Vmm

_UAO: Final = PSTATE.UAO.in_place


class _Touch(NamedTuple):
    """Bytes that an instruction accesses, by their virtual address."""

    va: VA
    size: int
    need: int
    """As the MMU is asked for permissions."""
    reads: bool
    """Whether what is there matters: it is read, or not certainly overwritten."""
    privilege: int


class _Step(NamedTuple):
    """An instruction that is about to execute."""

    time: int
    vcpu: VCPU
    pc: int
    use: RegisterUse
    touches: tuple[_Touch, ...]
    registers: list[int]
    """X0 to X30."""


class GoldenRecorder:
    """Records the golden run of a VM.

    Parameters
    ----------
    vmm : Vmm
        The guest before its start.
    """

    def __init__(self, vmm: Vmm) -> None:
        self.trace = Trace()
        self._vm, self._memory, self._vmm = vmm.vm, vmm.machine.memory, vmm
        self._step: _Step | None = None
        self._left: dict[int, list[int]] = {}
        self._seen: tuple[int, int] | None = None
        self._tables: set[int] = set()
        self._listening = True

    def run(self) -> tuple[End, Trace]:
        """Run the guest to its end, and return how it ended and what it did."""
        moments = Moments(self._vm)
        self._look_for_pages(None)
        moments.open()
        self._memory.listener = self._accessed
        try:
            moments.each_instruction(self._before)
            end, _ = self._vmm.run_to_end()
            self._complete()
        finally:
            moments.close()
            self._memory.listener = None
        self._find_tables()
        return end, self.trace

    # --- what is told

    def _accessed(self, pa: int, size: int, reads: bool) -> None:
        """Hear of an access that is not the guest's own."""
        if self._listening:
            self.trace.memory(self._now, pa, size, reads=reads)

    @property
    def _now(self) -> int:
        return self._step.time if self._step else 0

    def _before(self, vcpu: VCPU) -> None:
        """Note what the next instruction is about to do; the last one is done."""
        self._complete()
        self._listening = False
        pe, pc = vcpu.pe, VA(vcpu.pc)
        pstate = int(vcpu.pstate)
        word = _word_at(pe, pc, pstate)
        fetch = (_Touch(pc, 4, EXECUTE, True, privilege_of(pstate)),)
        self._step = _Step(
            self._vm.machine.clock.retired,
            vcpu,
            pc,
            EVERYTHING if word is None else register_use(word),
            fetch + (() if word is None else _touches(pe, word, pc, pstate)),
            pe.read_all_x(),
        )
        self._listening = True

    # --- what an instruction has done

    def _complete(self) -> None:
        step = self._step
        if step is None:
            return
        self._listening = False
        retired = self._vm.machine.clock.retired - step.time
        vcpu = step.vcpu.index
        pe = step.vcpu.pe
        for touch in step.touches:
            # An instruction that raised an exception has been fetched; it has changed nothing.
            if retired or touch.need == EXECUTE:
                self._record(pe, step, touch)
        before = self._left.get(vcpu, step.registers)
        after = step.registers if step.vcpu.loaded_on is None else pe.read_all_x()
        changed = _changed(before, step.registers)
        changed |= _changed(step.registers, after) - step.use.overwrites
        self._left[vcpu] = after
        overwrites = step.use.overwrites if retired else frozenset[int]()
        # What changed in another way, or perhaps was written: no fault before and after it is
        # of one class.
        unclear = changed | (step.use.overwrites - overwrites)
        for number in sorted(step.use.reads | unclear):
            self.trace.register(step.time, vcpu, GENERAL[number], reads=True)
        for number in sorted(overwrites):
            self.trace.register(step.time, vcpu, GENERAL[number], reads=False)
        if retired:
            if retired != 1 or self.trace.length != step.time:
                raise RuntimeError(f"{retired} instructions passed unseen at {step.time}")
            self.trace.instruction(vcpu, step.pc)
        self._look_for_pages(step.time)
        self._step = None
        self._listening = True

    def _record(self, pe: ProcessingElement, step: _Step, touch: _Touch) -> None:
        """Record an access of the guest, page by page."""
        at, end = int(touch.va), touch.va + touch.size
        while at < end:
            stop = min(end, (at | PAGE_MASK) + 1)
            pa = _physical(pe, VA(at), touch.need, touch.privilege)
            if pa is not None:
                self.trace.memory(step.time, pa, stop - at, reads=touch.reads)
            at = stop

    def _look_for_pages(self, time: int | None) -> None:
        """Find out which pages came into being during an instruction, or before the first."""
        vm, trace = self._vm, self.trace
        seen = (vm.host.frames.allocated, vm.stats.table_pages)
        if seen == self._seen:
            return
        self._seen = seen
        for frame, ipa in frames_of_slots(vm).items():
            page = ipa >> PAGE_SHIFT
            known = trace.pages.get(page)
            if known == frame:
                continue
            if known is not None:
                trace.moved.add(page)
            trace.pages[page] = frame
            if time is not None:
                trace.born[frame] = time
        tables = set(vm.pgt.pages.counts)
        trace.tables_moved |= not self._tables <= tables
        if time is not None:
            trace.born.update((table, time) for table in tables - self._tables)
        self._tables = tables

    def _find_tables(self) -> None:
        """Note where the stage-2 tables are at the end."""
        pgt = self._vm.pgt
        self.trace.table_shifts = GRANULE_SHIFT
        if pgt.pgd is None:
            return
        level = pgt.geometry.start_level
        todo = [(level, 0, int(pgt.pgd), pgt.geometry.pgd_size // 8)]
        while todo:
            level, ipa, table, entries = todo.pop()
            self.trace.tables[level, ipa] = range(table, table + 8 * entries)
            if level == LAST_LEVEL:
                continue
            for index in range(entries):
                word = self._memory.read_u64(PA(table + 8 * index))
                if word & PTE_TABLE == PTE_TABLE:
                    first = ipa + (index << GRANULE_SHIFT[level])
                    todo.append((level + 1, first, word & PTE_ADDR, PTRS_PER_PTE))


def _changed(before: list[int], after: list[int]) -> set[int]:
    """Return the registers whose values differ."""
    return set() if before == after else {n for n in ALL if before[n] != after[n]}


def _touches(pe: ProcessingElement, word: int, pc: VA, pstate: int) -> tuple[_Touch, ...]:
    """Return the data that an instruction is about to access."""
    privilege = privilege_of(pstate)
    access = decode(word)
    if access is None:
        return _zeroed(pe, word, privilege)
    if access.kind is AccessKind.PREFETCH:
        return ()
    if access.unprivileged and not pstate & _UAO:
        privilege = EL0
    need = (READ if access.reads else 0) | (WRITE if access.writes else 0)
    # An exclusive store may fail, and then overwrites nothing.
    reads = access.reads or access.exclusive or access.tags
    return (_Touch(pe.watch.address_of(access, pc), access.size, need, reads, privilege),)


def _zeroed(pe: ProcessingElement, word: int, privilege: int) -> tuple[_Touch, ...]:
    instruction = decode_system(word)
    if instruction is None or instruction.operation is not DC.ZVA:
        return ()
    size = 4 << pe.features.read(DCZID_EL0).BS
    address = VA(pe.registers.x(instruction.rt) & -size)
    return (_Touch(address, size, WRITE, False, privilege),)


def _word_at(pe: ProcessingElement, pc: VA, pstate: int) -> int | None:
    """Return the instruction at ``pc``; None if fetching it will abort. No TLB takes note."""
    page = pe.code.scanned.get(pc >> PAGE_SHIFT)
    if page is None:
        pe.refresh()
        found = pe.mmu.probe(pc, EXECUTE, privilege_of(pstate))
        if isinstance(found, Fault):
            return None
        page = PA(found & ~PAGE_MASK)
    return pe.memory.read_instruction(PA(page | pc & PAGE_MASK))


def _physical(pe: ProcessingElement, va: VA, need: int, privilege: int) -> int | None:
    """Return where an access that has just been made went; None if not to memory."""
    entry = pe.mmu.lookup(va, need, privilege)
    if entry is not None:
        return entry.page | va & PAGE_MASK
    pa = pe.mmu.probe(va, need, privilege)
    return None if isinstance(pa, Fault) else pa
