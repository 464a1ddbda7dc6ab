"""Trapped system registers (arch/arm64/kvm/sys_regs.c).

One table says, by encoding, what a guest's MRS, MSR or SYS does when it traps.
What is not in the table is undefined for the guest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import DC
from emu.arch.esr.iss import IssSystemRegister
from emu.arch.fields import Encoding
from emu.arch.registers.control import ACTLR_EL1
from emu.arch.registers.debug import (
    DBGAUTHSTATUS_EL1,
    DBGCLAIMCLR_EL1,
    DBGCLAIMSET_EL1,
    DBGDTR_EL0,
    DBGDTRRX_EL0,
    DBGPRCR_EL1,
    MDCCINT_EL1,
    MDCCSR_EL0,
    MDRAR_EL1,
    MDSCR_EL1,
    OSDLR_EL1,
    OSLAR_EL1,
    OSLSR_EL1,
)
from emu.arch.registers.exceptions import AFSR0_EL1, AFSR1_EL1, ESR_EL1, FAR_EL1
from emu.arch.registers.identification import (
    CCSIDR_EL1,
    CLIDR_EL1,
    CSSELR_EL1,
    CTR_EL0,
    REVIDR_EL1,
)
from emu.arch.registers.performance import PMMIR_EL1
from emu.arch.registers.ras import ERROR_RECORDS
from emu.arch.registers.timer import (
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTP_TVAL_EL0,
    CNTPCT_EL0,
    CNTPCTSS_EL0,
)
from emu.arch.registers.translation import (
    AMAIR_EL1,
    CONTEXTIDR_EL1,
    MAIR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
)
from emu.arch.registers.virtualization import HCR_EL2
from hyp import pmu_regs
from hyp.debug import COMPARATORS
from hyp.events import KvmHandleSysReg, KvmSetWayFlush, KvmSysAccess, KvmToggleCache
from hyp.idregs import ID_SPACE, id_register_name
from hyp.inject import kvm_incr_pc, kvm_inject_undefined
from hyp.pmu_regs import PMU_REGISTERS
from hyp.stage2_mmu import stage2_flush_vm
from hyp.vgic.v3_sysregs import ICC_REGISTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import SystemRegister
    from hyp.pmu_regs import PmuRegister
    from hyp.vcpu import VCPU


@dataclass(frozen=True, slots=True)
class SysRegDesc:
    """What a trapped access to one register does.

    Parameters
    ----------
    name
        As the trace prints it.
    read, write
        The access; ``None`` where it is undefined. A function returns ``None`` or ``False``
        if it is undefined for this vCPU.
    """

    name: str
    read: Callable[[VCPU], int | None] | None = None
    write: Callable[[VCPU, int], bool | None] | None = None


_DEBUG_REGISTERS: Final[tuple[type[SystemRegister], ...]] = (
    *COMPARATORS,
    MDCCINT_EL1,
    MDSCR_EL1,
)
"""Debug registers that a guest has once it has used one of them."""

_DEBUG_RAZ_WI: Final[tuple[type[SystemRegister], ...]] = (
    MDRAR_EL1,
    OSDLR_EL1,
    DBGPRCR_EL1,
    DBGCLAIMSET_EL1,
    DBGCLAIMCLR_EL1,
    MDCCSR_EL0,
    DBGDTR_EL0,
    DBGDTRRX_EL0,
)
"""Debug registers that read as zero, whatever is written."""

_TVM_REGISTERS: Final[tuple[type[SystemRegister], ...]] = (
    SCTLR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
    TCR_EL1,
    ESR_EL1,
    FAR_EL1,
    AFSR0_EL1,
    AFSR1_EL1,
    MAIR_EL1,
    AMAIR_EL1,
    CONTEXTIDR_EL1,
)
"""What HCR_EL2.TVM traps the writing of."""

_SET_WAY_OPERATIONS: Final = (DC.ISW, DC.CSW, DC.CISW)


def kvm_handle_sys_reg(vcpu: VCPU, esr: int) -> None:
    """Emulate a trapped MRS, MSR or SYS (the exit handler of SYS64)."""
    emit = vcpu.vm.events.emit
    if emit is not None:
        emit(KvmHandleSysReg(vcpu.index, vcpu.pe.retired, esr))
    desc = _BY_ISS.get(esr & _ISS_ENCODING)
    if desc is None:
        kvm_inject_undefined(vcpu)
        return
    if emit is not None:
        iss = IssSystemRegister(esr)
        is_write = not iss.Direction
        time = vcpu.pe.retired
        emit(KvmSysAccess(vcpu.index, time, vcpu.pc, desc.name, iss.encoding, is_write))
    if _access(vcpu, desc, esr):
        kvm_incr_pc(vcpu)
    else:
        kvm_inject_undefined(vcpu)


def _access(vcpu: VCPU, desc: SysRegDesc, esr: int) -> bool:
    """Do an access; return whether it is defined."""
    rt = esr >> _RT_SHIFT & _RT_MASK
    if esr & _DIRECTION:
        value = None if desc.read is None else desc.read(vcpu)
        if value is None:
            return False
        vcpu.pe.write_x(rt, value)
        return True
    return desc.write is not None and desc.write(vcpu, vcpu.pe.read_x(rt)) is not False


# --- caches: set/way operations and the registers that switch them ---------------------------


def vcpu_has_cache_enabled(vcpu: VCPU) -> bool:
    """Return whether the guest runs with its MMU and data cache on."""
    sctlr = vcpu.pe.read(SCTLR_EL1)
    return bool(sctlr.M and sctlr.C)


def kvm_set_way_flush(vcpu: VCPU) -> None:
    """Emulate cache maintenance by set and way.

    It cannot be done on behalf of a guest; a guest uses it to turn its caches
    on or off. So all of its memory is cleaned now and once more when that
    happens, which TVM tells.
    """
    hcr = vcpu.pe.read(HCR_EL2)
    if hcr.TVM:
        return
    emit = vcpu.vm.events.emit
    if emit is not None:
        cache = vcpu_has_cache_enabled(vcpu)
        emit(KvmSetWayFlush(vcpu.index, vcpu.pe.retired, vcpu.pc, cache))
    stage2_flush_vm(vcpu.vm)
    vcpu.pe.write(hcr.replace(TVM=1))


def kvm_toggle_cache(vcpu: VCPU, *, was_enabled: bool) -> None:
    """Clean memory if the guest has just turned its caches on or off."""
    now_enabled = vcpu_has_cache_enabled(vcpu)
    if now_enabled != was_enabled:
        stage2_flush_vm(vcpu.vm)
    if now_enabled:
        vcpu.pe.write(vcpu.pe.read(HCR_EL2).replace(TVM=0))
    emit = vcpu.vm.events.emit
    if emit is not None:
        time = vcpu.pe.retired
        emit(KvmToggleCache(vcpu.index, time, vcpu.pc, was_enabled, now_enabled))


def _access_dcsw(vcpu: VCPU, _value: int) -> None:
    """Handle DC by set and way; with FEAT_S2FWB there is nothing to clean."""
    if not vcpu.vm.features.fwb:
        kvm_set_way_flush(vcpu)


def _access_vm_reg(register: type[SystemRegister]) -> SysRegDesc:
    """Let a write to a translation register through, and see what it does to the caches."""

    def write(vcpu: VCPU, value: int) -> None:
        was_enabled = vcpu_has_cache_enabled(vcpu)
        vcpu.pe.write(register(value))
        kvm_toggle_cache(vcpu, was_enabled=was_enabled)

    return SysRegDesc(register.__name__, lambda vcpu: vcpu.pe.read(register), write)


def _ccsidr(vcpu: VCPU) -> int:
    """Describe a cache of one set and one way: a loop over sets and ways then ends at once."""
    return CCSIDR_EL1.build(LineSize=vcpu.pe.read(CTR_EL0).DminLine - 2)


# --- the table -------------------------------------------------------------------------------


def _zero(_vcpu: VCPU) -> int:
    return 0


def _ignore(_vcpu: VCPU, _value: int) -> None:
    pass


def _raz_wi(name: str) -> SysRegDesc:
    return SysRegDesc(name, _zero, _ignore)


def _id_register(encoding: Encoding) -> SysRegDesc:
    return SysRegDesc(id_register_name(encoding), lambda vcpu: vcpu.vm.id_registers[encoding])


def _set_csselr(vcpu: VCPU, value: int) -> None:
    vcpu.csselr = CSSELR_EL1(value)


def _trap_debug_reg(register: type[SystemRegister]) -> SysRegDesc:
    """Access a debug register for the guest; from then on the registers are its own."""

    def read(vcpu: VCPU) -> int:
        vcpu.debug.access()
        return vcpu.debug.read(register)

    def write(vcpu: VCPU, value: int) -> None:
        vcpu.debug.access()
        vcpu.debug.write(register(value))

    return SysRegDesc(register.__name__, read, write)


def _set_os_lock(vcpu: VCPU, value: int) -> None:
    vcpu.debug.set_os_lock(bool(value & OSLAR_EL1.OSLK.in_place))


def _set_cntp_ctl(vcpu: VCPU, value: int) -> None:
    vcpu.timer.control = CNTP_CTL_EL0(value)


def _set_cntp_cval(vcpu: VCPU, value: int) -> None:
    vcpu.timer.set_cval(value)


def _set_cntp_tval(vcpu: VCPU, value: int) -> None:
    vcpu.timer.tval = value


def _pmu_register(row: PmuRegister) -> SysRegDesc:
    return SysRegDesc(
        row.name, partial(pmu_regs.read, register=row), partial(pmu_regs.write, register=row)
    )


def _gic_register(encoding: Encoding, name: str) -> SysRegDesc:
    """Describe a register of the GICv3's CPU interface, which only VMs with one have."""

    def read(vcpu: VCPU) -> int | None:
        vgic = vcpu.vm.vgic
        return None if vgic is None else vgic.read_sysreg(vcpu, encoding)

    def write(vcpu: VCPU, value: int) -> bool:
        vgic = vcpu.vm.vgic
        return vgic is not None and vgic.write_sysreg(vcpu, encoding, value)

    return SysRegDesc(name, read, write)


