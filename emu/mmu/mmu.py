"""The MMU of one PE: both stages together, with the TLB in front (Arm ARM D8.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from emu.arch.a64.operations import Stage
from emu.arch.address import IPA, PA, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, VA
from emu.arch.descriptors import swapped
from emu.arch.esr.fsc import FaultType
from emu.mmu import stage1, stage2
from emu.mmu.attributes import NORMAL_WRITE_BACK, combined_is_device, is_device_attribute
from emu.mmu.fault import Fault
from emu.mmu.permissions import ALL, EL0, EL1, READ, WRITE, combined
from emu.mmu.regime import ControlRegisters, TranslationRegime, decode_regime
from emu.mmu.stage2 import IDENTITY, Stage2Mapping
from emu.mmu.tlb import GLOBAL, Survivor, Tlb, TlbEntry
from emu.mmu.tlbi import invalidate, named_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.a64.tlbi import TLBI
    from emu.arch.features import CpuFeatures
    from emu.memory import TableMemory
    from emu.mmu.stage1 import Stage1Mapping

_STAGE1_ONLY: Final = Stage.S1


class Mmu(stage1.Tables):
    """Translates VAs for one PE.

    Attributes
    ----------
    tlb
        The architectural TLB.
    pages, global_pages
        Its entries for the current VMID and ASID, and the global ones, by VA >> 12.
    regime
        The controls in force; change them with :meth:`load`.
    hits, misses
        Translations answered by the TLB and by a walk.
    removed_only_named
        Whether the last TLBI named one page by VA, and removed that and no other.
    on_fill
        Called with every entry that a walk adds; None while nobody listens.
    on_change
        Called when entries have changed by themselves; likewise.
    on_table
        Called with where stage 2 puts a stage-1 descriptor that a walk accesses, when it is
        asked for that; likewise.
    """

    NOT_STATE: ClassVar = frozenset({"on_change", "on_fill", "on_table"})
    NOT_COMPARED: ClassVar = frozenset({"hits", "misses"})

    def __init__(self, memory: TableMemory, features: CpuFeatures) -> None:
        self.memory = memory
        self.features = features
        self.tlb = Tlb()
        self.hits = 0
        self.misses = 0
        self.removed_only_named = False
        self.on_fill: Callable[[VA, TlbEntry], None] | None = None
        self.on_change: Callable[[], None] | None = None
        self.on_table: Callable[[PA], None] | None = None
        self.load(ControlRegisters(0, 0, 0, 0, 0, 0, 0))

    def load(self, registers: ControlRegisters) -> None:
        """Take over new control register values."""
        self.use(decode_regime(registers, self.features))

    def use(self, regime: TranslationRegime) -> None:
        """Translate by these controls from now on."""
        self.regime = regime
        # A copy of what a walk has found; no TLBI leaves anything in it.
        self._kept: dict[tuple[VA, int], Stage1Mapping] = {}
        # Copies of stage-2 entries that translate tables: they go when those may.
        self._table_offsets: dict[int, int] = {}
        self._fwb = regime.stage2.fwb
        self._flat = stage1.flat(regime.stage1.flat_attribute)
        self._context = self.tlb.context(regime.vmid, regime.asid)
        self._globals = self.tlb.context(regime.vmid, GLOBAL)
        self._stage2_entries = self.tlb.stage2_entries(regime.vmid)
        self.pages = self._context.pages
        self.global_pages = self._globals.pages

    def lookup(self, va: VA, need: int, privilege: int) -> TlbEntry | None:
        """Return the TLB's entry for ``va`` if it allows the access."""
        page = va >> PAGE_SHIFT
        entry = self.pages.get(page) or self.global_pages.get(page)
        if entry is None or entry.defect is not None:
            return None
        return entry if entry.allowed[privilege] & need == need else None

    def holds(self, va: VA) -> bool:
        """Return whether the TLB has an entry for ``va``, whatever it allows."""
        page = va >> PAGE_SHIFT
        return page in self.pages or page in self.global_pages

    def probe(self, va: VA, need: int, privilege: int) -> PA | Fault:
        """Translate ``va`` without an access: nothing is remembered, no descriptor changes.

        For cache maintenance and for questions about an access that has been refused.
        """
        if self.tlb.has_defects:
            defect = self._defect(va)
            if defect is not None:
                return defect
        s1 = self.stage1(va, privilege)
        if isinstance(s1, Fault):
            return s1
        if s1.allowed[privilege] & need != need:
            return Fault(FaultType.PERMISSION, s1.level, stage1.STAGE)
        ipa = IPA((va & stage1.ADDRESS_BITS) + s1.offset)
        s2 = self._leaf(ipa)
        if isinstance(s2, Fault):
            return s2
        if s2.allowed[privilege] & need != need:
            return Fault(FaultType.PERMISSION, s2.level, stage2.STAGE, ipa)
        pa = PA(ipa + s2.offset)
        if not self.memory.contains(pa):
            return Fault(FaultType.EXTERNAL, None, stage1.STAGE)
        return pa

    def translate(self, va: VA, need: int, privilege: int) -> TlbEntry | Fault:
        """Translate ``va`` for an access.

        Parameters
        ----------
        va
            The address, to the byte, without a tag.
        need
            The permissions wanted, of :mod:`emu.mmu.permissions`.
        privilege
            Whose permissions count: EL0, EL1 or EL1_PAN of the same module.
        """
        entry = self.lookup(va, need, privilege)
        if entry is not None:
            self.hits += 1
            return entry
        self.misses += 1
        return self.walk(va, need, privilege)

    def walk(
        self, va: VA, need: int, privilege: int, is_unaligned: Callable[[], bool] | None = None
    ) -> TlbEntry | Fault:
        """Translate through the tables and remember the result.

        Parameters
        ----------
        va, need, privilege
            As for :meth:`translate`.
        is_unaligned
            For a data access: says whether it is refused by Device memory.

        The order of the checks is the architecture's: all of stage 1 with its permissions and
        its descriptor update comes before stage 2 is asked about the output address (Arm ARM
        D8.15.2).
        """
        if self.tlb.has_defects:
            defect = self._defect(va)
            if defect is not None:
                return defect
        write = bool(need & WRITE)
        kept = self._kept.get((va, privilege)) if self._kept else None
        s1 = kept or self.stage1(va, privilege)
        if isinstance(s1, Fault):
            return s1
        if is_unaligned is not None and is_device_attribute(s1.attribute) and is_unaligned():
            return Fault(FaultType.ALIGNMENT, None, stage1.STAGE)
        if s1.allowed[privilege] & need != need:
            return Fault(FaultType.PERMISSION, s1.level, stage1.STAGE)
        refused = self.mark_accessed(s1, write=write) if self.regime.updates else None
        if refused is not None:
            return refused
        ipa: IPA = (va & stage1.ADDRESS_BITS) + s1.offset  # type: ignore[assignment]  # NewType calls cost time
        s2 = self._stage2_entries.lookup(ipa) if self.regime.stage2.enabled else None
        is_device = s2 is not None and combined_is_device(s1.attribute, s2.memattr, fwb=self._fwb)
        if (
            s2 is None
            or s2.allowed[privilege] & need != need
            or (write and s2.clean)
            or (is_device and is_unaligned is not None)
        ):
            walked = self.stage2(ipa, need, privilege, s1.attribute, is_unaligned)
            if isinstance(walked, Fault):
                self._kept = {(va, privilege): s1}  # the access will be tried again
                return walked
            s2 = walked
            is_device = combined_is_device(s1.attribute, s2.memattr, fwb=self._fwb)
        page: PA = (ipa + s2.offset) & ~PAGE_MASK  # type: ignore[assignment]  # as above
        if not self.memory.contains(page, PAGE_SIZE):
            return Fault(FaultType.EXTERNAL, None, stage1.STAGE)
        keep = ~WRITE if (s1.clean or s2.clean) and not write else ALL
        entry = TlbEntry(
            page,
            combined(s1.allowed, s2.allowed, keep),
            s1.shift,
            s1.level,
            s2.level,
            s1.is_global,
            is_device,
            bool(s1.descriptor & stage1.CONTIGUOUS),
        )
        (self._globals if s1.is_global else self._context).insert(va, entry)
        if self.on_fill is not None:
            self.on_fill(va, entry)
        return entry

    def stage1(self, va: VA, privilege: int) -> Stage1Mapping | Fault:
        """Translate ``va`` to an IPA, without looking at permissions or changing descriptors."""
        controls = self.regime.stage1
        half = stage1.half_of(controls, va)
        if controls.enabled:
            if privilege == EL0 and half.e0pd:
                return Fault(FaultType.TRANSLATION, 0, stage1.STAGE)
            return stage1.walk(controls, va, self)
        if (va & stage1.ADDRESS_BITS if half.tbi else va) >> self.features.pa_bits:
            return Fault(FaultType.ADDRESS_SIZE, 0, stage1.STAGE)
        return self._flat

    def stage2(
        self,
        ipa: IPA,
        need: int,
        privilege: int,
        attribute: int = NORMAL_WRITE_BACK,
        is_unaligned: Callable[[], bool] | None = None,
    ) -> Stage2Mapping | Fault:
        """Translate ``ipa`` for an access, and update the descriptor where hardware does.

        Parameters
        ----------
        ipa
            The address.
        need, privilege
            As for :meth:`translate`.
        attribute
            What stage 1 says of the memory.
        is_unaligned
            As for :meth:`walk`. This comes before permissions, and before a descriptor is
            changed.
        """
        controls = self.regime.stage2
        if not controls.enabled:
            return IDENTITY
        write = bool(need & WRITE)
        known = self._stage2_entries.lookup(ipa)
        if known is None or known.allowed[privilege] & need != need or (write and known.clean):
            found = stage2.walk(self.memory, controls, ipa)
            if isinstance(found, Fault):
                return found
        else:
            found = known
        if (
            is_unaligned is not None
            and combined_is_device(attribute, found.memattr, fwb=controls.fwb)
            and is_unaligned()
        ):
            return Fault(FaultType.ALIGNMENT, None, stage2.STAGE, ipa)
        if found is known:
            return found
        if found.allowed[privilege] & need != need:
            return Fault(FaultType.PERMISSION, found.level, stage2.STAGE, ipa)
        if self.regime.updates:
            descriptor = stage2.updated(found, write=write)
            if descriptor != found.descriptor:
                stored = swapped(descriptor) if controls.big_endian else descriptor
                self.memory.write_u64(found.address, stored)
                found = found._replace(descriptor=descriptor, clean=found.clean and not write)
        self._stage2_entries.insert(ipa, found)
        return found

    def _leaf(self, ipa: IPA) -> Stage2Mapping | Fault:
        """Translate ``ipa`` without looking at permissions or changing descriptors."""
        controls = self.regime.stage2
        return stage2.walk(self.memory, controls, ipa) if controls.enabled else IDENTITY

    def fetch(self, ipa: IPA, level: int) -> int | Fault:
        """Read a stage-1 descriptor, which stage 2 may refuse."""
        offset = self._table_offsets.get(ipa >> PAGE_SHIFT)
        if offset is None:
            s2 = self._stage2_for_walk(ipa, READ)
            if isinstance(s2, Fault):
                return s2
            offset = self._table_offsets[ipa >> PAGE_SHIFT] = s2.offset
        word = self.memory.fetch_u64(ipa + offset)  # type: ignore[arg-type]  # as in stage2.walk
        if word is None:
            return Fault(self.memory.walk_error(PA(ipa + offset)), level, stage1.STAGE)
        return word

    def mark_accessed(self, mapping: Stage1Mapping, *, write: bool = False) -> Fault | None:
        """Update a stage-1 descriptor for an access, which stage 2 may refuse."""
        descriptor = stage1.updated(mapping, write=write)
        if descriptor == mapping.descriptor:
            return None
        s2 = self._stage2_for_walk(mapping.address, WRITE)
        if isinstance(s2, Fault):
            return s2._replace(update=True)
        stored = swapped(descriptor) if self.regime.stage1.big_endian else descriptor
        self.memory.write_u64(PA(mapping.address + s2.offset), stored)
        return None

    def _stage2_for_walk(self, ipa: IPA, need: int) -> Stage2Mapping | Fault:
        """Translate the address of a stage-1 descriptor; a fault is marked as the walk's."""
        s2 = self.stage2(ipa, need, EL1)
        if isinstance(s2, Fault):
            return s2._replace(s1ptw=True)
        controls = self.regime.stage2
        if controls.ptw and combined_is_device(NORMAL_WRITE_BACK, s2.memattr, fwb=controls.fwb):
            return Fault(FaultType.PERMISSION, s2.level, stage2.STAGE, ipa, s1ptw=True)
        if self.on_table is not None:
            self.on_table(PA(ipa + s2.offset))
        return s2

    def _defect(self, va: VA) -> Fault | None:
        """Return what a defective entry answers for ``va``."""
        page = va >> PAGE_SHIFT
        entry = self.pages.get(page) or self.global_pages.get(page)
        return None if entry is None else entry.defect

    def entries_changed(self) -> None:
        """Note that TLB entries have changed by themselves: copies of them go."""
        self.forget_walk()
        self._table_offsets = {}
        if self.on_change is not None:
            self.on_change()

    def forget_walk(self) -> None:
        """Forget the stage-1 result of the walk that stage 2 refused last."""
        self._kept = {}

    def invalidate(self, operation: TLBI, argument: int, vmid: int) -> int:
        """Carry out a TLBI for ``vmid``; return how many entries went."""
        self.forget_walk()
        if operation.stages is not _STAGE1_ONLY:
            self._table_offsets = {}
        page = named_page(operation, argument)
        held = page is not None and (page in self.pages or page in self.global_pages)
        if self.tlb.survivors:
            hits = self._invalidate_with_survivors(operation, argument, vmid)
        else:
            hits = invalidate(self.tlb, operation, argument, vmid)
        self.removed_only_named = (
            hits == 1 and held and page not in self.pages and page not in self.global_pages
        )
        return hits

    def _invalidate_with_survivors(self, operation: TLBI, argument: int, vmid: int) -> int:
        """Carry out a TLBI that leaves the entries that survive it; return how many went."""
        tlb = self.tlb
        before = [(s, tlb.find(s.vmid, s.asid, s.address)) for s in tlb.survivors]
        hits = invalidate(tlb, operation, argument, vmid)
        left: list[Survivor] = []
        for survivor, entry in before:
            tags = survivor.vmid, survivor.asid, survivor.address
            if entry is not None and tlb.find(*tags) is None:
                tlb.put(*tags, entry)
                hits -= 1
                survivor = survivor._replace(times=survivor.times - 1)  # noqa: PLW2901
            if survivor.times:
                left.append(survivor)
        tlb.survivors = left
        return hits
