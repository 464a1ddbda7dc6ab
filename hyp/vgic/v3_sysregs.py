"""The CPU interface of a GICv3 as system registers (IHI 0069 12.2, vgic-v3-sr.c).

For a guest, the ICC_* registers are those of the virtual CPU interface (ICV_*). What is not
in the table is undefined: with 5 bits of preemption, that is the case for AP0R1 to AP1R3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.arch.fields import Encoding
from emu.arch.registers.gic import (
    ICC_ASGI1R_EL1,
    ICC_CTLR_EL1,
    ICC_DIR_EL1,
    ICC_PMR_EL1,
    ICC_RPR_EL1,
    ICC_SGI0R_EL1,
    ICC_SGI1R_EL1,
    ICC_SRE_EL1,
)
from hyp.errors import Errno, KvmError
from hyp.vgic.irq import FIRST_SPECIAL, SPURIOUS

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vgic.bank import View

PRI_BITS: Final = 5
"""Implemented priority bits."""

SRE: Final = 0b111
"""ICC_SRE_EL1: the system registers are on, and nothing bypasses them."""


@dataclass(frozen=True, slots=True)
class IccRegister:
    """A register of the CPU interface.

    Parameters
    ----------
    name
        The architecture's.
    read, write
        The guest's access; ``None`` where it is undefined.
    for_user
        Whether it is state that user space saves (KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS).
    user_write
        The access of user space, where it is another one.
    """

    name: str
    read: Callable[[View], int] | None
    write: Callable[[View, int], None] | None
    for_user: bool = False
    user_write: Callable[[View, int], None] | None = None


# --- state -----------------------------------------------------------------------------------


def _pmr(view: View) -> int:
    return view.cpu.state.pmr


def _set_pmr(view: View, value: int) -> None:
    view.cpu.set_pmr(value & 0xFF)


def _bpr0(view: View) -> int:
    return view.cpu.state.bpr[0]


def _set_bpr0(view: View, value: int) -> None:
    view.cpu.set_bpr(0, value)


def _bpr1(view: View) -> int:
    """Return the binary point of Group 1; with CBPR, it follows that of Group 0."""
    state = view.cpu.state
    return min(state.bpr[0] + 1, 7) if state.cbpr else state.bpr[1]


def _set_bpr1(view: View, value: int) -> None:
    if not view.cpu.state.cbpr:
        view.cpu.set_bpr(1, value)


def _ctlr(view: View) -> int:
    state = view.cpu.state
    return ICC_CTLR_EL1.build(
        A3V=1, PRIbits=PRI_BITS - 1, EOImode=int(state.eoi_mode), CBPR=int(state.cbpr)
    )


def _set_ctlr(view: View, value: int) -> None:
    ctlr = ICC_CTLR_EL1(value)
    view.cpu.state.eoi_mode = bool(ctlr.EOImode)
    view.cpu.state.cbpr = bool(ctlr.CBPR)
    view.dist.touch(view.number)


def _user_set_ctlr(view: View, value: int) -> None:
    """Refuse what another CPU interface could do and this one cannot."""
    new, own = ICC_CTLR_EL1(value), ICC_CTLR_EL1(_ctlr(view))
    if (
        new.PRIbits > own.PRIbits
        or new.IDbits > own.IDbits
        or new.SEIS != own.SEIS
        or new.A3V != own.A3V
    ):
        raise KvmError(
            Errno.EINVAL,
            f"ICC_CTLR_EL1 cannot be {value:#x}: the CPU interface has PRIbits {own.PRIbits}, "
            f"IDbits {own.IDbits}, SEIS {own.SEIS} and A3V {own.A3V}",
        )
    _set_ctlr(view, value)


def _sre(_view: View) -> int:
    return SRE


def _ignore(_view: View, _value: int) -> None:
    pass


def _user_set_sre(_view: View, value: int) -> None:
    if not value & 1:
        raise KvmError(
            Errno.EINVAL, f"ICC_SRE_EL1 cannot be {value:#x}: SRE is always 1 with a GICv3"
        )


def _group_enable(group: int) -> IccRegister:
    def read(view: View) -> int:
        return view.cpu.state.group_enabled[group]

    def write(view: View, value: int) -> None:
        view.cpu.set_group_enabled(group, enabled=bool(value & 1))

    return IccRegister(f"ICC_IGRPEN{group}_EL1", read, write, for_user=True)


def _apr(group: int) -> IccRegister:
    def read(view: View) -> int:
        return view.cpu.state.apr[group]

    def write(view: View, value: int) -> None:
        view.cpu.set_apr(group, value)

    return IccRegister(f"ICC_AP{group}R0_EL1", read, write, for_user=True)


# --- taking interrupts -----------------------------------------------------------------------


def _iar(group: int) -> IccRegister:
    def read(view: View) -> int:
        """Take the interrupt that is signalled, if it is of this group."""
        irq = view.cpu.signalled
        if irq is None or irq.group != group:
            return SPURIOUS
        view.cpu.acknowledge(irq)
        return irq.intid

    return IccRegister(f"ICC_IAR{group}_EL1", read, None)


def _hppir(group: int) -> IccRegister:
    def read(view: View) -> int:
        irq = view.cpu.highest_pending
        return SPURIOUS if irq is None or irq.group != group else irq.intid

    return IccRegister(f"ICC_HPPIR{group}_EL1", read, None)


def _eoir(group: int) -> IccRegister:
    def write(view: View, value: int) -> None:
        """Drop the running priority; with EOImode 0, deactivate what ran with it."""
        cpu = view.cpu
        intid = value & 0xFF_FFFF
        if FIRST_SPECIAL <= intid <= SPURIOUS:
            return
        dropped = cpu.drop_priority()
        irq = cpu.active(intid)
        if irq is None or cpu.state.eoi_mode or irq.group != group:
            return
        if cpu.group_priority(irq.priority, group) == dropped:
            view.dist.deactivate(irq)

    return IccRegister(f"ICC_EOIR{group}_EL1", None, write)


def _dir(view: View, value: int) -> None:
    irq = view.cpu.deactivatable(value & 0xFF_FFFF)
    if irq is not None:
        view.dist.deactivate(irq)


def _rpr(view: View) -> int:
    return view.cpu.running_priority


# --- sending SGIs ----------------------------------------------------------------------------


def _sgir(name: str, *, either_group: bool) -> IccRegister:
    def write(view: View, value: int) -> None:
        """Make an SGI pending on the vCPUs that are named (``vgic_v3_dispatch_sgi``).

        With one security state, only ICC_SGI1R_EL1 generates interrupts of Group 1.
        """
        dist, sgi = view.dist, ICC_SGI1R_EL1(value)
        intid = sgi.INTID
        for target in _targets(view, sgi):
            irq = dist.state.private[target][intid]
            if irq.group == 0 or either_group:
                irq.pending_latch = True
                dist.requeue(irq)

    return IccRegister(name, None, write)


def _targets(view: View, sgi: ICC_SGI1R_EL1) -> list[int]:
    """Return the vCPUs that an SGI goes to: all others, or 16 of one cluster at most."""
    if sgi.IRM:
        return [number for number in range(len(view.dist.cpus)) if number != view.number]
    if sgi.Aff3:
        return []
    named, cluster = sgi.TargetList, sgi.Aff2 << 16 | sgi.Aff1 << 8
    found = []
    for aff0 in range(16):
        if named >> aff0 & 1:
            number = view.dist.cpu_by_affinity(cluster | aff0)
            if number is not None:
                found.append(number)
    return found


ICC_REGISTERS: Final[dict[Encoding, IccRegister]] = {
    ICC_PMR_EL1.encoding: IccRegister("ICC_PMR_EL1", _pmr, _set_pmr, for_user=True),
    Encoding(3, 0, 12, 8, 0): _iar(0),
    Encoding(3, 0, 12, 8, 1): _eoir(0),
    Encoding(3, 0, 12, 8, 2): _hppir(0),
    Encoding(3, 0, 12, 8, 3): IccRegister("ICC_BPR0_EL1", _bpr0, _set_bpr0, for_user=True),
    Encoding(3, 0, 12, 8, 4): _apr(0),
    Encoding(3, 0, 12, 9, 0): _apr(1),
    ICC_DIR_EL1.encoding: IccRegister("ICC_DIR_EL1", None, _dir),
    ICC_RPR_EL1.encoding: IccRegister("ICC_RPR_EL1", _rpr, None),
    ICC_SGI1R_EL1.encoding: _sgir("ICC_SGI1R_EL1", either_group=True),
    ICC_ASGI1R_EL1.encoding: _sgir("ICC_ASGI1R_EL1", either_group=False),
    ICC_SGI0R_EL1.encoding: _sgir("ICC_SGI0R_EL1", either_group=False),
    Encoding(3, 0, 12, 12, 0): _iar(1),
    Encoding(3, 0, 12, 12, 1): _eoir(1),
    Encoding(3, 0, 12, 12, 2): _hppir(1),
    Encoding(3, 0, 12, 12, 3): IccRegister("ICC_BPR1_EL1", _bpr1, _set_bpr1, for_user=True),
    ICC_CTLR_EL1.encoding: IccRegister("ICC_CTLR_EL1", _ctlr, _set_ctlr, True, _user_set_ctlr),
    ICC_SRE_EL1.encoding: IccRegister("ICC_SRE_EL1", _sre, _ignore, True, _user_set_sre),
    Encoding(3, 0, 12, 12, 6): _group_enable(0),
    Encoding(3, 0, 12, 12, 7): _group_enable(1),
}

MISSING_APRS: Final = frozenset(
    Encoding(3, 0, 12, CRm, first + n) for CRm, first in ((8, 4), (9, 0)) for n in (1, 2, 3)
)
"""AP0R1 to AP0R3 and AP1R1 to AP1R3: user space is told EINVAL, not that they are unknown."""


def user_register(encoding: Encoding) -> IccRegister:
    """Return the register that user space names.

    Raises
    ------
    KvmError
        ENXIO if it is none that user space can access.
    """
    register = ICC_REGISTERS.get(encoding)
    if register is None or not register.for_user:
        raise KvmError(
            Errno.ENXIO,
            f"{tuple(encoding)} is no register of the CPU interface that user space saves; use "
            f"ICC_PMR, BPR0, BPR1, AP0Rn, AP1Rn, CTLR, SRE, IGRPEN0 or IGRPEN1",
        )
    return register


def user_read(view: View, encoding: Encoding) -> int:
    """Return a register for user space.

    Raises
    ------
    KvmError
        ENXIO for an unknown register, EINVAL for an APR that is not implemented.
    """
    _refuse_missing_apr(encoding)
    register = user_register(encoding)
    assert register.read is not None
    return register.read(view)


def user_write(view: View, encoding: Encoding, value: int) -> None:
    """Set a register for user space.

    Raises
    ------
    KvmError
        ENXIO for an unknown register, EINVAL for an APR that is not implemented, or a value
        that the register cannot have.
    """
    _refuse_missing_apr(encoding)
    register = user_register(encoding)
    write = register.user_write or register.write
    assert write is not None
    write(view, value)


def _refuse_missing_apr(encoding: Encoding) -> None:
    if encoding in MISSING_APRS:
        raise KvmError(
            Errno.EINVAL,
            f"{tuple(encoding)}: with {PRI_BITS} bits of preemption there are only AP0R0 and AP1R0",
        )
