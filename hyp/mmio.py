"""Emulated MMIO (arch/arm64/kvm/mmio.c).

An access outside the slots is offered to the devices in process; if none takes
it, the run ends with an :class:`~hyp.exits.Mmio` exit. The instruction is
completed on the next run: then the answer to a read goes into its register.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import SPSR_EL2
from emu.arch.registers.translation import SCTLR_EL1
from hyp.errors import Errno
from hyp.events import KvmMmio, KvmMmioNisv, MmioType
from hyp.exits import ArmNisv, Error, Exit, Mmio
from hyp.inject import kvm_incr_pc, kvm_pending_sync_exception

if TYPE_CHECKING:
    from emu.arch.address import IPA
    from hyp.fault_info import FaultInfo
    from hyp.vcpu import VCPU

_NISV_MASK: Final = (
    IssDataAbort.CM.in_place | IssDataAbort.WnR.in_place | IssDataAbort.DFSC.in_place
)
"""What KVM_EXIT_ARM_NISV shows of the ISS: CM, WnR and FSC."""
_ISV: Final = IssDataAbort.ISV.in_place
_SAS: Final = IssDataAbort.SAS
_SRT: Final = IssDataAbort.SRT
_SSE: Final = IssDataAbort.SSE.in_place
_SF: Final = IssDataAbort.SF.in_place
_EE: Final = SCTLR_EL1.EE.in_place
_E0E: Final = SCTLR_EL1.E0E.in_place
_MODE: Final = SPSR_EL2.M.in_place
"""0 at EL0 (``vcpu_mode_priv``)."""
_WRITE: Final = MmioType.WRITE
_READ: Final = MmioType.READ
_UNSATISFIED: Final = MmioType.READ_UNSATISFIED
"""Looked up once: an enumeration takes as long as a call to find a member."""


class MmioAccess:
    """An MMIO access that is not completed yet.

    Parameters
    ----------
    phys_addr
        What it accesses, page offset included.
    esr
        ESR_EL2 of its abort, with a valid syndrome.
    is_write
        Whether it is a store.

    Attributes
    ----------
    length
        Its width in bytes.
    register
        The general register of which it is a transfer.
    sign_extends, is_64bit
        What becomes of the answer to a load.
    """

    __slots__ = ("is_64bit", "is_write", "length", "phys_addr", "register", "sign_extends")

    def __init__(self, phys_addr: IPA, esr: int, *, is_write: bool) -> None:
        self.phys_addr = phys_addr
        self.is_write = is_write
        self.length = 1 << (esr >> _SAS.lsb & _SAS.mask)
        self.register = esr >> _SRT.lsb & _SRT.mask
        self.sign_extends = bool(esr & _SSE)
        self.is_64bit = bool(esr & _SF)


def io_mem_abort(vcpu: VCPU, fault: FaultInfo, ipa: IPA) -> Exit | None:
    """Emulate an access to ``ipa``, page offset included."""
    if not fault.esr & _ISV:
        return _no_valid_syndrome(vcpu, fault, ipa)
    access = MmioAccess(ipa, fault.esr, is_write=fault.is_write)
    return _write(vcpu, access) if access.is_write else _read(vcpu, access)


def kvm_handle_mmio_return(vcpu: VCPU) -> None:
    """Complete the access that the last run left behind.

    An abort that user space asked for in the meantime wins: the access then
    never happened.
    """
    access = vcpu.mmio
    vcpu.mmio = None
    if access is None or kvm_pending_sync_exception(vcpu):
        return
    if not access.is_write:
        _complete_read(vcpu, access, vcpu.mmio_data)
    kvm_incr_pc(vcpu)


def _no_valid_syndrome(vcpu: VCPU, fault: FaultInfo, ipa: IPA) -> Exit:
    """Give up on an instruction that the hardware does not describe."""
    vm = vcpu.vm
    if vm.events.emit is not None:
        event = KvmMmioNisv(vcpu.index, vcpu.pe.retired, vcpu.pc, fault.esr, fault.far, ipa)
        vm.events.emit(event)
    if vm.nisv_to_user:
        return ArmNisv(esr_iss=fault.esr & _NISV_MASK, fault_ipa=ipa)
    return Error(
        Errno.ENOSYS,
        f"the instruction at {vcpu.pc:#x} accesses ipa {ipa:#x}, which no slot backs, in a way "
        "that the syndrome does not describe; use a plain load or store of one register, "
        "or enable ARM_NISV_TO_USER",
    )


def _write(vcpu: VCPU, access: MmioAccess) -> Exit | None:
    value = vcpu.pe.read_x(access.register) & (1 << 8 * access.length) - 1
    if is_big_endian(vcpu):
        value = _swap(value, access.length)
    _trace(vcpu, _WRITE, access, value)
    if vcpu.vm.io_bus.write(access.phys_addr, access.length, value):
        vcpu.vm.stats.mmio_exit_kernel += 1
        kvm_incr_pc(vcpu)
        return None
    return _exit_to_user(vcpu, access, value)


def _read(vcpu: VCPU, access: MmioAccess) -> Exit | None:
    _trace(vcpu, _UNSATISFIED, access, 0)
    value = vcpu.vm.io_bus.read(access.phys_addr, access.length)
    if value is None:
        return _exit_to_user(vcpu, access, 0)
    vcpu.vm.stats.mmio_exit_kernel += 1
    _complete_read(vcpu, access, value.to_bytes(access.length, "little"))
    kvm_incr_pc(vcpu)
    return None


def _exit_to_user(vcpu: VCPU, access: MmioAccess, value: int) -> Mmio:
    length = access.length
    vcpu.vm.stats.mmio_exit_user += 1
    vcpu.mmio = access
    vcpu.mmio_data = bytes(length)
    data = value.to_bytes(length, "little")
    return Mmio(access.phys_addr, data, length, access.is_write)


def _complete_read(vcpu: VCPU, access: MmioAccess, data: bytes) -> None:
    """Put the answer into the register: byte order first, then the sign, then the width.

    Old kernels extended the sign first and cut to the length of the access last.
    """
    value = int.from_bytes(data, "little")
    _trace(vcpu, _READ, access, value)
    length = access.length
    if is_big_endian(vcpu):
        value = _swap(value, length)
    if vcpu.vm.profile.extends_mmio and access.sign_extends and value >> (8 * length - 1):
        value -= 1 << 8 * length
    value &= (1 << 64) - 1 if access.is_64bit else (1 << 32) - 1
    vcpu.pe.write_x(access.register, value)


def is_big_endian(vcpu: VCPU) -> bool:
    """Return whether the guest's data accesses are big-endian now (``kvm_vcpu_is_be``)."""
    pe = vcpu.pe
    controls = pe.word(SCTLR_EL1)
    return bool(controls & (_EE if pe.word(SPSR_EL2) & _MODE else _E0E))


def _swap(value: int, length: int) -> int:
    return int.from_bytes(value.to_bytes(length, "little"), "big")


def _trace(vcpu: VCPU, kind: MmioType, access: MmioAccess, value: int) -> None:
    emit = vcpu.vm.events.emit
    if emit is not None:
        time = vcpu.pe.retired
        emit(KvmMmio(vcpu.index, time, kind, access.length, access.phys_addr, value))
