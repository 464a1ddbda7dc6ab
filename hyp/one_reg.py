"""Registers by KVM's ids: KVM_GET_ONE_REG and KVM_SET_ONE_REG.

An id is ``0x60 << 56 | size << 52 | class << 16 | number``. Core registers are
numbered by their place in ``struct kvm_regs`` in words of 32 bits, system
registers by their encoding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.fields import Encoding
from emu.arch.registers import REGISTERS
from emu.arch.registers.control import (
    CPACR_EL1,
    TPIDR_EL0,
    TPIDR_EL1,
    TPIDRRO_EL0,
)
from emu.arch.registers.debug import MDCCINT_EL1, MDSCR_EL1, OSLSR_EL1
from emu.arch.registers.exceptions import (
    AFSR0_EL1,
    AFSR1_EL1,
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    FAR_EL1,
    PAR_EL1,
    SP_EL0,
    SP_EL1,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
    Mode,
)
from emu.arch.registers.identification import CTR_EL0, MIDR_EL1, MPIDR_EL1
from emu.arch.registers.timer import CNTKCTL_EL1, CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0
from emu.arch.registers.translation import (
    AMAIR_EL1,
    CONTEXTIDR_EL1,
    MAIR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
)
from emu.arch.registers.virtualization import VPIDR_EL2
from hyp import firmware
from hyp.debug import COMPARATORS
from hyp.errors import Errno, KvmError
from hyp.idregs import ID_SPACE
from hyp.pmu_regs import PMU_USER_REGISTERS
from hyp.timer import kvm_arm_timer_get_reg

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from hyp.vcpu import VCPU

_ARM64: Final = 0x60 << 56
_U64: Final = 3 << 52
_CORE: Final = 0x10 << 16
_SYSREG: Final = 0x13 << 16

_SYSTEM_ID: Final = _ARM64 | _U64 | _SYSREG
_CORE_ID: Final = _ARM64 | _U64 | _CORE
_NUMBER: Final = 0xFFFF
_MASK_64: Final = (1 << 64) - 1

SP: Final = _CORE_ID | 0x3E
"""SP_EL0."""
PC: Final = _CORE_ID | 0x40
PSTATE: Final = _CORE_ID | 0x42


def core_x(number: int) -> int:
    """Return the id of X0 to X30."""
    if not 0 <= number <= 30:
        raise ValueError(f"a general register is X0 to X30, not X{number}; for SP use one_reg.SP")
    return _CORE_ID | number * 2


def system(encoding: tuple[int, int, int, int, int]) -> int:
    """Return the id of a system register from its op0, op1, CRn, CRm and op2."""
    op0, op1, CRn, CRm, op2 = encoding
    return _SYSTEM_ID | op0 << 14 | op1 << 11 | CRn << 7 | CRm << 3 | op2


_CORE_REGISTERS: Final[dict[int, type[SystemRegister]]] = {
    SP: SP_EL0,
    PC: ELR_EL2,
    PSTATE: SPSR_EL2,
    _CORE_ID | 0x44: SP_EL1,
    _CORE_ID | 0x46: ELR_EL1,
    _CORE_ID | 0x48: SPSR_EL1,
}
"""Core registers that are not general ones. While EL2 runs, ELR_EL2 is the guest's PC."""

_PLAIN: Final[tuple[type[SystemRegister], ...]] = (
    AFSR0_EL1,
    AFSR1_EL1,
    AMAIR_EL1,
    CNTKCTL_EL1,
    CONTEXTIDR_EL1,
    CPACR_EL1,
    ESR_EL1,
    FAR_EL1,
    MAIR_EL1,
    MDCCINT_EL1,
    PAR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TPIDRRO_EL0,
    TPIDR_EL0,
    TPIDR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
    VBAR_EL1,
)

_SYSTEM_REGISTERS: Final[dict[int, type[SystemRegister]]] = {
    **{system(register.encoding): register for register in _PLAIN},
    system(CNTV_CTL_EL0.encoding): CNTV_CTL_EL0,
    # The ids of these two are swapped, for ever: each is the encoding of the other.
    system(CNTVCT_EL0.encoding): CNTV_CVAL_EL0,
    system(CNTV_CVAL_EL0.encoding): CNTVCT_EL0,
}

_DEBUG_REGISTERS: Final[tuple[type[SystemRegister], ...]] = (*COMPARATORS, MDSCR_EL1)
_DEBUG: Final[dict[int, type[SystemRegister]]] = {
    system(register.encoding): register for register in _DEBUG_REGISTERS
}
_OSLSR: Final = system(OSLSR_EL1.encoding)

_VIRTUAL_TIMER: Final = (CNTV_CTL_EL0, CNTV_CVAL_EL0, CNTVCT_EL0)

_READ_ONLY_ENCODINGS: Final = (
    MIDR_EL1.encoding,
    MPIDR_EL1.encoding,
    CTR_EL0.encoding,
    *ID_SPACE,
)
_READ_ONLY: Final = {system(encoding): encoding for encoding in _READ_ONLY_ENCODINGS}

_MODES: Final = (Mode.EL0t, Mode.EL1t, Mode.EL1h)


_PMU: Final = {system(encoding): row for encoding, row in PMU_USER_REGISTERS.items()}


