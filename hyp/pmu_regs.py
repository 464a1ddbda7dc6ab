"""The trapped registers of the performance monitors, and those by id (arch/arm64/kvm/sys_regs.c).

EL0's accesses trap, too. What the guest keeps from EL0 is undefined there, where hardware would
trap to EL1: so it is in KVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.registers.exceptions import PSTATE
from emu.arch.registers.performance import (
    COUNTER_NUMBERS,
    CYCLE_COUNTER,
    PMCCFILTR_EL0,
    PMCCNTR_EL0,
    PMCEID0_EL0,
    PMCEID1_EL0,
    PMCNTENCLR_EL0,
    PMCNTENSET_EL0,
    PMCR_EL0,
    PMEVCNTR_EL0,
    PMEVTYPER_EL0,
    PMINTENCLR_EL1,
    PMINTENSET_EL1,
    PMOVSCLR_EL0,
    PMOVSSET_EL0,
    PMSELR_EL0,
    PMSWINC_EL0,
    PMUSERENR_EL0,
    PMXEVCNTR_EL0,
    PMXEVTYPER_EL0,
)
from hyp.pmu import Pmu

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import Encoding, SystemRegister
    from hyp.vcpu import VCPU

_EN, _SW = PMUSERENR_EL0.EN.in_place, PMUSERENR_EL0.SW.in_place
_CR, _ER = PMUSERENR_EL0.CR.in_place, PMUSERENR_EL0.ER.in_place
_ANYBODY: Final = -1

_SELECTED: Final = -1
"""In place of a counter's number: the one that PMSELR_EL0 names."""


class PmuRegister(NamedTuple):
    """What an access to one register does.

    Parameters
    ----------
    name
        As the trace prints it.
    read, write
        The access; ``None`` where it is undefined. Those of a counter get its number.
    counter
        The counter whose register it is; ``None`` for the others.
    user_read, user_write
        The bits of PMUSERENR_EL0 of which one lets EL0 do it.
    """

    name: str
    read: Callable[..., int] | None = None
    write: Callable[..., None] | None = None
    counter: int | None = None
    user_read: int = _EN
    user_write: int = _EN


def read(vcpu: VCPU, register: PmuRegister) -> int | None:
    """Emulate an MRS; ``None`` if it is undefined."""
    pmu = vcpu.pmu
    if pmu is None or register.read is None or not _is_allowed(vcpu, pmu, register.user_read):
        return None
    arguments = _counter(pmu, register)
    return None if arguments is None else register.read(pmu, *arguments)


def write(vcpu: VCPU, value: int, register: PmuRegister) -> bool:
    """Emulate an MSR; False if it is undefined."""
    pmu = vcpu.pmu
    if pmu is None or register.write is None or not _is_allowed(vcpu, pmu, register.user_write):
        return False
    arguments = _counter(pmu, register)
    if arguments is None:
        return False
    register.write(pmu, *arguments, value)
    return True


def _is_allowed(vcpu: VCPU, pmu: Pmu, enables: int) -> bool:
    """Whether EL1 executes, or lets EL0 (``check_pmu_access_disabled``)."""
    return bool(PSTATE(vcpu.pstate).EL or enables == _ANYBODY or pmu.user & enables)


def _counter(pmu: Pmu, register: PmuRegister) -> tuple[int, ...] | None:
    """Return the number of a register's counter, if it is a counter's.

    ``None`` if the guest has no such counter (``pmu_counter_idx_valid``).
    """
    if register.counter is None:
        return ()
    number = pmu.select if register.counter == _SELECTED else register.counter
    return (number,) if pmu.counters >> number & 1 else None


# --- the table -------------------------------------------------------------------------------


def _select(pmu: Pmu, value: int) -> None:
    pmu.select = value & PMSELR_EL0.SEL.mask


def _type(pmu: Pmu, number: int) -> int:
    return pmu.types[number]


def _count_row(name: str, number: int, user_read: int = _ER | _EN) -> PmuRegister:
    return PmuRegister(name, Pmu.read_count, Pmu.write_count, number, user_read)


def _type_row(name: str, number: int) -> PmuRegister:
    return PmuRegister(name, _type, Pmu.write_type, number)


def _ignore(_pmu: Pmu, _value: int) -> None:
    pass


