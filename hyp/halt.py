"""vCPUs that wait for an interrupt (``kvm_vcpu_halt``, ``kvm_vcpu_block``).

In the kernel, a thread sleeps and others run. Here, a vCPU that has the machine for itself lets
time pass at once; one that shares it says that it waits, and is run again later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.registers.timer import CNTP_CTL_EL0, CNTP_CVAL_EL0
from emu.arch.registers.virtualization import HCR_EL2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hyp.vcpu import VCPU

_VIRTUAL_INTERRUPTS = HCR_EL2.VSE.in_place | HCR_EL2.VI.in_place | HCR_EL2.VF.in_place


def kvm_arch_vcpu_runnable(vcpu: VCPU) -> bool:
    """Return whether a vCPU that waits has been given something to do.

    Without a virtual GIC, user space sees to interrupts, and a timer that fires ends the wait.
    """
    if vcpu.powered_off:
        return False
    vcpu.timer_lines.sync()
    if vcpu.read(HCR_EL2) & _VIRTUAL_INTERRUPTS:
        return True
    lines = vcpu.timer_lines
    return vcpu.vm.vgic is None and (lines.virtual_fires or lines.physical_fires)


def kvm_vcpu_halt(vcpu: VCPU) -> bool:
    """Have a vCPU wait; return whether the wait is over already."""
    vcpu.halted = True
    return kvm_vcpu_block(vcpu)


def kvm_vcpu_block(vcpu: VCPU) -> bool:
    """Go on with a vCPU's wait; return whether it is over.

    A vCPU that has the machine for itself waits as long as any timer will fire.
    """
    while not kvm_arch_vcpu_runnable(vcpu):
        if vcpu.shares_machine or not kvm_idle((vcpu,)):
            return False
    vcpu.halted = False
    return True


def kvm_idle(vcpus: Iterable[VCPU]) -> bool:
    """Let time pass until a timer of one of some waiting vCPUs fires.

    Returns
    -------
    bool
        Whether one will; if not, no time passes.
    """
    expiries = [
        (expiry, vcpu.pe)
        for vcpu in vcpus
        if not vcpu.powered_off and (expiry := vcpu.timer_lines.next_expiry()) is not None
    ]
    if not expiries:
        return False
    count, pe = min(expiries, key=lambda due: due[0])
    # The host's own timer: the guest's physical timer is emulated, and leaves it free.
    saved = pe.read(CNTP_CVAL_EL0), pe.read(CNTP_CTL_EL0)
    pe.write(CNTP_CVAL_EL0(count))
    pe.write(CNTP_CTL_EL0.build(ENABLE=1))
    pe.wait_for_interrupt(virtual=False)
    for register in saved:
        pe.write(register)
    return True