def register_list(vcpu: VCPU) -> list[int]:
    """Return every id that a vCPU has, ascending (KVM_GET_REG_LIST)."""
    general = [core_x(number) for number in range(31)]
    pmu = () if vcpu.pmu is None else _PMU
    return sorted(
        [
            *general,
            *_CORE_REGISTERS,
            *_SYSTEM_REGISTERS,
            *_DEBUG,
            _OSLSR,
            *_READ_ONLY,
            *pmu,
            *firmware.registers(vcpu.vm),
        ]
    )


def get(vcpu: VCPU, reg_id: int) -> int:
    """Read a register.

    Raises
    ------
    KvmError
        ENOENT for an id that names no register.
    """
    number = _general_number(reg_id)
    if number is not None:
        return vcpu.read_x(number)
    register = _CORE_REGISTERS.get(reg_id) or _SYSTEM_REGISTERS.get(reg_id)
    if register in _VIRTUAL_TIMER:
        return kvm_arm_timer_get_reg(vcpu, register)
    if register is not None:
        return int(vcpu.read(register))
    if reg_id in _DEBUG:
        return vcpu.debug.read(_DEBUG[reg_id])
    if reg_id == _OSLSR:
        return int(vcpu.debug.oslsr)
    if reg_id in _READ_ONLY:
        return _read_only(vcpu, _READ_ONLY[reg_id])
    if reg_id in _PMU and vcpu.pmu is not None:
        return _PMU[reg_id].get(vcpu.pmu)
    if reg_id in firmware.registers(vcpu.vm):
        return firmware.get(vcpu.vm, reg_id)
    raise _unknown(reg_id)


def set(vcpu: VCPU, reg_id: int, value: int) -> None:  # noqa: A001  # one_reg.get and one_reg.set
    """Write a register.

    Raises
    ------
    KvmError
        ENOENT for an id that names no register; EINVAL for a value it cannot have, EBUSY for
        one that it cannot have any more.
    """
    if not 0 <= value <= _MASK_64:
        raise KvmError(Errno.EINVAL, f"a register holds 64 bits, not {value:#x}")
    number = _general_number(reg_id)
    register = _CORE_REGISTERS.get(reg_id) or _SYSTEM_REGISTERS.get(reg_id)
    if number is not None:
        vcpu.write_x(number, value)
    elif register is CNTVCT_EL0:
        pass  # the counter is the machine's
    elif register is not None:
        if register is SPSR_EL2:
            _check_mode(value)
        vcpu.write(register(value))
    elif reg_id in _DEBUG:
        vcpu.debug.write(_DEBUG[reg_id](value))
    elif reg_id == _OSLSR:
        _set_oslsr(vcpu, value)
    elif reg_id in _READ_ONLY:
        _check_same(vcpu, reg_id, value)
    elif reg_id in _PMU and vcpu.pmu is not None:
        _PMU[reg_id].set(vcpu.pmu, value)
    elif reg_id in firmware.registers(vcpu.vm):
        firmware.set(vcpu.vm, reg_id, value)
    else:
        raise _unknown(reg_id)


def _general_number(reg_id: int) -> int | None:
    """Return n for the id of Xn."""
    offset = reg_id - _CORE_ID
    return offset >> 1 if 0 <= offset <= 60 and not offset & 1 else None


def _read_only(vcpu: VCPU, encoding: Encoding) -> int:
    if encoding == MPIDR_EL1.encoding:
        return int(vcpu.mpidr)
    if encoding == MIDR_EL1.encoding:
        return int(vcpu.read(VPIDR_EL2))
    if encoding == CTR_EL0.encoding:
        return int(vcpu.pe.read(CTR_EL0))
    return vcpu.vm.id_registers[encoding]


def _check_mode(value: int) -> None:
    pstate = SPSR_EL2(value)
    if pstate.nRW or pstate.M not in _MODES:
        raise KvmError(
            Errno.EINVAL,
            f"PSTATE {value:#x} is of mode {value & 0x1F:#x}; a vCPU runs in AArch64 at EL0t, "
            "EL1t or EL1h (0x0, 0x4 or 0x5)",
        )


def _set_oslsr(vcpu: VCPU, value: int) -> None:
    """Set or clear the OS lock; no other bit of OSLSR_EL1 changes (``set_oslsr_el1``)."""
    locked = OSLSR_EL1(value).OSLK
    if value != vcpu.debug.oslsr.replace(OSLK=locked):
        raise KvmError(
            Errno.EINVAL,
            f"of OSLSR_EL1 only OSLK can be written: {int(vcpu.debug.oslsr):#x} with or without "
            f"0x2, not {value:#x}",
        )
    vcpu.debug.os_lock = bool(locked)


def _check_same(vcpu: VCPU, reg_id: int, value: int) -> None:
    """Accept for a read-only register only the value that it has, as a restore writes it."""
    actual = _read_only(vcpu, _READ_ONLY[reg_id])
    if value != actual:
        raise KvmError(
            Errno.EINVAL,
            f"{_name(reg_id)} is read-only and holds {actual:#x}; {value:#x} cannot be written",
        )


def _name(reg_id: int) -> str:
    number = reg_id & _NUMBER
    encoding = Encoding(
        number >> 14 & 3, number >> 11 & 7, number >> 7 & 15, number >> 3 & 15, number & 7
    )
    register = REGISTERS.get(encoding)
    return f"S{'_'.join(map(str, encoding))}" if register is None else register.__name__


def _unknown(reg_id: int) -> KvmError:
    return KvmError(
        Errno.ENOENT,
        f"no register has the id {reg_id:#x}; one_reg.register_list(vcpu) names those there are",
    )
