"""TLBs that forget everything at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.faults.fault import Fault, Injection, Status

if TYPE_CHECKING:
    from lab.faults.target import Target


@dataclass(frozen=True, kw_only=True)
class TlbForget(Fault):
    """The TLBs of all PEs are empty, which they may be at any time. Software does not notice.

    What has gone wrong in tables and was hidden by entries of a TLB is seen from now on.
    """

    name = "tlb-forget"

    def inject(self, target: Target) -> Injection:
        """Empty them."""
        gone = 0
        for pe in target.vm.machine.pes:
            tlb, regime = pe.mmu.tlb, pe.mmu.regime
            gone += len(tlb)
            for context in tlb.contexts.values():
                context.clear()
            for entries in tlb.stage2.values():
                entries.clear()
            pe.mmu.use(regime)  # and what was copied from them
            pe.engine.flush_tlb()
        return Injection(Status.INJECTED, f"{gone} entries of TLBs are gone")
