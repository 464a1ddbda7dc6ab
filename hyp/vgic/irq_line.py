"""KVM_IRQ_LINE: user space moves the input of an interrupt (``kvm_vm_ioctl_irq_line``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.bits import bits
from emu.arch.fields import Layout
from hyp.errors import Errno, KvmError
from hyp.events import IrqLineType, KvmIrqLine
from hyp.vgic.irq import NR_PRIVATE, NR_SGIS

if TYPE_CHECKING:
    from hyp.vgic.vgic import Vgic
    from hyp.vgic.vmlike import VmLike


class IrqLine(Layout):
    """The irq field of ``struct kvm_irq_level``."""

    vcpu2_index = bits(31, 28)
    type = bits(27, 24)
    vcpu_index = bits(23, 16)
    num = bits(15, 0)

    @property
    def vcpu(self) -> int:
        """The vCPU, in both of its fields."""
        return self.vcpu2_index << 8 | self.vcpu_index


def kvm_irq_line(vm: VmLike, vgic: Vgic | None, irq: int, *, level: bool) -> None:
    """Move the input of an interrupt.

    Parameters
    ----------
    vm
        The VM.
    vgic
        Its GIC.
    irq
        Which interrupt, as :class:`IrqLine`: an SPI (type 1) or a PPI (type 2).
    level
        The level, or an edge; see :meth:`~hyp.vgic.vgic.Vgic.kvm_vgic_inject_irq`.

    Raises
    ------
    KvmError
        ENXIO for a type 0, which is for VMs without a GIC, or without a GIC; EINVAL for
        another type, vCPU or number that does not exist; EBUSY for a GICv3 that is not
        initialised.
    """
    line = IrqLine(irq)
    emit = vm.events.emit
    if emit is not None:
        known = line.type <= IrqLineType.PPI
        type_ = IrqLineType(line.type) if known else line.type
        origin = (-1, 0) if vgic is None else vgic.event_origin()
        emit(KvmIrqLine(*origin, type_, line.vcpu, line.num, int(level)))
    if line.type not in (IrqLineType.SPI, IrqLineType.PPI):
        errno = Errno.ENXIO if line.type == IrqLineType.CPU else Errno.EINVAL
        raise KvmError(errno, f"irq {irq:#010x} has type {line.type}; use 1 (SPI) or 2 (PPI)")
    if vgic is None:
        raise KvmError(Errno.ENXIO, "the VM has no GIC; create one first")
    if line.type == IrqLineType.PPI:
        vcpu = vm.vcpus.get(line.vcpu)
        if vcpu is None:
            raise KvmError(Errno.EINVAL, f"irq {irq:#010x}: there is no vCPU {line.vcpu}")
        if not NR_SGIS <= line.num < NR_PRIVATE:
            raise KvmError(Errno.EINVAL, f"irq {irq:#010x}: a PPI is 16 to 31, not {line.num}")
        vgic.kvm_vgic_inject_irq(vcpu, line.num, level=level)
    else:
        if line.num < NR_PRIVATE:
            raise KvmError(Errno.EINVAL, f"irq {irq:#010x}: an SPI is 32 or more, not {line.num}")
        vgic.kvm_vgic_inject_irq(None, line.num, level=level)
