"""The distributor of a GICv3 as a frame of registers (IHI 0069 12.9, vgic-mmio-v3.c).

What it has of SGIs and PPIs is in the redistributors; here, these interrupts read as zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyp.errors import Errno, KvmError
from hyp.vgic import fields
from hyp.vgic.bank import BYTE_WORD, WORD, WORD_DOUBLE, Bank, Field, per_irq, plain
from hyp.vgic.dist import MPIDR_AFF210
from hyp.vgic.ident import PIDR2_GICV3, gicd_iidr
from hyp.vgic.irq import NR_PRIVATE
from hyp.vgic.v2_dist import set_iidr

if TYPE_CHECKING:
    from hyp.vgic.bank import View
    from hyp.vgic.irq import Irq

SIZE: Final = 0x1_0000

CTLR_ENABLE_GRP1: Final = 1 << 1
CTLR_ARE: Final = 1 << 4
CTLR_DS: Final = 1 << 6

_ID_BITS: Final = 10
"""INTIDs of 10 bits: no LPIs."""


def _ctlr(view: View) -> int:
    """One security state, affinity routing always on, one enable for both groups."""
    enable = CTLR_ENABLE_GRP1 if view.dist.state.enabled else 0
    return enable | CTLR_ARE | CTLR_DS


def _set_ctlr(view: View, value: int) -> None:
    view.dist.set_enabled(enabled=bool(value & CTLR_ENABLE_GRP1))


def _typer(view: View) -> int:
    """ITLinesNumber and IDbits."""
    return view.dist.nr_irqs // 32 - 1 | _ID_BITS - 1 << 19


def _iidr(view: View) -> int:
    return gicd_iidr(view.dist.state.revision)


def _set_typer2(_view: View, value: int) -> None:
    if value:
        raise KvmError(Errno.EINVAL, f"GICD_TYPER2 is 0 and cannot be {value:#x}")


def _ones(_view: View) -> int:
    return 0xFFFF_FFFF


def _pidr2(_view: View) -> int:
    return PIDR2_GICV3


def _router(_view: View, irq: Irq) -> int:
    return irq.mpidr


def _set_router(view: View, irq: Irq, value: int) -> None:
    """Route an SPI to an affinity. There is no Aff3, and no routing to any one vCPU."""
    irq.mpidr = value & MPIDR_AFF210
    view.dist.route(irq, view.dist.cpu_by_affinity(irq.mpidr))


ROUTER: Final = Field(64, _router, _set_router)
_SPI: Final = NR_PRIVATE

GICD: Final = Bank(
    (
        plain(0x0000, "GICD_CTLR", WORD, _ctlr, _set_ctlr),
        plain(0x0004, "GICD_TYPER", WORD, _typer),
        plain(0x0008, "GICD_IIDR", WORD, _iidr, user_write=set_iidr),
        plain(0x000C, "GICD_TYPER2", WORD, user_write=_set_typer2),
        plain(0x0010, "GICD_STATUSR", WORD, _ones),
        per_irq(0x0080, "GICD_IGROUPR", fields.GROUP, first=_SPI),
        per_irq(0x0100, "GICD_ISENABLER", fields.SET_ENABLE, first=_SPI),
        per_irq(0x0180, "GICD_ICENABLER", fields.CLEAR_ENABLE, first=_SPI),
        per_irq(0x0200, "GICD_ISPENDR", fields.SET_PENDING, first=_SPI),
        per_irq(0x0280, "GICD_ICPENDR", fields.CLEAR_PENDING, first=_SPI),
        per_irq(0x0300, "GICD_ISACTIVER", fields.SET_ACTIVE, first=_SPI),
        per_irq(0x0380, "GICD_ICACTIVER", fields.CLEAR_ACTIVE, first=_SPI),
        per_irq(0x0400, "GICD_IPRIORITYR", fields.PRIORITY, BYTE_WORD, first=_SPI),
        plain(0x0800, "GICD_ITARGETSR", BYTE_WORD, size=1024),
        per_irq(0x0C00, "GICD_ICFGR", fields.CONFIG, first=_SPI),
        plain(0x0D00, "GICD_IGRPMODR", WORD, size=128),
        per_irq(0x6000, "GICD_IROUTER", ROUTER, WORD_DOUBLE, first=_SPI),
        plain(0xFFD0, "GICD_PIDR4", WORD, size=24),
        plain(0xFFE8, "GICD_PIDR2", WORD, _pidr2),
        plain(0xFFEC, "GICD_PIDR3", WORD, size=20),
    )
)
