"""The MMU of one PE: both stages together, with the TLB in front (Arm ARM D8.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA, PA, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, VA
from emu.arch.esr.fsc import FaultType
from emu.mmu import stage1, stage2
from emu.mmu.fault import Fault
from emu.mmu.permissions import READ
from emu.mmu.regime import ControlRegisters, TranslationRegime, decode_regime
from emu.mmu.stage1 import FLAT, Stage1Mapping
from emu.mmu.stage2 import IDENTITY, Stage2Mapping
from emu.mmu.tlb import GLOBAL, Tlb, TlbEntry
from emu.mmu.tlbi import invalidate

if TYPE_CHECKING:
    from emu.arch.a64.tlbi import TLBI
    from emu.arch.features import CpuFeatures
    from emu.memory import PhysicalMemory


class Mmu:
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
    """

    def __init__(self, memory: PhysicalMemory, features: CpuFeatures) -> None:
        self.memory = memory
        self.features = features
        self.tlb = Tlb()
        self.hits = 0
        self.misses = 0
        self.load(ControlRegisters(0, 0, 0, 0, 0, 0, 0))

    def load(self, registers: ControlRegisters) -> None:
        """Take over new control register values."""
        regime = decode_regime(registers, self.features)
        self.regime: TranslationRegime = regime
        self._context = self.tlb.context(regime.vmid, regime.asid)
        self._globals = self.tlb.context(regime.vmid, GLOBAL)
        self._stage2_entries = self.tlb.stage2_entries(regime.vmid)
        self.pages = self._context.pages
        self.global_pages = self._globals.pages

    def lookup(self, va: VA, need: int, el: int) -> TlbEntry | None:
        """Return the TLB's entry for ``va`` if it allows the access."""
        page = va >> PAGE_SHIFT
        entry = self.pages.get(page) or self.global_pages.get(page)
        if entry is not None and (entry.el1 if el else entry.el0) & need == need:
            return entry
        return None

    def translate(self, va: VA, need: int, el: int) -> TlbEntry | Fault:
        """Translate ``va`` for an access.

        Parameters
        ----------
        va
            The address, to the byte, without a tag.
        need
            The permissions wanted, of :mod:`emu.mmu.permissions`.
        el
            The Exception level whose permissions count: 0 or 1.
        """
        entry = self.lookup(va, need, el)
        if entry is not None:
            self.hits += 1
            return entry
        self.misses += 1
        return self.walk(va, need, el)

    def walk(self, va: VA, need: int, el: int) -> TlbEntry | Fault:
        """Translate through the tables and remember the result.

        The order of the checks is the architecture's: all of stage 1 with its permissions
        comes before stage 2 is asked about the output address (Arm ARM D8.15.2).
        """
        s1 = self.stage1(va)
        if isinstance(s1, Fault):
            return s1
        if (s1.el1 if el else s1.el0) & need != need:
            return Fault(FaultType.PERMISSION, s1.level, stage1.STAGE)
        ipa = IPA(va + s1.offset & stage1.ADDRESS_BITS)
        s2 = self.stage2(ipa, need, el)
        if isinstance(s2, Fault):
            return s2
        page = PA((ipa + s2.offset) & ~PAGE_MASK)
        if not self.memory.contains(page, PAGE_SIZE):
            return Fault(FaultType.EXTERNAL, None, stage1.STAGE)
        entry = TlbEntry(
            page,
            s1.el0 & s2.el0,
            s1.el1 & s2.el1,
            s1.shift,
            s1.level,
            s2.level,
            s1.is_global,
        )
        (self._globals if s1.is_global else self._context).insert(va, entry)
        return entry

    def stage1(self, va: VA) -> Stage1Mapping | Fault:
        """Translate ``va`` to an IPA, without looking at permissions."""
        controls = self.regime.stage1
        if controls.enabled:
            return stage1.walk(controls, va, self._fetch)
        half = controls.upper if va & stage1.UPPER_HALF else controls.lower
        if (va & stage1.ADDRESS_BITS if half.tbi else va) >> self.features.pa_bits:
            return Fault(FaultType.ADDRESS_SIZE, 0, stage1.STAGE)
        return FLAT

    def stage2(self, ipa: IPA, need: int, el: int) -> Stage2Mapping | Fault:
        """Translate ``ipa`` for an access."""
        controls = self.regime.stage2
        if not controls.enabled:
            return IDENTITY
        known = self._stage2_entries.lookup(ipa)
        if known is not None and (known.el1 if el else known.el0) & need == need:
            return known
        found = stage2.walk(self.memory, controls, ipa)
        if isinstance(found, Fault):
            return found
        self._stage2_entries.insert(ipa, found)
        if (found.el1 if el else found.el0) & need != need:
            return Fault(FaultType.PERMISSION, found.level, stage2.STAGE, ipa)
        return found

    def _fetch(self, ipa: IPA, level: int) -> int | Fault:
        """Read a stage-1 descriptor, which stage 2 may refuse."""
        s2 = self.stage2(ipa, READ, el=1)
        if isinstance(s2, Fault):
            return s2._replace(s1ptw=True)
        if s2.is_device and self.regime.stage2.ptw:
            return Fault(FaultType.PERMISSION, s2.level, stage2.STAGE, ipa, s1ptw=True)
        word = self.memory.fetch_u64(PA(ipa + s2.offset))
        if word is None:
            return Fault(FaultType.EXTERNAL_ON_WALK, level, stage1.STAGE)
        return word

    def invalidate(self, operation: TLBI, argument: int, vmid: int) -> int:
        """Carry out a TLBI for ``vmid``; return how many entries went."""
        return invalidate(self.tlb, operation, argument, vmid)
