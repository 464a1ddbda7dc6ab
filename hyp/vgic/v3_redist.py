"""A redistributor of a GICv3 as a frame of registers (IHI 0069 12.11, vgic-mmio-v3.c).

Two frames of 64 KiB: RD_base, and SGI_base with what a vCPU has of SGIs and PPIs.
There are no LPIs, so that what concerns them reads as zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyp.vgic import fields
from hyp.vgic.bank import BYTE_WORD, WORD, WORD_DOUBLE, Bank, per_irq, plain
from hyp.vgic.ident import GICR_IIDR, PIDR2_GICV3
from hyp.vgic.irq import NR_PRIVATE

if TYPE_CHECKING:
    from hyp.vgic.bank import View

SIZE: Final = 0x2_0000
_SGI_BASE: Final = 0x1_0000

CTLR_CES: Final = 1 << 1
CTLR_IR: Final = 1 << 2
TYPER_LAST: Final = 1 << 4


def _ctlr(view: View) -> int:
    """Return what LPIs could do if there were any, since revision 3."""
    return CTLR_IR | CTLR_CES if view.dist.state.revision >= 3 else 0


def _iidr(_view: View) -> int:
    return GICR_IIDR


def _typer(view: View) -> int:
    """Affinity_Value, Processor_Number and Last."""
    affinity = view.dist.mpidrs[view.number]
    return affinity << 32 | view.number << 8 | (TYPER_LAST if view.last else 0)


def _pidr2(_view: View) -> int:
    return PIDR2_GICV3


_OWN: Final = NR_PRIVATE

GICR: Final = Bank(
    (
        plain(0x0_0000, "GICR_CTLR", WORD, _ctlr),
        plain(0x0_0004, "GICR_IIDR", WORD, _iidr),
        plain(0x0_0008, "GICR_TYPER", WORD_DOUBLE, _typer),
        plain(0x0_0010, "GICR_STATUSR", WORD),
        plain(0x0_0014, "GICR_WAKER", WORD),
        plain(0x0_0070, "GICR_PROPBASER", WORD_DOUBLE),
        plain(0x0_0078, "GICR_PENDBASER", WORD_DOUBLE),
        plain(0x0_00A0, "GICR_INVLPIR", WORD_DOUBLE),
        plain(0x0_00B0, "GICR_INVALLR", WORD_DOUBLE),
        plain(0x0_00C0, "GICR_SYNCR", WORD),
        plain(0x0_FFD0, "GICR_PIDR4", WORD, size=24),
        plain(0x0_FFE8, "GICR_PIDR2", WORD, _pidr2),
        plain(0x0_FFEC, "GICR_PIDR3", WORD, size=20),
        per_irq(_SGI_BASE + 0x080, "GICR_IGROUPR0", fields.GROUP, count=_OWN),
        per_irq(_SGI_BASE + 0x100, "GICR_ISENABLER0", fields.SET_ENABLE, count=_OWN),
        per_irq(_SGI_BASE + 0x180, "GICR_ICENABLER0", fields.CLEAR_ENABLE, count=_OWN),
        per_irq(_SGI_BASE + 0x200, "GICR_ISPENDR0", fields.SET_PENDING, count=_OWN),
        per_irq(_SGI_BASE + 0x280, "GICR_ICPENDR0", fields.CLEAR_PENDING, count=_OWN),
        per_irq(_SGI_BASE + 0x300, "GICR_ISACTIVER0", fields.SET_ACTIVE, count=_OWN),
        per_irq(_SGI_BASE + 0x380, "GICR_ICACTIVER0", fields.CLEAR_ACTIVE, count=_OWN),
        per_irq(_SGI_BASE + 0x400, "GICR_IPRIORITYR", fields.PRIORITY, BYTE_WORD, count=_OWN),
        per_irq(_SGI_BASE + 0xC00, "GICR_ICFGR", fields.CONFIG, count=_OWN),
        plain(_SGI_BASE + 0xD00, "GICR_IGRPMODR0", WORD),
        plain(_SGI_BASE + 0xE00, "GICR_NSACR", WORD),
    )
)
