"""What a hypervisor does to its stage-2 tables, store by store, and what each store must obey.

The observer of :mod:`hyp.descriptors` says where a store is about to happen; what it did is
read from memory before the next thing happens. TLBI is seen at the PEs. Which entry maps
what is known from the tables as they are linked and unlinked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import PA
from emu.mmu.tlbi import span
from hyp.descriptors import Operation
from hyp.events import CacheMaintenanceOp, KvmExit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emu.memory import PhysicalMemory
    from emu.mmu.tlbi import Invalidation
    from hyp.events import Event
    from hyp.vm import VM

VALID: Final = 1
TABLE: Final = 3
READ: Final = 1 << 6
WRITE: Final = 1 << 7
ACCESSED: Final = 1 << 10
NEVER: Final = 3 << 53
SOFTWARE: Final = 0xF << 55
ADDRESS: Final = 0xFFFF_FFFF_F000
IN_PLACE: Final = READ | WRITE | ACCESSED | NEVER | SOFTWARE
"""What a valid entry may change without a break (Arm ARM D8.17.1)."""
SIZE: Final = (1 << 39, 1 << 30, 1 << 21, 1 << 12)
"""What an entry maps, by level."""


class Leaf(NamedTuple):
    """A valid entry that maps memory."""

    ipa: int
    level: int
    pte: int

    @property
    def size(self) -> int:
        """How much it maps."""
        return SIZE[self.level]

    @property
    def pa(self) -> int:
        """What it maps to."""
        return self.pte & ADDRESS

    @property
    def writable(self) -> bool:
        """Whether it allows stores."""
        return bool(self.pte & WRITE)

    @property
    def executable(self) -> bool:
        """Whether it allows fetches."""
        return not self.pte & NEVER


def is_table(pte: int, level: int) -> bool:
    """Return whether an entry points at a table."""
    return level < 3 and pte & TABLE == TABLE


def words_of(memory: PhysicalMemory, table: int) -> list[int]:
    """Return the entries of a table."""
    return memoryview(memory.read(PA(table), 4096)).cast("Q").tolist()


def leaves(
    memory: PhysicalMemory, table: int, level: int, ipa: int, found: dict[int, tuple[int, int]]
) -> Iterator[Leaf]:
    """Yield the leaves at and below a table; note all tables in ``found``."""
    found[table] = (level, ipa)
    words, size = words_of(memory, table), SIZE[level]
    for index in [index for index, pte in enumerate(words) if pte & VALID]:
        entry = Leaf(ipa + index * size, level, words[index])
        if is_table(entry.pte, level):
            yield from leaves(memory, entry.pa, level + 1, entry.ipa, found)
        else:
            yield entry


@dataclass
class Stale:
    """A translation that a TLB may still have.

    Attributes
    ----------
    stage2, combined
        Whether it may be there as what stage 2 says, and together with stage 1.
    """

    ipa: int
    size: int
    level: int | None
    stage2: bool = True
    combined: bool = True


class Trace:
    """What happens to the tables of one VM.

    Parameters
    ----------
    vm
        The VM.
    pe_count
        How many PEs must hear of a TLBI.
    visible
        Called with each leaf that the guest can use from now on, and the leaf of the same
        memory that it takes the place of within this fault, if there is one.
    ahead
        Called with address and level of an entry that is about to be stored to.
    """

    def __init__(
        self,
        vm: VM,
        pe_count: int,
        visible: Callable[[Leaf, Leaf | None], None],
        ahead: Callable[[Leaf], None],
    ) -> None:
        self.vm = vm
        self.memory = vm.machine.memory
        self.pe_count = pe_count
        self.visible, self.ahead = visible, ahead
        self.start_level = vm.geometry.start_level
        assert vm.pgt.pgd is not None
        self.tables: dict[int, tuple[int, int]] = {}
        for at in range(0, vm.geometry.pgd_size, 4096):
            ipa = at // 8 * SIZE[self.start_level]
            self.tables[vm.pgt.pgd + at] = (self.start_level, ipa)
        self.stale: list[Stale] = []
        self.replaced: list[Leaf] = []
        self.maintained: list[tuple[str, int, int]] = []
        self.stores = 0
        self._pending: tuple[int, int] | None = None
        vm.pgt.descriptors.observe(self._before)
        vm.pgt.cmo.events.subscribe(self._on_maintenance)
        vm.events.subscribe(self._on_event)

    # --- what is seen --------------------------------------------------------------------

    def _before(self, operation: Operation, ptep: int) -> None:
        self.settle()
        if operation is Operation.READ:
            return
        old = self.memory.read_u64(PA(ptep))
        self._pending = (ptep, old)
        entry = self._entry(ptep, old)
        if entry is not None:
            self.ahead(entry)

    def settle(self) -> None:
        """Look at what the last store did."""
        if self._pending is None:
            return
        ptep, old = self._pending
        self._pending = None
        new = self.memory.read_u64(PA(ptep))
        entry = self._entry(ptep, new)
        if entry is not None and new != old:
            self.stores += 1
            self._changed(entry, old)

    def _entry(self, ptep: int, value: int) -> Leaf | None:
        """Return an entry with what it maps; ``None`` in a table that hangs nowhere."""
        table = self.tables.get(ptep & ~0xFFF)
        if table is None:
            return None
        level, ipa = table
        return Leaf(ipa + (ptep & 0xFFF) // 8 * SIZE[level], level, value)

    def _on_maintenance(self, event: Event) -> None:
        self.settle()
        assert isinstance(event, CacheMaintenanceOp)
        start = 0 if event.pa is None else event.pa
        size = 1 << 48 if event.pa is None else event.size
        self.maintained.append((event.operation[:2], start, size))

    def _on_event(self, event: Event) -> None:
        if isinstance(event, KvmExit):
            self.begin()

    def begin(self) -> None:
        """Forget what was done for earlier faults."""
        self.settle()
        self.replaced.clear()
        self.maintained.clear()

    # --- what must hold ------------------------------------------------------------------

    def _changed(self, new: Leaf, old_pte: int) -> None:
        old = new._replace(pte=old_pte)
        was, now = bool(old.pte & VALID), bool(new.pte & VALID)
        if was and now:
            changed = (old.pte ^ new.pte) & ~IN_PLACE
            assert not changed, f"{old} became {new} without a break"
            if (old.pte & ~new.pte & WRITE) or (new.pte & ~old.pte & NEVER):
                self.stale.append(Stale(new.ipa, new.size, new.level))
            self.visible(new, old)
        elif was:
            self._break(old)
        elif now:
            self._make(new)

    def _break(self, old: Leaf) -> None:
        if not is_table(old.pte, old.level):
            self.replaced.append(old)
            self.stale.append(Stale(old.ipa, old.size, old.level))
            return
        found: dict[int, tuple[int, int]] = {}
        below = list(leaves(self.memory, old.pa, old.level + 1, old.ipa, found))
        self.replaced += below
        self.stale += [Stale(leaf.ipa, leaf.size, leaf.level) for leaf in below]
        self.stale.append(Stale(old.ipa, old.size, None))
        for table in found:
            del self.tables[table]

    def _make(self, new: Leaf) -> None:
        for stale in self.stale:
            apart = stale.ipa + stale.size <= new.ipa or new.ipa + new.size <= stale.ipa
            assert apart, f"{new} is made while a TLB may have {stale}"
        made = [new]
        if is_table(new.pte, new.level):
            made = list(leaves(self.memory, new.pa, new.level + 1, new.ipa, self.tables))
        for leaf in made:
            self.visible(leaf, self._replaced_by(leaf))

    def _replaced_by(self, new: Leaf) -> Leaf | None:
        for old in self.replaced:
            inside = old.ipa <= new.ipa and new.ipa + new.size <= old.ipa + old.size
            if inside and new.pa - old.pa == new.ipa - old.ipa:
                return old
        return None

    def replaces_a_part(self, new: Leaf) -> bool:
        """Return whether a smaller leaf was there in the place of this one."""
        return any(
            old.size < new.size and new.ipa <= old.ipa < new.ipa + new.size for old in self.replaced
        )

    def on_tlbi(self, operation: Invalidation) -> None:
        """Note what a TLBI has removed everywhere."""
        self.settle()
        if operation.vmid != self.vm.pgt.tlb.vttbr.VMID or operation.reached != self.pe_count:
            return
        name = operation.operation.name
        if name.startswith("VMALLS12"):
            self.stale.clear()
        elif name.startswith("VMALLE1"):
            for stale in self.stale:
                stale.combined = stale.combined and stale.stage2
        elif "IPAS2" in name:
            self._stage2_gone(operation)
        self.stale = [stale for stale in self.stale if stale.stage2 or stale.combined]

    def _stage2_gone(self, operation: Invalidation) -> None:
        named = span(operation.operation, operation.argument)
        assert named is not None
        last = named.first + named.size
        for stale in self.stale:
            if stale.ipa < last and named.first < stale.ipa + stale.size:
                stale.stage2 &= stale.level is not None and stale.level not in named.levels

    def covered(self, operation: str, start: int, size: int) -> bool:
        """Return whether caches were maintained for a range since the fault."""
        return any(
            name == operation and first <= start and start + size <= first + length
            for name, first, length in self.maintained
        )

    def nothing_is_stale(self) -> None:
        """Check that no TLB can have what the tables do not say."""
        self.settle()
        assert not self.stale, f"a TLB may still have {self.stale}"
