"""Explains a translation step by step: the MMU's own walk, watched while it changes nothing.

A copy of the MMU with the same controls translates the address. It has an empty TLB and looks
at memory through a window that records reads and keeps writes to itself. So there is no
second statement of the rules here, and whatever the walk does is what is shown.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from emu.arch.address import IPA, PA, VA
from emu.arch.descriptors import (
    Descriptor,
    Stage1Leaf,
    Stage1Table,
    Stage2Leaf,
    Stage2Table,
    swapped,
)
from emu.arch.esr.fsc import FaultType
from emu.arch.granule import LAST_LEVEL
from emu.memory import PhysicalMemory, TableMemory
from emu.mmu import stage1
from emu.mmu.attributes import NORMAL_WRITE_BACK
from emu.mmu.fault import Fault
from emu.mmu.mmu import Mmu

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.features import CpuFeatures
    from emu.arch.fields import Layout
    from emu.arch.granule import Granule, Step
    from emu.mmu.regime import TranslationRegime
    from emu.mmu.stage1 import Stage1Mapping
    from emu.mmu.stage2 import Stage2Mapping
    from emu.mmu.tlb import TlbEntry


class Kind(Enum):
    """What a descriptor is at its level."""

    INVALID = "invalid"
    RESERVED = "reserved"
    TABLE = "table"
    BLOCK = "block"
    PAGE = "page"
    ABSENT = "not in memory"


class Lookup(NamedTuple):
    """One descriptor that was fetched."""

    stage: int
    level: int
    address: int
    """Of the descriptor: an IPA in stage 1, a PA in stage 2."""
    word: int | None
    """As the walk takes it, byte order done; None where there is no memory."""
    kind: Kind
    output: int
    """What its address field gives: the next table, or the start of the block or page."""
    nested: tuple[Lookup, ...] = ()
    """For stage 1: the stage-2 lookups that translated the descriptor's address."""

    @property
    def fields(self) -> Layout | None:
        """The descriptor by its layout; None for what is no descriptor."""
        if self.word is None or self.kind in _NO_FIELDS:
            return None
        return _LAYOUTS[self.stage, self.kind is Kind.TABLE](self.word)


class Update(NamedTuple):
    """A descriptor that hardware would change for this access."""

    address: PA
    before: int
    after: int


class Walk(NamedTuple):
    """How one access is translated."""

    va: VA
    need: int
    """The permissions wanted, of :mod:`emu.mmu.permissions`."""
    privilege: int
    """Whose permissions count, of the same module."""
    regime: TranslationRegime
    stage1: tuple[Lookup, ...]
    """Empty while stage 1 is off, or when the address is refused before the first lookup."""
    ipa: IPA | None
    """What stage 1 made of the address; None when it refused."""
    stage2: tuple[Lookup, ...]
    updates: tuple[Update, ...]
    result: TlbEntry | Fault
    words: dict[PA, int]
    """Every descriptor that was read, as it is in memory."""
    cached: TlbEntry | None
    """What the TLB holds for the address, whatever it allows."""

    @property
    def pa(self) -> PA | None:
        """The address in memory; None for a fault."""
        if isinstance(self.result, Fault):
            return None
        return PA(self.result.page | self.va & (1 << 12) - 1)

    @property
    def is_stale(self) -> bool:
        """Whether the TLB still translates the address in another way than the tables say."""
        if self.cached is None:
            return False
        if isinstance(self.result, Fault):
            return self.cached.allowed[self.privilege] & self.need == self.need
        return self.cached.page != self.result.page


class DescriptorMemory(Protocol):
    """What a walk needs of memory. :class:`emu.memory.PhysicalMemory` is one."""

    def fetch_u64(self, pa: PA) -> int | None:
        """Read a descriptor; None where there is no memory."""

    def contains(self, pa: PA, size: int = 1) -> bool:
        """Whether all of ``size`` bytes are memory."""


_NO_FIELDS: Final = frozenset({Kind.INVALID, Kind.RESERVED, Kind.ABSENT})
_LAYOUTS: Final[dict[tuple[int, bool], type[Layout]]] = {
    (1, True): Stage1Table,
    (1, False): Stage1Leaf,
    (2, True): Stage2Table,
    (2, False): Stage2Leaf,
}
_VALID: Final = Descriptor.VALID.in_place
_TYPE: Final = Descriptor.TYPE.in_place


def explain(mmu: Mmu, va: VA, need: int, privilege: int) -> Walk:
    """Translate ``va`` as an access would, and tell every step.

    Nothing changes: no TLB entry, no descriptor, no count.

    Parameters
    ----------
    mmu
        Whose controls, memory and TLB are looked at.
    va
        The address, to the byte.
    need, privilege
        As for :meth:`emu.mmu.mmu.Mmu.translate`.
    """
    page = va >> 12
    cached = mmu.pages.get(page) or mmu.global_pages.get(page)
    return explain_tables(mmu.memory, mmu.features, mmu.regime, va, need, privilege, cached)


