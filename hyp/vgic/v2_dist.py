"""The distributor of a GICv2 as a frame of registers (IHI 0048B 4.3, vgic-mmio-v2.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyp.errors import Errno, KvmError
from hyp.vgic import fields
from hyp.vgic.bank import BYTE_WORD, WORD, Bank, Field, per_irq, plain
from hyp.vgic.ident import REVISION_MASK, REVISION_SHIFT, REVISIONS, gicd_iidr
from hyp.vgic.irq import NR_PRIVATE, NR_SGIS

if TYPE_CHECKING:
    from hyp.vgic.bank import View
    from hyp.vgic.irq import Irq

SIZE: Final = 0x1000

CTLR_ENABLE: Final = 1
"""One enable for both groups, as KVM has it."""


def _ctlr(view: View) -> int:
    return CTLR_ENABLE if view.dist.state.enabled else 0


def _set_ctlr(view: View, value: int) -> None:
    view.dist.set_enabled(enabled=bool(value & CTLR_ENABLE))


def _typer(view: View) -> int:
    """ITLinesNumber and CPUNumber."""
    return view.dist.nr_irqs // 32 - 1 | len(view.dist.cpus) - 1 << 5


def _iidr(view: View) -> int:
    return gicd_iidr(view.dist.state.revision)


def set_iidr(view: View, value: int) -> None:
    """Choose the revision that is emulated, which user space may.

    Raises
    ------
    KvmError
        EINVAL for another GIC, or a revision that is not known.
    """
    revision = (value & REVISION_MASK) >> REVISION_SHIFT
    if (value ^ _iidr(view)) & ~REVISION_MASK or revision not in REVISIONS:
        raise KvmError(
            Errno.EINVAL,
            f"GICD_IIDR cannot be {value:#x}; it is {_iidr(view):#x}, with a Revision of 2 or 3",
        )
    view.dist.state.revision = revision
    view.dist.state.v2_groups_user_writable = True


def _targets(_view: View, irq: Irq) -> int:
    return irq.targets


def _set_targets(view: View, irq: Irq, value: int) -> None:
    """Choose the vCPUs of an SPI. The first of them gets it, or vCPU 0 if there is none."""
    if irq.intid < NR_PRIVATE:
        return
    irq.targets = value & (1 << len(view.dist.cpus)) - 1
    first = irq.targets & -irq.targets
    view.dist.route(irq, first.bit_length() - 1 if first else 0)


def _send_sgi(view: View, value: int) -> None:
    """GICD_SGIR: send an SGI to a list of vCPUs, to all others, or to oneself."""
    dist = view.dist
    own = 1 << view.number
    targets = value >> 16 & 0xFF
    target_filter = value >> 24 & 3
    if target_filter == 1:
        targets = (1 << len(dist.cpus)) - 1 & ~own
    elif target_filter == 2:
        targets = own
    elif target_filter == 3:  # reserved
        return
    for number in range(len(dist.cpus)):
        if targets >> number & 1:
            dist.send_v2_sgi(dist.state.private[number][value & 0xF], view.number)


def _sources(_view: View, irq: Irq) -> int:
    return irq.source


def _clear_sources(view: View, irq: Irq, value: int) -> None:
    irq.source &= ~value
    if not irq.source:
        irq.pending_latch = False
    view.dist.requeue(irq)


def _set_sources(view: View, irq: Irq, value: int) -> None:
    irq.source |= value
    if irq.source:
        irq.pending_latch = True
    view.dist.requeue(irq)


TARGETS: Final = Field(8, _targets, _set_targets)
CLEAR_SOURCES: Final = Field(8, _sources, _clear_sources)
SET_SOURCES: Final = Field(8, _sources, _set_sources)

GICD: Final = Bank(
    (
        plain(0x000, "GICD_CTLR", WORD, _ctlr, _set_ctlr),
        plain(0x004, "GICD_TYPER", WORD, _typer),
        plain(0x008, "GICD_IIDR", WORD, _iidr, user_write=set_iidr),
        per_irq(0x080, "GICD_IGROUPR", fields.GROUP),
        per_irq(0x100, "GICD_ISENABLER", fields.SET_ENABLE),
        per_irq(0x180, "GICD_ICENABLER", fields.CLEAR_ENABLE),
        per_irq(0x200, "GICD_ISPENDR", fields.SET_PENDING),
        per_irq(0x280, "GICD_ICPENDR", fields.CLEAR_PENDING),
        per_irq(0x300, "GICD_ISACTIVER", fields.SET_ACTIVE),
        per_irq(0x380, "GICD_ICACTIVER", fields.CLEAR_ACTIVE),
        per_irq(0x400, "GICD_IPRIORITYR", fields.PRIORITY, BYTE_WORD),
        per_irq(0x800, "GICD_ITARGETSR", TARGETS, BYTE_WORD),
        per_irq(0xC00, "GICD_ICFGR", fields.CONFIG),
        plain(0xF00, "GICD_SGIR", WORD, None, _send_sgi),
        per_irq(0xF10, "GICD_CPENDSGIR", CLEAR_SOURCES, BYTE_WORD, count=NR_SGIS),
        per_irq(0xF20, "GICD_SPENDSGIR", SET_SOURCES, BYTE_WORD, count=NR_SGIS),
    )
)
