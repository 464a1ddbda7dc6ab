"""Faults of TLB entries: wrong output, wrong tags, lost, stale, or two at once.

The TLB of the PE on which the vCPU is loaded; entries are found by the VMID and ASID in force.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import PA, PAGE_SHIFT, PAGE_SIZE
from emu.arch.esr.fsc import FaultType
from emu.mmu.fault import Fault as Refusal
from emu.mmu.regime import STAGE1_OFF
from emu.mmu.tlb import GLOBAL, Survivor, TlbEntry
from lab.errors import UserError
from lab.faults.fault import Fault, Injection, Status, invalid
from lab.faults.models import change
from lab.faults.models.addresses import address_parameter, regime_of
from lab.faults.models.wrong import refuse
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from emu.mmu.stage2 import Stage2Mapping
    from emu.mmu.tlb import Tlb
    from lab.faults.target import Target

COMBINED, STAGE2 = "combined", "stage2"
_NAMES: Final = {COMBINED: "VA", STAGE2: "IPA"}
_TOP_BIT: Final = 47
_NOTHING: Final = (0, 0, 0)
_STAGE1: Final = 1


class Entry(NamedTuple):
    """One entry, by its tags and an address that it translates."""

    pe: ProcessingElement
    vmid: int
    asid: int | None
    address: int

    @property
    def tlb(self) -> Tlb:
        """Where it is."""
        return self.pe.mmu.tlb

    @property
    def name(self) -> str:
        """What it is called in reports."""
        kind = "IPA" if self.asid is None else "VA"
        return f"the TLB entry of {kind} {self.address:#x}, VMID {self.vmid}{self._shown_asid}"

    @property
    def _shown_asid(self) -> str:
        if self.asid is None:
            return ""
        return {GLOBAL: ", global", STAGE1_OFF: ", stage 1 off"}.get(
            self.asid, f", ASID {self.asid}"
        )

    @property
    def value(self) -> TlbEntry | Stage2Mapping:
        """What it says."""
        found = self.tlb.find(self.vmid, self.asid, self.address)
        assert found is not None, "it was there when it was looked for"
        return found

    def put(self, value: TlbEntry | Stage2Mapping) -> None:
        """Have it say something else."""
        self.tlb.put(self.vmid, self.asid, self.address, value)
        self.changed()

    def changed(self) -> None:
        """Have what was copied from it forgotten."""
        self.pe.mmu.entries_changed()
        self.pe.engine.flush_tlb()


class _Output(NamedTuple):
    """The output address of an entry."""

    entry: Entry

    @property
    def name(self) -> str:
        return f"output of {self.entry.name}"

    def read(self) -> int:
        value = self.entry.value
        if isinstance(value, TlbEntry):
            return value.page
        return (self.entry.address >> value.shift << value.shift) + value.offset

    def write(self, output: int) -> None:
        value = self.entry.value
        if not isinstance(value, TlbEntry):
            start = self.entry.address >> value.shift << value.shift
            self.entry.put(value._replace(offset=output - start))
            return
        page = PA(output & -PAGE_SIZE)
        if self.entry.pe.memory.contains(page, PAGE_SIZE):
            self.entry.put(value._replace(page=page))
        else:
            nothing_there = Refusal(FaultType.EXTERNAL, None, _STAGE1)
            self.entry.put(value._replace(page=page, allowed=_NOTHING, defect=nothing_there))


@dataclass(frozen=True, kw_only=True)
class TlbFault(Fault):
    """A fault of a TLB entry."""

    address: int = address_parameter("what the entry translates: a VA, or an IPA for stage2")
    kind: str = parameter(
        "combined: an entry from VA to PA; stage2: one from IPA to PA, used for walks",
        default=COMBINED,
        choices=(COMBINED, STAGE2),
    )

    def _find(self, target: Target) -> Entry | Injection:
        vcpu = target.vcpu
        if vcpu.loaded_on is None:
            return invalid(f"no PE has vCPU {vcpu.index} loaded, so no TLB is its own")
        regime, tlb = regime_of(vcpu), target.pe.mmu.tlb
        asids = (None,) if self.kind == STAGE2 else (regime.asid, GLOBAL)
        for asid in asids:
            if tlb.find(regime.vmid, asid, self.address) is not None:
                return Entry(target.pe, regime.vmid, asid, self.address)
        return invalid(f"the TLB has no entry for {_NAMES[self.kind]} {self.address:#x}")


@dataclass(frozen=True, kw_only=True)
class TlbOutputFlip(TlbFault):
    """Bits of the output address of a TLB entry flip."""

    name = "tlb-output-flip"
    bit: int = parameter("the lowest that changes", minimum=PAGE_SHIFT, maximum=_TOP_BIT)
    width: int = change.width_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bit + self.width > _TOP_BIT + 1:
            refuse(self, "bit", f"{PAGE_SHIFT} to {_TOP_BIT + 1 - self.width}")

    def inject(self, target: Target) -> Injection:
        """Flip them."""
        entry = self._find(target)
        if isinstance(entry, Injection):
            return entry
        return change.flipped(_Output(entry), self.bit, self.width)


@dataclass(frozen=True, kw_only=True)
class TlbOutputSet(TlbFault):
    """A TLB entry leads to another page."""

    name = "tlb-output-set"
    output: int = parameter(
        "the PA that it leads to, a multiple of 0x1000", minimum=0, maximum=(1 << 48) - 1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output % PAGE_SIZE:
            refuse(self, "output", "a multiple of 0x1000")

    def inject(self, target: Target) -> Injection:
        """Redirect it."""
        entry = self._find(target)
        return entry if isinstance(entry, Injection) else change.set_to(_Output(entry), self.output)


@dataclass(frozen=True, kw_only=True)
class TlbTag(TlbFault):
    """A TLB entry gets another VMID or ASID: its owner loses it, and somebody else has it."""

    name = "tlb-tag"
    vmid: int | None = parameter("the VMID it gets", default=None, minimum=0, maximum=0xFFFF)
    asid: int | None = parameter("the ASID it gets", default=None, minimum=0, maximum=0xFFFF)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vmid is None and self.asid is None:
            raise UserError("TlbTag: vmid or asid is to be given; neither is")
        if self.asid is not None and self.kind == STAGE2:
            refuse(self, "asid", "left out for entries of stage 2, which have none")

    def inject(self, target: Target) -> Injection:
        """Move it."""
        entry = self._find(target)
        if isinstance(entry, Injection):
            return entry
        moved = entry._replace(
            vmid=entry.vmid if self.vmid is None else self.vmid,
            asid=entry.asid if self.asid is None else self.asid,
        )
        if moved == entry:
            return invalid(f"{entry.name} has these tags already")
        value = entry.value
        entry.tlb.drop(entry.vmid, entry.asid, entry.address)
        moved.put(value)
        return Injection(Status.INJECTED, f"{entry.name} is now {moved.name}")


@dataclass(frozen=True, kw_only=True)
class TlbDrop(TlbFault):
    """A TLB entry is lost. Correct software does not notice."""

    name = "tlb-drop"

    def inject(self, target: Target) -> Injection:
        """Forget it."""
        entry = self._find(target)
        if isinstance(entry, Injection):
            return entry
        entry.tlb.drop(entry.vmid, entry.asid, entry.address)
        entry.changed()
        return Injection(Status.INJECTED, f"{entry.name} is gone")


@dataclass(frozen=True, kw_only=True)
class TlbStale(TlbFault):
    """A TLB entry survives invalidation."""

    name = "tlb-stale"
    times: int = parameter(
        "how many TLBI that would remove it are survived", default=1, minimum=1, maximum=1 << 30
    )

    def inject(self, target: Target) -> Injection:
        """Have it stay."""
        entry = self._find(target)
        if isinstance(entry, Injection):
            return entry
        tlb, survivor = entry.tlb, Survivor(entry.vmid, entry.asid, entry.address, self.times)
        tlb.survivors.append(survivor)
        tags = survivor[:3]

        def end() -> None:
            tlb.survivors = [other for other in tlb.survivors if other[:3] != tags]

        detail = f"{entry.name} survives the next {self.times} TLBI that would remove it"
        return Injection(Status.INJECTED, detail, end=end)


@dataclass(frozen=True, kw_only=True)
class TlbConflict(TlbFault):
    """Two TLB entries match an address: its accesses end in a TLB conflict abort (FSC 0x30).

    Until a TLBI removes them.
    """

    name = "tlb-conflict"
    stage: int = parameter(
        "the stage that reports it: 1 to EL1, 2 to EL2; which is IMPLEMENTATION DEFINED",
        default=_STAGE1,
        choices=(1, 2),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == STAGE2:
            refuse(self, "kind", COMBINED)

    def inject(self, target: Target) -> Injection:
        """Have them be there."""
        entry = self._find(target)
        if isinstance(entry, Injection):
            return entry
        value = entry.value
        assert isinstance(value, TlbEntry), "only combined entries are looked for"
        conflict = Refusal(FaultType.TLB_CONFLICT, None, self.stage)
        entry.put(value._replace(allowed=_NOTHING, defect=conflict))
        return Injection(Status.INJECTED, f"{entry.name} is there twice")
