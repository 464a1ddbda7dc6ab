"""Changes of a vCPU's registers that are no act of EL2."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyp.vcpu import VCPU


@contextmanager
def undisturbed(vcpu: VCPU) -> Iterator[None]:
    """Change registers so that a guest that is paused goes on as if nothing had happened.

    EL2 cannot do that: its ERET clears the exclusive monitor. While EL2 runs, the guest notices
    at once.
    """
    if vcpu.loaded_on is None:
        yield
        return
    guest = vcpu.pe.guest
    paused = guest.is_paused
    yield
    if paused:
        guest.stay_paused()
    vcpu.pe.leave_engine()
