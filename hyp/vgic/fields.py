"""What the registers of many interrupts hold of each, as far as both GIC versions have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyp.vgic.bank import Field
from hyp.vgic.irq import NR_PRIVATE, PRIORITY_MASK, Config

if TYPE_CHECKING:
    from hyp.vgic.bank import View
    from hyp.vgic.irq import Irq


# --- group and enable ------------------------------------------------------------------------


def _group(_view: View, irq: Irq) -> int:
    return irq.group


def _set_group(view: View, irq: Irq, value: int) -> None:
    irq.group = value
    view.dist.requeue(irq)


def _user_set_group(view: View, irq: Irq, value: int) -> None:
    """Set the group, if user space has shown by writing GICD_IIDR that it means it."""
    if view.dist.version == 3 or view.dist.state.v2_groups_user_writable:
        _set_group(view, irq, value)


def _enabled(_view: View, irq: Irq) -> int:
    return irq.enabled


def _enable(view: View, irq: Irq, value: int) -> None:
    if value:
        irq.enabled = True
        view.dist.requeue(irq)


def _disable(view: View, irq: Irq, value: int) -> None:
    if value:
        irq.enabled = False
        view.dist.requeue(irq)


# --- pending ---------------------------------------------------------------------------------


def _is_v2_sgi(view: View, irq: Irq) -> bool:
    """Whether only GICD_SGIR and GICD_SPENDSGIR, which know the source, make it pending."""
    return view.dist.version == 2 and irq.is_sgi


def _pending(_view: View, irq: Irq) -> int:
    return irq.is_pending


def _user_pending(view: View, irq: Irq) -> int:
    """Return the latch of a GICv3: the line is state of its own (LEVEL_INFO)."""
    return irq.is_pending if view.dist.version == 2 else irq.pending_latch


def _set_pending(view: View, irq: Irq, value: int) -> None:
    if value and not _is_v2_sgi(view, irq):
        irq.pending_latch = True
        view.dist.requeue(irq)


def _user_set_pending(view: View, irq: Irq, value: int) -> None:
    """Set the latch; for a GICv3, clear it, too, since ICPENDR ignores user space."""
    if _is_v2_sgi(view, irq):
        if value:
            # Who has sent it cannot be said here, so it is the vCPU itself.
            view.dist.send_v2_sgi(irq, view.number)
        return
    if value or view.dist.version == 3:
        irq.pending_latch = bool(value)
        view.dist.requeue(irq)


def _clear_pending(view: View, irq: Irq, value: int) -> None:
    if value and not _is_v2_sgi(view, irq):
        irq.pending_latch = False
        view.dist.requeue(irq)


def _user_clear_pending(view: View, irq: Irq, value: int) -> None:
    """Clear the latch, and an SGI's sources with it. A GICv3 ignores it."""
    if value and view.dist.version == 2:
        irq.source = 0
        irq.pending_latch = False
        view.dist.requeue(irq)


def _user_clear_pending_read(view: View, irq: Irq) -> int:
    return irq.is_pending if view.dist.version == 2 else 0


# --- active ----------------------------------------------------------------------------------


def _active(_view: View, irq: Irq) -> int:
    return irq.active


def _set_active(view: View, irq: Irq, value: int) -> None:
    if value:
        view.dist.set_active(irq, active=True, by=view.by or 0)


def _clear_active(view: View, irq: Irq, value: int) -> None:
    if value:
        view.dist.set_active(irq, active=False, by=view.by or 0)


# --- priority and configuration --------------------------------------------------------------


def _priority(_view: View, irq: Irq) -> int:
    return irq.priority


def _set_priority(view: View, irq: Irq, value: int) -> None:
    irq.priority = value & PRIORITY_MASK
    view.dist.requeue(irq)


def _config(_view: View, irq: Irq) -> int:
    return irq.config << 1


def _set_config(view: View, irq: Irq, value: int) -> None:
    """Choose edge or level. SGIs and PPIs are what they are."""
    if irq.intid >= NR_PRIVATE:
        irq.config = Config(value >> 1)
        view.dist.requeue(irq)


GROUP: Final[Field] = Field(1, _group, _set_group, user_set=_user_set_group)
SET_ENABLE: Final[Field] = Field(1, _enabled, _enable)
CLEAR_ENABLE: Final[Field] = Field(1, _enabled, _disable)
SET_PENDING: Final[Field] = Field(1, _pending, _set_pending, _user_pending, _user_set_pending)
CLEAR_PENDING: Final[Field] = Field(
    1, _pending, _clear_pending, _user_clear_pending_read, _user_clear_pending
)
SET_ACTIVE: Final[Field] = Field(1, _active, _set_active)
CLEAR_ACTIVE: Final[Field] = Field(1, _active, _clear_active)
PRIORITY: Final[Field] = Field(8, _priority, _set_priority)
CONFIG: Final[Field] = Field(2, _config, _set_config)