SYS_REG_DESCS: Final[dict[Encoding, SysRegDesc]] = {
    **{
        Encoding(1, *op.encoding): SysRegDesc(f"DC {op.name}", None, _access_dcsw)
        for op in _SET_WAY_OPERATIONS
    },
    **{register.encoding: _trap_debug_reg(register) for register in _DEBUG_REGISTERS},
    OSLAR_EL1.encoding: SysRegDesc("OSLAR_EL1", None, _set_os_lock),
    OSLSR_EL1.encoding: SysRegDesc("OSLSR_EL1", lambda vcpu: vcpu.debug.oslsr),
    DBGAUTHSTATUS_EL1.encoding: SysRegDesc(
        "DBGAUTHSTATUS_EL1", lambda vcpu: vcpu.pe.read(DBGAUTHSTATUS_EL1)
    ),
    **{register.encoding: _raz_wi(register.__name__) for register in _DEBUG_RAZ_WI},
    **{register.encoding: _raz_wi(register.__name__) for register in ERROR_RECORDS},
    REVIDR_EL1.encoding: SysRegDesc("REVIDR_EL1", _zero),
    Encoding(3, 1, 0, 0, 7): SysRegDesc("AIDR_EL1", _zero),
    **{encoding: _id_register(encoding) for encoding in ID_SPACE},
    ACTLR_EL1.encoding: _raz_wi("ACTLR_EL1"),
    PMMIR_EL1.encoding: _raz_wi("PMMIR_EL1"),
    **{encoding: _pmu_register(row) for encoding, row in PMU_REGISTERS.items()},
    **{
        encoding: _gic_register(encoding, register.name)
        for encoding, register in ICC_REGISTERS.items()
    },
    **{register.encoding: _access_vm_reg(register) for register in _TVM_REGISTERS},
    CCSIDR_EL1.encoding: SysRegDesc("CCSIDR_EL1", _ccsidr),
    CLIDR_EL1.encoding: SysRegDesc("CLIDR_EL1", lambda vcpu: vcpu.pe.read(CLIDR_EL1)),
    CSSELR_EL1.encoding: SysRegDesc("CSSELR_EL1", lambda vcpu: vcpu.csselr, _set_csselr),
    CTR_EL0.encoding: SysRegDesc("CTR_EL0", lambda vcpu: vcpu.pe.read(CTR_EL0)),
    CNTPCT_EL0.encoding: SysRegDesc("CNTPCT_EL0", lambda vcpu: vcpu.timer.count),
    CNTPCTSS_EL0.encoding: SysRegDesc("CNTPCTSS_EL0", lambda vcpu: vcpu.timer.count),
    CNTP_TVAL_EL0.encoding: SysRegDesc(
        "CNTP_TVAL_EL0", lambda vcpu: vcpu.timer.tval, _set_cntp_tval
    ),
    CNTP_CTL_EL0.encoding: SysRegDesc(
        "CNTP_CTL_EL0", lambda vcpu: vcpu.timer.control, _set_cntp_ctl
    ),
    CNTP_CVAL_EL0.encoding: SysRegDesc(
        "CNTP_CVAL_EL0", lambda vcpu: vcpu.timer.cval, _set_cntp_cval
    ),
}
"""What KVM emulates, by encoding."""

_RT_SHIFT: Final = IssSystemRegister.Rt.lsb
_RT_MASK: Final = IssSystemRegister.Rt.mask
_DIRECTION: Final = IssSystemRegister.Direction.in_place
_ISS_ENCODING: Final = int(IssSystemRegister.build(Op0=3, Op1=7, CRn=15, CRm=15, Op2=7))
_BY_ISS: Final = {
    int(
        IssSystemRegister.build(
            Op0=encoding.op0,
            Op1=encoding.op1,
            CRn=encoding.CRn,
            CRm=encoding.CRm,
            Op2=encoding.op2,
        )
    ): desc
    for encoding, desc in SYS_REG_DESCS.items()
}
"""The same by the fields of the syndrome that name the register."""
