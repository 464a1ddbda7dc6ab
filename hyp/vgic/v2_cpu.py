"""The CPU interface of a GICv2 as a frame of registers (IHI 0048B 4.4; a guest sees GICV).

KVM leaves these registers to hardware, except for those that user space saves and restores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyp.vgic.bank import WORD, Bank, plain
from hyp.vgic.ident import GICC_IIDR
from hyp.vgic.irq import FIRST_SPECIAL, GROUP1_PENDING, NR_SGIS, PRIORITY_SHIFT, SPURIOUS

if TYPE_CHECKING:
    from hyp.vgic.bank import View
    from hyp.vgic.cpuif import CpuInterface
    from hyp.vgic.irq import Irq

SIZE: Final = 0x2000

CTLR_ENABLE_GRP0: Final = 1 << 0
CTLR_ENABLE_GRP1: Final = 1 << 1
CTLR_ACK_CTL: Final = 1 << 2
CTLR_FIQ_EN: Final = 1 << 3
CTLR_CBPR: Final = 1 << 4
CTLR_EOI_MODE: Final = 1 << 9

_INTID_MASK: Final = 0x3FF
_CPUID_SHIFT: Final = 10
_CPUID_MASK: Final = 7


def _ctlr(view: View) -> int:
    state = view.cpu.state
    value = CTLR_ENABLE_GRP0 if state.group_enabled[0] else 0
    value |= CTLR_ENABLE_GRP1 if state.group_enabled[1] else 0
    value |= CTLR_ACK_CTL if state.ack_ctl else 0
    value |= CTLR_FIQ_EN if state.fiq_en else 0
    value |= CTLR_CBPR if state.cbpr else 0
    return value | (CTLR_EOI_MODE if state.eoi_mode else 0)


def _set_ctlr(view: View, value: int) -> None:
    cpu = view.cpu
    cpu.state.ack_ctl = bool(value & CTLR_ACK_CTL)
    cpu.state.fiq_en = bool(value & CTLR_FIQ_EN)
    cpu.state.cbpr = bool(value & CTLR_CBPR)
    cpu.state.eoi_mode = bool(value & CTLR_EOI_MODE)
    cpu.set_group_enabled(0, enabled=bool(value & CTLR_ENABLE_GRP0))
    cpu.set_group_enabled(1, enabled=bool(value & CTLR_ENABLE_GRP1))


def _pmr(view: View) -> int:
    return view.cpu.state.pmr


def _set_pmr(view: View, value: int) -> None:
    view.cpu.set_pmr(value)


def _user_pmr(view: View) -> int:
    """Return the field of GICH_VMCR: the priority bits that exist, shifted down."""
    return view.cpu.state.pmr >> PRIORITY_SHIFT


def _user_set_pmr(view: View, value: int) -> None:
    view.cpu.set_pmr(value << PRIORITY_SHIFT)


def _bpr(view: View) -> int:
    return view.cpu.state.bpr[0]


def _set_bpr(view: View, value: int) -> None:
    view.cpu.set_bpr(0, value)


def _abpr(view: View) -> int:
    return view.cpu.state.bpr[1]


def _set_abpr(view: View, value: int) -> None:
    view.cpu.set_bpr(1, value)


def _apr(view: View) -> int:
    return view.cpu.state.apr[1]


def _set_apr(view: View, value: int) -> None:
    view.cpu.set_apr(1, value)


def _take(cpu: CpuInterface, irq: Irq) -> int:
    cpu.acknowledge(irq)
    return irq.intid | (irq.active_source << _CPUID_SHIFT if irq.is_sgi else 0)


def _iar(view: View) -> int:
    """Take an interrupt of Group 0, or with AckCtl of either."""
    irq = view.cpu.signalled
    if irq is None:
        return SPURIOUS
    if irq.group == 1 and not view.cpu.state.ack_ctl:
        return GROUP1_PENDING
    return _take(view.cpu, irq)


def _aiar(view: View) -> int:
    """Take an interrupt of Group 1."""
    irq = view.cpu.signalled
    if irq is None or irq.group == 0:
        return SPURIOUS
    return _take(view.cpu, irq)


def _matching(irq: Irq | None, value: int) -> Irq | None:
    """Return ``irq`` unless it is an SGI of another source than ``value`` names."""
    if irq is None or (irq.intid < NR_SGIS and irq.active_source != _cpuid(value)):
        return None
    return irq


def _cpuid(value: int) -> int:
    return value >> _CPUID_SHIFT & _CPUID_MASK


def _eoi(view: View, value: int) -> None:
    """Drop the running priority; with EOImode 0, deactivate as well."""
    cpu = view.cpu
    intid = value & _INTID_MASK
    if intid >= FIRST_SPECIAL:
        return
    cpu.drop_priority()
    irq = _matching(cpu.active(intid), value)
    if irq is not None and not cpu.state.eoi_mode:
        view.dist.deactivate(irq)


def _dir(view: View, value: int) -> None:
    irq = _matching(view.cpu.deactivatable(value & _INTID_MASK), value)
    if irq is not None:
        view.dist.deactivate(irq)


def _rpr(view: View) -> int:
    return view.cpu.running_priority


def _pending(irq: Irq) -> int:
    source = (irq.source & -irq.source).bit_length() - 1 if irq.source else 0
    return irq.intid | source << _CPUID_SHIFT


def _hppir(view: View) -> int:
    irq = view.cpu.highest_pending
    if irq is None:
        return SPURIOUS
    if irq.group == 1 and not view.cpu.state.ack_ctl:
        return GROUP1_PENDING
    return _pending(irq)


def _ahppir(view: View) -> int:
    irq = view.cpu.highest_pending
    return SPURIOUS if irq is None or irq.group == 0 else _pending(irq)


def _iidr(_view: View) -> int:
    return GICC_IIDR


GICC: Final = Bank(
    (
        plain(0x0000, "GICC_CTLR", WORD, _ctlr, _set_ctlr),
        plain(
            0x0004, "GICC_PMR", WORD, _pmr, _set_pmr, user_read=_user_pmr, user_write=_user_set_pmr
        ),
        plain(0x0008, "GICC_BPR", WORD, _bpr, _set_bpr),
        plain(0x000C, "GICC_IAR", WORD, _iar, for_user=False),
        plain(0x0010, "GICC_EOIR", WORD, None, _eoi, for_user=False),
        plain(0x0014, "GICC_RPR", WORD, _rpr, for_user=False),
        plain(0x0018, "GICC_HPPIR", WORD, _hppir, for_user=False),
        plain(0x001C, "GICC_ABPR", WORD, _abpr, _set_abpr),
        plain(0x0020, "GICC_AIAR", WORD, _aiar, for_user=False),
        plain(0x0024, "GICC_AEOIR", WORD, None, _eoi, for_user=False),
        plain(0x0028, "GICC_AHPPIR", WORD, _ahppir, for_user=False),
        plain(0x00D0, "GICC_APR0", WORD, _apr, _set_apr),
        plain(0x00D4, "GICC_APR1", WORD, size=12),
        plain(0x00FC, "GICC_IIDR", WORD, _iidr),
        plain(0x1000, "GICC_DIR", WORD, None, _dir, for_user=False),
    )
)
