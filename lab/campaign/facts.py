"""What is to be known of a run that is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.campaign.outcome import RunFacts
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.campaign.escape import Escape
    from lab.campaign.spec import Campaign
    from lab.monitor import End
    from lab.vmm import Vmm


def facts_of(vmm: Vmm, end: End, escapes: Sequence[Escape] = ()) -> RunFacts:
    """Return the facts of a run.

    Parameters
    ----------
    vmm : Vmm
        As the run left it.
    end : End
        How the run ended.
    escapes : Sequence[Escape]
        What was seen of accesses that left the VM's memory.
    """
    return RunFacts(
        reason=end.reason,
        detail=end.detail,
        exit_code=vmm.guest_code,
        console=vmm.console.text,
        instructions=vmm.retired,
        disks=vmm.disk_digests,
        escapes=tuple(escapes),
    )


def check_golden(campaign: Campaign, golden: RunFacts) -> None:
    """Check that a run without faults is one that others can be compared with.

    Raises
    ------
    UserError
        If the guest did not end by itself.
    """
    if not golden.reason.is_normal:
        raise UserError(
            f"the golden run of {campaign.guest} {golden.reason.value}: {golden.detail}; a "
            "campaign needs a guest that ends by itself, and max-insns in [golden] that let it"
        )