def explain_tables(
    memory: DescriptorMemory,
    features: CpuFeatures,
    regime: TranslationRegime,
    va: VA,
    need: int,
    privilege: int,
    cached: TlbEntry | None = None,
) -> Walk:
    """Do what :func:`explain` does for tables that belong to no running machine.

    Parameters
    ----------
    memory
        Holds the tables.
    features
        The CPU.
    regime
        Its controls, of :func:`emu.mmu.regime.decode_regime`.
    va, need, privilege
        As for :func:`explain`.
    cached
        What a TLB holds for the address.
    """
    window = _Window(memory)
    walker = _Watched(window, features, regime)
    result = walker.walk(va, need, privilege)
    return Walk(
        va,
        need,
        privilege,
        regime,
        tuple(walker.stage1_lookups),
        None if isinstance(result, Fault) and result.s1ptw else walker.ipa,
        tuple(walker.last_stage2),
        tuple(window.updates()),
        result,
        window.words,
        cached,
    )


class _Window(TableMemory):
    """Memory that remembers what was read, and keeps what is written to itself."""

    def __init__(self, memory: DescriptorMemory) -> None:
        self._memory = memory
        self._written: dict[PA, int] = {}
        self.reads: list[tuple[PA, int | None]] = []
        self.words: dict[PA, int] = {}

    def fetch_u64(self, pa: PA) -> int | None:
        word = self._written.get(pa)
        if word is None:
            word = self._memory.fetch_u64(pa)
            if word is not None:
                self.words[pa] = word
        self.reads.append((pa, word))
        return word

    def write_u64(self, pa: PA, value: int) -> None:
        self._written[pa] = value

    def contains(self, pa: PA, size: int = 1) -> bool:
        return self._memory.contains(pa, size)

    def walk_error(self, pa: PA) -> FaultType:
        if isinstance(self._memory, PhysicalMemory):
            return self._memory.walk_error(pa)
        return FaultType.EXTERNAL_ON_WALK

    def updates(self) -> list[Update]:
        return [
            Update(pa, self._memory.fetch_u64(pa) or 0, word) for pa, word in self._written.items()
        ]


class _Watched(Mmu):
    """An MMU with nothing in its TLB, whose lookups are written down."""

    def __init__(self, window: _Window, features: CpuFeatures, regime: TranslationRegime) -> None:
        super().__init__(window, features)
        self.use(regime)
        self._window = window
        self.stage1_lookups: list[Lookup] = []
        self.last_stage2: list[Lookup] = []
        self.ipa: IPA | None = None

    def stage2(
        self,
        ipa: IPA,
        need: int,
        privilege: int,
        attribute: int = NORMAL_WRITE_BACK,
        is_unaligned: Callable[[], bool] | None = None,
    ) -> Stage2Mapping | Fault:
        self.ipa = ipa
        self.tlb.stage2_entries(self.regime.vmid).clear()  # so that every walk is seen
        self._window.reads.clear()
        found = super().stage2(ipa, need, privilege, attribute, is_unaligned)
        controls = self.regime.stage2
        self.last_stage2 = [
            self._stage2_lookup(step, address, word)
            for step, (address, word) in zip(controls.steps, self._window.reads, strict=False)
        ]
        return found

    def _stage2_lookup(self, step: Step, address: PA, found: int | None) -> Lookup:
        controls = self.regime.stage2
        word = swapped(found) if found is not None and controls.big_endian else found
        return _lookup(2, step, address, word, controls.granule)

    def fetch(self, ipa: IPA, level: int) -> int | Fault:
        found = super().fetch(ipa, level)
        nested, self.last_stage2 = tuple(self.last_stage2), []
        self.ipa = None
        controls = self.regime.stage1
        half = stage1.half_of(controls, self._va)
        step = next(step for step in half.steps if step.level == level)
        word: int | None = None
        if not isinstance(found, Fault):
            word = swapped(found) if controls.big_endian else found
        self.stage1_lookups.append(
            _lookup(1, step, ipa, word, half.granule)._replace(nested=nested)
        )
        return found

    def stage1(self, va: VA, privilege: int) -> Stage1Mapping | Fault:
        self._va = va
        return super().stage1(va, privilege)


def _lookup(stage: int, step: Step, address: int, word: int | None, granule: Granule) -> Lookup:
    if word is None:
        return Lookup(stage, step.level, address, None, Kind.ABSENT, 0)
    if not word & _VALID:
        kind = Kind.INVALID
    elif word & _TYPE:
        kind = Kind.PAGE if step.level == LAST_LEVEL else Kind.TABLE
    else:
        kind = Kind.BLOCK if step.has_blocks else Kind.RESERVED
    return Lookup(stage, step.level, address, word, kind, granule.address(word))