_REGISTERS: Final[dict[type[SystemRegister], PmuRegister]] = {
    PMCR_EL0: PmuRegister("PMCR_EL0", Pmu.read_control, Pmu.write_control),
    PMCNTENSET_EL0: PmuRegister(
        "PMCNTENSET_EL0",
        lambda pmu: pmu.enabled,
        lambda pmu, value: pmu.set_enabled(pmu.enabled | value),
    ),
    PMCNTENCLR_EL0: PmuRegister(
        "PMCNTENCLR_EL0",
        lambda pmu: pmu.enabled,
        lambda pmu, value: pmu.set_enabled(pmu.enabled & ~value),
    ),
    PMOVSCLR_EL0: PmuRegister(
        "PMOVSCLR_EL0",
        Pmu.read_overflows,
        lambda pmu, value: pmu.set_overflows(pmu.read_overflows() & ~value),
    ),
    PMOVSSET_EL0: PmuRegister(
        "PMOVSSET_EL0",
        Pmu.read_overflows,
        lambda pmu, value: pmu.set_overflows(pmu.read_overflows() | value),
    ),
    PMSWINC_EL0: PmuRegister("PMSWINC_EL0", None, Pmu.software_increment, user_write=_SW | _EN),
    PMSELR_EL0: PmuRegister(
        "PMSELR_EL0", lambda pmu: pmu.select, _select, user_read=_ER | _EN, user_write=_ER | _EN
    ),
    PMCEID0_EL0: PmuRegister("PMCEID0_EL0", lambda pmu: pmu.events(0)),
    PMCEID1_EL0: PmuRegister("PMCEID1_EL0", lambda pmu: pmu.events(1)),
    PMCCNTR_EL0: _count_row("PMCCNTR_EL0", CYCLE_COUNTER, _CR | _EN),
    PMXEVTYPER_EL0: _type_row("PMXEVTYPER_EL0", _SELECTED),
    PMXEVCNTR_EL0: _count_row("PMXEVCNTR_EL0", _SELECTED),
    PMUSERENR_EL0: PmuRegister(
        "PMUSERENR_EL0", lambda pmu: pmu.user, Pmu.write_user, user_read=_ANYBODY, user_write=0
    ),
    PMINTENSET_EL1: PmuRegister(
        "PMINTENSET_EL1",
        lambda pmu: pmu.interrupts,
        lambda pmu, value: pmu.set_interrupts(pmu.interrupts | value),
    ),
    PMINTENCLR_EL1: PmuRegister(
        "PMINTENCLR_EL1",
        lambda pmu: pmu.interrupts,
        lambda pmu, value: pmu.set_interrupts(pmu.interrupts & ~value),
    ),
    PMCCFILTR_EL0: _type_row("PMCCFILTR_EL0", CYCLE_COUNTER),
    **{r: _count_row(r.__name__, n) for n, r in zip(COUNTER_NUMBERS, PMEVCNTR_EL0, strict=True)},
    **{r: _type_row(r.__name__, n) for n, r in zip(COUNTER_NUMBERS, PMEVTYPER_EL0, strict=True)},
}

PMU_REGISTERS: Final[dict[Encoding, PmuRegister]] = {
    register.encoding: row for register, row in _REGISTERS.items()
}
"""What a guest's access does, by encoding."""


# --- user space ------------------------------------------------------------------------------


class PmuUserRegister(NamedTuple):
    """How user space gets and sets a register, whatever the guest's access would do."""

    get: Callable[[Pmu], int]
    set: Callable[[Pmu, int], None]


def _set_control(vcpu_pmu: Pmu, value: int) -> None:
    """Set PMCR_EL0, and the number of counters of all vCPUs before the first run."""
    vcpu_pmu.set_nr_counters(PMCR_EL0(value).N)
    vcpu_pmu.set_control(value)


def _user_count(number: int) -> PmuUserRegister:
    return PmuUserRegister(
        lambda pmu: pmu.read_count(number), lambda pmu, value: pmu.write_count(number, value)
    )


def _user_type(number: int) -> PmuUserRegister:
    return PmuUserRegister(
        lambda pmu: pmu.types[number], lambda pmu, value: pmu.write_type(number, value)
    )


_ENABLED: Final = PmuUserRegister(lambda pmu: pmu.enabled, Pmu.set_enabled)
_INTERRUPTS: Final = PmuUserRegister(lambda pmu: pmu.interrupts, Pmu.set_interrupts)
_OVERFLOWS: Final = PmuUserRegister(Pmu.read_overflows, Pmu.set_overflows)

PMU_USER_REGISTERS: Final[dict[Encoding, PmuUserRegister]] = {
    PMCR_EL0.encoding: PmuUserRegister(Pmu.read_control, _set_control),
    PMCNTENSET_EL0.encoding: _ENABLED,
    PMCNTENCLR_EL0.encoding: _ENABLED,
    PMOVSCLR_EL0.encoding: _OVERFLOWS,
    PMOVSSET_EL0.encoding: _OVERFLOWS,
    PMSWINC_EL0.encoding: PmuUserRegister(lambda _pmu: 0, _ignore),
    PMSELR_EL0.encoding: PmuUserRegister(lambda pmu: pmu.select, _select),
    PMCCNTR_EL0.encoding: _user_count(CYCLE_COUNTER),
    PMUSERENR_EL0.encoding: PmuUserRegister(lambda pmu: pmu.user, Pmu.write_user),
    PMINTENSET_EL1.encoding: _INTERRUPTS,
    PMINTENCLR_EL1.encoding: _INTERRUPTS,
    PMCCFILTR_EL0.encoding: _user_type(CYCLE_COUNTER),
    **{PMEVCNTR_EL0[n].encoding: _user_count(n) for n in COUNTER_NUMBERS},
    **{PMEVTYPER_EL0[n].encoding: _user_type(n) for n in COUNTER_NUMBERS},
}
"""Those with an id, by encoding. The set and the clear form of a register are one value here."""
