"""TLB invalidation for a VM, as sequences of TLBI operations.

Stage 2 is cached twice: as stage-2 walks by IPA, and inside combined entries by
VA. ``TLBI IPAS2E1IS`` removes only the former, so each invalidation by IPA ends
with a ``TLBI VMALLE1IS`` for the latter (arch/arm64/kvm/hyp/nvhe/tlb.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import IC
from emu.arch.a64.tlbi import TLBI
from emu.arch.a64.tlbi_arguments import tlbi_ipa, tlbi_range_ipa
from emu.arch.address import IPA, PAGE_SHIFT
from emu.arch.registers.virtualization import VTTBR_EL2
from hyp.steps import Step, Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.cpufeature import HostFeatures
    from hyp.percpu import CurrentCpu
    from hyp.stats import Stats

MAX_TLBI_RANGE_PAGES: Final = 32 << 16
"""What one range operation can cover: NUM 31 at SCALE 3."""


class Stage2Tlb:
    """The invalidations that a VM's stage 2 needs.

    Parameters
    ----------
    cpu
        The PE that issues them.
    features
        Whether there are operations by range, and level hints.
    stats
        Counts the sequences by name.
    steps
        How they are done.
    """

    __slots__ = ("_cpu", "_features", "_flushes", "_steps", "after_ipa", "vttbr")

    def __init__(
        self, cpu: CurrentCpu, features: HostFeatures, stats: Stats, steps: Steps | None = None
    ) -> None:
        self._cpu = cpu
        self._steps = Steps() if steps is None else steps
        self._features = features
        self._flushes = stats.tlb_flushes
        self.vttbr = VTTBR_EL2(0)
        """The VM's base register; its VMID is what the operations apply to."""
        self.after_ipa: Callable[[], None] | None = None
        """Called after each invalidation by IPA: some caches are to go with the TLB."""

    def _switch_to_guest(self) -> VTTBR_EL2:
        """Have the VM's VMID current, as TLBI takes it from VTTBR_EL2; return what was there."""
        pe = self._cpu.pe
        loaded = pe.read(VTTBR_EL2)
        if loaded != self.vttbr:
            pe.write(self.vttbr)
        return loaded

    def _switch_to_host(self, loaded: VTTBR_EL2) -> None:
        """Have the VMID of :meth:`_switch_to_guest` back."""
        if loaded != self.vttbr:
            self._cpu.pe.write(loaded)

    def _hint(self, level: int | None) -> int | None:
        """Return the level to name in TTL; there is no code for level 0."""
        return level if self._features.ttl and level else None

    def flush_vmid_ipa(self, ipa: IPA, level: int | None) -> None:
        """Invalidate one leaf on all PEs (``__kvm_tlb_flush_vmid_ipa``)."""
        if self._steps.deviating:
            self._steps.do(Step.TLB_FLUSH_IPA, self._flush_vmid_ipa, ipa, level)
        else:
            self._flush_vmid_ipa(ipa, level)

    def _flush_vmid_ipa(self, ipa: IPA, level: int | None) -> None:
        self._flushes["vmid_ipa"] += 1
        pe, loaded = self._cpu.pe, self._switch_to_guest()
        pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(ipa, self._hint(level)))
        pe.tlbi(TLBI.VMALLE1IS)
        if self.after_ipa is not None:
            self.after_ipa()
        self._switch_to_host(loaded)

    def flush_vmid_ipa_nsh(self, ipa: IPA, level: int | None) -> None:
        """Invalidate one leaf on this PE only (``__kvm_tlb_flush_vmid_ipa_nsh``).

        Enough after rights were added: a PE that kept the old entry faults once more.
        """
        if self._steps.deviating:
            self._steps.do(Step.TLB_FLUSH_IPA_NSH, self._flush_vmid_ipa_nsh, ipa, level)
        else:
            self._flush_vmid_ipa_nsh(ipa, level)

    def _flush_vmid_ipa_nsh(self, ipa: IPA, level: int | None) -> None:
        self._flushes["vmid_ipa_nsh"] += 1
        pe, loaded = self._cpu.pe, self._switch_to_guest()
        pe.tlbi(TLBI.IPAS2E1, tlbi_ipa(ipa, self._hint(level)))
        pe.tlbi(TLBI.VMALLE1)
        self._switch_to_host(loaded)

    def flush_vmid(self) -> None:
        """Invalidate all of the VM's entries (``__kvm_tlb_flush_vmid``)."""
        self._flushes["vmid"] += 1
        loaded = self._switch_to_guest()
        self._cpu.pe.tlbi(TLBI.VMALLS12E1IS)
        self._switch_to_host(loaded)

    def flush_cpu_context(self) -> None:
        """Invalidate what another vCPU of the VM left on this PE (``__kvm_flush_cpu_context``)."""
        pe, loaded = self._cpu.pe, self._switch_to_guest()
        pe.tlbi(TLBI.VMALLE1)
        pe.ic(IC.IALLU)
        self._switch_to_host(loaded)

    def flush_vm_context(self) -> None:
        """Invalidate the entries of all VMs on all PEs (``__kvm_flush_vm_context``)."""
        self._cpu.pe.tlbi(TLBI.ALLE1IS)

    def flush_vmid_range(self, start: IPA, size: int) -> None:
        """Invalidate a range of IPAs (``kvm_tlb_flush_vmid_range``)."""
        if self._steps.deviating:
            self._steps.do(Step.TLB_FLUSH_RANGE, self._flush_vmid_range, start, size)
        else:
            self._flush_vmid_range(start, size)

    def _flush_vmid_range(self, start: IPA, size: int) -> None:
        pages = size >> PAGE_SHIFT
        if not self._features.tlb_range:
            self.flush_vmid()
            return
        while pages > 0:
            chunk = min(pages, MAX_TLBI_RANGE_PAGES)
            self._flush_chunk(start, chunk)
            start = IPA(start + (chunk << PAGE_SHIFT))
            pages -= chunk

    def _flush_chunk(self, start: IPA, pages: int) -> None:
        """Invalidate up to ``MAX_TLBI_RANGE_PAGES`` (``__kvm_tlb_flush_vmid_range``)."""
        self._flushes["vmid_range"] += 1
        pe, loaded = self._cpu.pe, self._switch_to_guest()
        while pages > 1:
            argument = tlbi_range_ipa(start, pages)
            pe.tlbi(TLBI.RIPAS2E1IS, argument)
            start = IPA(start + (argument.pages << PAGE_SHIFT))
            pages -= argument.pages
        if pages:
            pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(start))
        pe.tlbi(TLBI.VMALLE1IS)
        self._switch_to_host(loaded)
