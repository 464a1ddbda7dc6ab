"""One guest of the world, played against the model: each access and each call, and what follows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from hyp.events import KvmGuestFault
from tests.hyp.invariants.checks import Checks
from tests.hyp.invariants.guest import Guest, Setup, code, number_of
from tests.hyp.invariants.model import PAGE, ZERO, Area, GuestMemory, Kind, Outcome, Slot
from tests.hyp.invariants.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyp.events import Event
    from tests.hyp.invariants.world import World

VCPUS: Final = 2
WORD: Final = 8


class Player:
    """A VM, the model of its memory, the checks of its tables, and a migration of it."""

    def __init__(self, world: World, setup: Setup, *, observed: bool) -> None:
        self.world = world
        self.memory = GuestMemory()
        self.guest = Guest(world.machine, world.host, world.program, setup, VCPUS)
        self.vm = self.guest.vm
        self.checks = Checks(self.vm, world.host, self.memory, VCPUS, observed=observed)
        self.sender = Sender(self.vm)
        self.guest.on_full = self._ring_is_full
        self.wrote: Callable[[Slot, int], None] = lambda _slot, _page: None
        self.faults = 0
        self.at_fault: Callable[[], None] = lambda: None
        self._burst: tuple[int, int, int] | None = None
        self._writing: list[int] = []
        self._changing = False
        self._vanishing: Slot | None = None
        self.vm.events.subscribe(self._on_event)

    @property
    def setup(self) -> Setup:
        """What was chosen when the VM was made."""
        return self.guest.setup

    @property
    def logged(self) -> dict[int, Slot]:
        """The slots that are logged."""
        return {n: slot for n, slot in self.memory.slots.items() if slot.logging}

    def _on_event(self, event: Event) -> None:
        if isinstance(event, KvmGuestFault):
            self.faults += 1
            self.at_fault()

    # --- accesses ------------------------------------------------------------------------

    def access(self, vcpu: int, kind: Kind, gfn: int, offset: int, number: int) -> Outcome:
        """Do one access, and compare with the model.

        Parameters
        ----------
        vcpu, kind
            Who does what.
        gfn, offset
            Where.
        number
            What is written.
        """
        ipa = gfn * PAGE + offset
        if kind is Kind.EXEC:
            known = self._known(gfn, offset)
            if known is None:
                return Outcome.MMIO
            self.guest.fetch_afresh(vcpu)
        value = int.from_bytes(code(number), "little")
        with self.checks.access(kind, range(gfn, gfn + 1)):
            self._writing += [gfn] if kind.writes else []
            done = self.guest.access(vcpu, kind, ipa, value)
            if kind.writes:
                self._writing.remove(gfn)
        expected = self._expected_at(kind, gfn, offset)
        if (
            self._vanishing is not None
            and self._vanishing.holds(gfn)
            and done.outcome is not expected
        ):
            # What is mapped can be used until it is unmapped, behind the change of the slots.
            with self._as_before():
                expected = self._expected(kind, gfn)
                if expected is Outcome.DONE is done.outcome:
                    self._compare(kind, gfn, offset, done.value, value)
                    return expected
            expected = self._expected_at(kind, gfn, offset)
        assert done.outcome is expected, f"{kind.value} at {ipa:#x}: {done.outcome.value}"
        if expected is Outcome.DONE:
            self._compare(kind, gfn, offset, done.value, value)
        return expected

    def _expected_at(self, kind: Kind, gfn: int, offset: int) -> Outcome:
        """Return what an access must come to. What is no instruction any more is undefined."""
        expected = self._expected(kind, gfn)
        if kind is Kind.EXEC and expected is Outcome.DONE and self._known(gfn, offset) is None:
            return Outcome.ABORT
        return expected

    def _expected(self, kind: Kind, gfn: int) -> Outcome:
        return self.memory.outcome(kind, gfn, old=self.guest.old, supplied=self.world.supplies)

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        assert self._vanishing is not None
        number = self._vanishing.number
        self.memory.slots[number] = self._vanishing
        yield
        del self.memory.slots[number]

    def _known(self, gfn: int, offset: int) -> int | None:
        """Return the number that an instruction gives, 0 where there is none; else ``None``."""
        slot = self.memory.find(gfn)
        if slot is None or slot.area.is_lost(slot.page(gfn)):
            return 0
        return number_of(self.memory.read(gfn, offset, 4))

    def _compare(self, kind: Kind, gfn: int, offset: int, read: int, written: int) -> None:
        held = int.from_bytes(self.memory.read(gfn, offset, WORD), "little")
        if kind is Kind.EXEC:
            assert read == number_of(self.memory.read(gfn, offset, 4))
            return
        if kind is not Kind.WRITE:
            assert read == held, f"the guest reads {read:#x} at gfn {gfn:#x}, not {held:#x}"
        if kind.writes:
            new = written if kind is Kind.WRITE else (held + 1) % (1 << 64)
            self._store(gfn, offset, new)

    def _store(self, gfn: int, offset: int, value: int) -> None:
        slot = self.memory.write(gfn, offset, value.to_bytes(WORD, "little"))
        page = gfn - slot.gfn
        if slot.logging and not self._changing:
            assert self.checks.is_marked(slot, page), f"page {page} of {slot} is not marked"
        self.wrote(slot, slot.page(gfn))

    def repeat(self, vcpu: int, kind: Kind, gfn: int, offset: int, number: int) -> None:
        """Do an access again that has just been done: it takes no fault."""
        faults = self.faults
        self.access(vcpu, kind, gfn, offset, number)
        assert self.faults == faults, "an access faults that has just been made possible"

    def burst(self, vcpu: int, gfn: int, npages: int, number: int) -> bool:
        """Write to many pages, if they can all be written."""
        pages = range(gfn, gfn + npages)
        if {self._expected(Kind.WRITE, each) for each in pages} != {Outcome.DONE}:
            return False
        self._burst = (vcpu, gfn, number)
        with self.checks.access(Kind.WRITE, pages):
            assert self.guest.burst(vcpu, gfn * PAGE, npages, number) is Outcome.DONE
        self._note_burst(pages.stop)
        self._burst = None
        return True

    def _note_burst(self, end: int) -> None:
        assert self._burst is not None
        vcpu, start, number = self._burst
        for gfn in range(start, end):
            self._store(gfn, 0, number)
        self._burst = (vcpu, end, number)

    # --- logs ----------------------------------------------------------------------------

    def _ring_is_full(self) -> None:
        """Take what there is. The write that filled the ring is logged and not yet done."""
        writing = list(self._writing)
        if self._burst is not None:
            at = self.vm.vcpus[self._burst[0]].read_x(1) // PAGE
            self._note_burst(at)
            writing.append(at)
        for gfn in writing:
            slot = self.memory.find(gfn)
            if slot is not None and slot.logging:
                self.memory.maybe[slot.number].add(gfn - slot.gfn)
        self.harvest(lambda: None)

    def harvest(self, between: Callable[[], None]) -> None:
        """Take all logs: they name what was written, and the copy is the memory."""
        memory, slots = self.memory, self.logged
        before = {n: memory.written[n] for n in slots}
        maybe = {n: memory.maybe[n] for n in slots}

        def meanwhile() -> None:
            for number in slots:
                memory.written[number] = set()
                memory.maybe[number] = before[number] | maybe[number]
            between()

        named = self.sender.take(slots, meanwhile)
        log = self.vm.dirty_log
        for number, pages in named.items():
            lost = before[number] - pages
            assert not lost, f"pages {lost} of slot {number} are lost"
            more = pages - before[number] - maybe[number] - memory.written[number]
            assert not more, f"pages {more} of slot {number} were not written"
            memory.maybe[number] = set()
            if log.ring_size or log.manual_protect:
                # What is written while the log is taken is in the copy that is made after it.
                memory.maybe[number] = memory.written[number] & pages
                memory.written[number] -= pages
        for slot in slots.values():
            self._compare_copy(slot)

    def _compare_copy(self, slot: Slot) -> None:
        """Compare a copy with what the slot must hold, but for pages that are still to be sent."""
        copy, later = self.sender.copies[slot.number], self.memory.written[slot.number]
        for page in range(slot.npages):
            at = slot.first + page
            readable = not slot.area.is_lost(at) and at not in (slot.area.missing or ())
            if readable and page not in later and (page in copy or slot.area.is_touched(at)):
                same = copy.get(page, ZERO) == slot.area.read(at)
                assert same, f"page {page} of slot {slot.number} is lost"

    def changed(self, area: Area, page: int, writer: Slot | None) -> None:
        """Send pages that were changed by somebody whom the log does not see."""
        for slot in self.logged.values():
            inside = slot.first <= page < slot.first + slot.npages
            if slot is not writer and inside and slot.area.changes_with(area, page):
                self.sender.resend(slot, page - slot.first)

    # --- slots ---------------------------------------------------------------------------

    def create(self, slot: Slot) -> None:
        """Create a slot."""
        self._steps(slot, [slot], delete=False)
        if slot.logging:
            self._log_starts(slot)

    def delete(self, slot: Slot) -> None:
        """Delete a slot; what its log names is taken first."""
        self._log_ends(slot)
        slot = self.memory.slots[slot.number] = slot.logged(False)
        self._steps(slot, [None, None], delete=True)

    def move(self, slot: Slot, gfn: int) -> None:
        """Move a slot. Its log goes on."""
        new = slot.moved(gfn)
        self._steps(new, [None, new], delete=False)

    def set_logging(self, slot: Slot, *, on: bool) -> None:
        """Turn logging on or off."""
        self._log_ends(slot)
        new = slot.logged(on)
        self._steps(new, [new], delete=False)
        if on:
            self._log_starts(new)

    def _steps(self, slot: Slot, seen: list[Slot | None], *, delete: bool) -> None:
        """Change a slot; the other CPUs see one step after the other, and may run then."""
        steps = list(seen)
        during = self.vm.synchronize_srcu
        if slot.logging and slot.number not in self.memory.written:
            everything = set(range(slot.npages)) if self.setup.manual & 2 else set[int]()
            self.memory.written[slot.number], self.memory.maybe[slot.number] = set(), everything

        def step() -> None:
            now = steps.pop(0)
            self._vanishing = None
            if now is None:
                self._vanishing = self.memory.slots.pop(slot.number, None)
            else:
                self.memory.slots[slot.number] = now
            if during is not None:
                during()

        self.vm.synchronize_srcu = step
        self._changing = True
        self.guest.set_slot(slot, delete=delete)
        self._changing, self._vanishing = False, None
        self.vm.synchronize_srcu = None
        assert not steps, "the other CPUs were not waited for"

    def _log_starts(self, slot: Slot) -> None:
        """Send all there is. What was written meanwhile may be named."""
        number = slot.number
        self.memory.maybe[number] |= self.memory.written[number]
        self.memory.written[number] = set()
        self.sender.start(slot)

    def _log_ends(self, slot: Slot) -> None:
        if slot.logging:
            self.harvest(lambda: None)
            self.sender.stop(slot)
            del self.memory.written[slot.number], self.memory.maybe[slot.number]

    # --- the end -------------------------------------------------------------------------

    def destroy(self) -> None:
        """Take the logs a last time, and destroy the VM: all tables are given back."""
        self.harvest(lambda: None)
        self.vm.destroy()
        assert self.vm.stats.table_pages == 0
        assert not self.vm.pgt.pages.counts
