"""The invariants, checked where a leaf becomes visible and where the tables are at rest.

1. A leaf is writable only if the slot is, the host's page is, and, while the slot is logged,
   a write asked for it.
2. A page is marked dirty after it is mapped writable, and not otherwise.
3. What is mapped has not changed since it was looked up. (Until 6.10 KVM maps a page at once,
   read-only, when the host says that it is a copy.)
4. A valid entry never becomes another without a break and a TLBI (:mod:`.trace`).
5. Caches are cleaned before a leaf is visible.
6. A leaf is executable only if the instruction caches were made coherent for it.
7. A leaf is in its slot, and in one page of the host.
8. Tables and references are those that the mappings need (and an access that is repeated
   takes no fault).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from emu.arch.address import PA
from hyp.host.tables import PRESENT, entry_frame
from hyp.host.tables import WRITE as HOST_WRITE
from hyp.icache import Reach
from tests.hyp.invariants.guest import CODE
from tests.hyp.invariants.model import PAGE, GuestMemory, Kind, Slot
from tests.hyp.invariants.trace import SIZE, VALID, WRITE, Leaf, Trace, leaves, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyp.vm import VM
    from tests.hyp.invariants.racing import RacingHost

CODE_GFN: Final = CODE // PAGE
PTRS_PER_TABLE: Final = PAGE // 8


class Checks:
    """The invariants of one VM.

    Parameters
    ----------
    vm, host
        The VM, and the VMM process's memory.
    memory
        What the model says of the guest's memory.
    pe_count
        How many PEs must hear of a TLBI.
    observed
        Whether every store is looked at. Otherwise only what the tables are at rest.
    """

    def __init__(
        self, vm: VM, host: RacingHost, memory: GuestMemory, pe_count: int, *, observed: bool
    ) -> None:
        self.vm, self.host, self.memory = vm, host, memory
        self.trace = Trace(vm, pe_count, self.becomes_visible, self.is_ahead) if observed else None
        self._accesses: list[tuple[Kind, range]] = []

    @contextmanager
    def access(self, kind: Kind, gfns: range) -> Iterator[None]:
        """Let the checks know what the guest does."""
        self._accesses.append((kind, gfns))
        yield
        self._accesses.remove((kind, gfns))

    # --- at each store -------------------------------------------------------------------

    def becomes_visible(self, leaf: Leaf, old: Leaf | None) -> None:
        """Check a leaf that the guest can use from now on."""
        if leaf.ipa // PAGE == CODE_GFN:
            return
        slot = self._slot(leaf)
        if leaf.writable and not (old and old.writable):
            assert not slot.readonly, f"{leaf} is writable in {slot}"
            if slot.logging:
                assert self._written(leaf), f"{leaf} is writable, and nobody writes it"
                assert leaf.size == PAGE
        if old is None or (leaf.writable and not old.writable):
            start = slot.area.hva(slot.page(leaf.ipa // PAGE))
            stale = self.host.watcher.stale(start, start + leaf.size, self.host.looked_up)
            told = self._was_told(leaf, start)
            assert told or not stale, f"{leaf} has changed since it was looked up"
        self._check_caches(leaf, old)

    def _was_told(self, leaf: Leaf, hva: int) -> bool:
        """Return whether the host has just said what the page is, so that nobody looked it up."""
        if not self.vm.profile.change_pte or leaf.writable or leaf.size != PAGE:
            return False
        return self.host.watcher.replaced == (hva, leaf.pa)

    def _check_caches(self, leaf: Leaf, old: Leaf | None) -> None:
        assert self.trace is not None
        rules, features = self.vm.profile.caches, self.vm.features
        if not rules.in_walk and self.trace.replaces_a_part(leaf):
            # What KVM of 2018 did for the page of a permission fault it did not do for the
            # rest of a block that took its place.
            return
        if rules.clean and not features.fwb and old is None:
            assert self.trace.covered("CI", leaf.pa, leaf.size), f"{leaf} was not cleaned"
        coherent = rules.dic and features.dic
        needed = rules.reach[features.icache_policy] is not Reach.NOTHING and not coherent
        if needed and leaf.executable and not (old and old.executable):
            covered = self.trace.covered("IV", leaf.pa, leaf.size)
            covered |= self.trace.covered("IA", leaf.pa, leaf.size)
            assert covered, f"{leaf} is executable without maintenance"

    def is_ahead(self, entry: Leaf) -> None:
        """Check an entry before it is stored to: its page is not marked yet."""
        gfn = entry.ipa // PAGE
        slot = self.memory.find(gfn) if entry.level == 3 else None
        if slot is None or not slot.logging or (entry.pte & VALID and entry.pte & WRITE):
            return
        page = gfn - slot.gfn
        known = page in self.memory.written[slot.number] or page in self.memory.maybe[slot.number]
        assert known or not self.is_marked(slot, page), f"{entry} is marked before it is mapped"

    def _written(self, leaf: Leaf) -> bool:
        return any(kind.writes and leaf.ipa // PAGE in gfns for kind, gfns in self._accesses)

    def is_marked(self, slot: Slot, page: int) -> bool:
        """Return whether a log has a page, without taking it."""
        known = self.vm.memslots.get(slot.number)
        bitmap = None if known is None else known.dirty_bitmap
        if bitmap is not None and bitmap.test(page):
            return True
        rings = [vcpu.dirty_ring for vcpu in self.vm.vcpus.values() if vcpu.dirty_ring is not None]
        return any(
            entry.flags and (entry.slot, entry.offset) == (slot.number, page)
            for ring in rings
            for entry in ring.entries
        )

    # --- at rest -------------------------------------------------------------------------

    def at_rest(self) -> None:
        """Check the tables as they are when no fault and no call is under way."""
        if self.trace is not None:
            self.trace.nothing_is_stale()
        vm = self.vm
        assert vm.pgt.pgd is not None
        tables: dict[int, tuple[int, int]] = {}
        level = vm.geometry.start_level
        mapped: list[Leaf] = []
        for at in range(0, vm.geometry.pgd_size, PAGE):
            ipa = at // 8 * SIZE[level]
            mapped += leaves(vm.machine.memory, vm.pgt.pgd + at, level, ipa, tables)
        assert tables.keys() == vm.pgt.pages.counts.keys(), "a table page is lost, or was freed"
        if self.trace is not None:
            assert self.trace.tables == tables
        used = len(mapped) + len(tables) - vm.geometry.pgd_size // PAGE
        for table in tables:
            entries = PTRS_PER_TABLE - words_of(vm.machine.memory, table).count(0)
            assert vm.pgt.pages.counts[table] == 1 + entries
            used -= entries
        assert not used, "an entry stays locked"
        for leaf in mapped:
            if leaf.ipa // PAGE != CODE_GFN:
                self._check_leaf(leaf)

    def _slot(self, leaf: Leaf) -> Slot:
        gfn, last = leaf.ipa // PAGE, (leaf.ipa + leaf.size) // PAGE - 1
        slot = self.memory.find(gfn)
        assert slot is not None, f"{leaf} is in no slot"
        assert slot.holds(last), f"{leaf} reaches out of {slot}"
        return slot

    def _check_leaf(self, leaf: Leaf) -> None:
        slot = self._slot(leaf)
        gfn = leaf.ipa // PAGE
        page = slot.page(gfn)
        hva = slot.area.hva(page)
        vma = self.host.vma_lookup(hva)
        assert vma is not None, f"{leaf} maps what the host does not have"
        entry, shift = self.host.tables.lookup(vma, hva)
        assert entry & PRESENT, f"{leaf} maps a page that is not there"
        inside = hva & (1 << shift) - 1
        assert inside + leaf.size <= 1 << shift, f"{leaf} is more than one page of the host"
        assert leaf.pa == entry_frame(entry) + inside, f"{leaf} maps another frame"
        if leaf.writable:
            assert not slot.readonly
            assert entry & HOST_WRITE
            assert vma.writable, f"{leaf} is writable, and {vma} is not"
            if slot.logging:
                known = self.memory.written[slot.number] | self.memory.maybe[slot.number]
                pages = range(gfn - slot.gfn, gfn - slot.gfn + leaf.size // PAGE)
                assert known.issuperset(pages), f"{leaf} is writable, and nobody wrote it"
        for each in range(page, page + leaf.size // PAGE):
            if leaf.size == PAGE or slot.area.is_touched(each):
                at = PA(leaf.pa + (each - page) * PAGE)
                held = self.vm.machine.memory.view(at, PAGE)
                assert bytes(held) == slot.area.read(each), f"{leaf} holds something else"
