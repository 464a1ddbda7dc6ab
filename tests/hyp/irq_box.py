"""A VM with a GIC and some vCPUs, each of which runs a short program at EL1."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA
from emu.arch.registers.exceptions import SPSR_EL2, VBAR_EL1
from emu.machine import Machine
from hyp import one_reg
from hyp.events import VgicUpdateIrqPending
from hyp.host import HVA, SIZE_4K
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.vgic import DeviceType
from hyp.vgic.attributes import Address, Control, Group
from hyp.vm import VM

if TYPE_CHECKING:
    from hyp.events import Event
    from hyp.vcpu import VCPU
    from hyp.vgic import Vgic

RAM: Final = IPA(0x4000_0000)
SIZE: Final = 1 << 20
PROGRAM: Final = 0x1000
"""Bytes from one vCPU's program to the next one's."""
VECTORS: Final = RAM + 0x8_0000
"""Where each vCPU's exceptions go; they stay there."""
STAY: Final = 0x1400_0000
WFI: Final = 0xD503_207F
NOP: Final = 0xD503_201F
UNMASK_IRQ: Final = 0xD503_42FF
"""MSR DAIFClr, #2."""
EL1H_UNMASKED: Final = 0x345
EL1H_MASKED: Final = 0x3C5
TICK: Final = 16


class IrqBox:
    """A VM.

    Parameters
    ----------
    programs
        The instructions of each vCPU.
    gic
        The version of the GIC; 0 for none.
    pes
        How many PEs there are.
    """

    def __init__(self, *programs: tuple[int, ...], gic: int = 2, pes: int | None = None) -> None:
        self.machine = Machine(8 << 20, pe_count=pes or len(programs))
        self.vm = VM(self.machine)
        hva = self.vm.host.mmap(SIZE, SIZE_4K)
        self.vm.set_user_memory_region(MemoryRegion(0, MemoryRegionFlags(0), RAM, SIZE, hva))
        self.vcpus = [self.vm.create_vcpu(n) for n in range(len(programs))]
        self.events: list[Event] = []
        self.vm.events.subscribe(self.events.append)
        for vector in range(16):
            self.vm.host.write(HVA(hva + VECTORS - RAM + 0x80 * vector), struct.pack("<I", STAY))
        if gic:
            create_gic(self.vm, gic)
            open_gic(self.gic)
        for vcpu, program in zip(self.vcpus, programs, strict=True):
            vcpu.init()
            at = RAM + PROGRAM * vcpu.index
            data = struct.pack(f"<{len(program)}I", *program)
            self.vm.host.write(HVA(hva + at - RAM), data)
            vcpu.write(VBAR_EL1(VECTORS))
            vcpu.set_one_reg(one_reg.PC, at)

    @property
    def gic(self) -> Vgic:
        """The GIC, which there is."""
        assert self.vm.vgic is not None
        return self.vm.vgic

    def levels(self, intid: int, vcpu: int = 0) -> list[bool]:
        """Return the levels that the GIC was told of an interrupt of a vCPU."""
        return [
            event.level
            for event in self.events
            if isinstance(event, VgicUpdateIrqPending)
            and (event.irq, event.vcpu_id) == (intid, vcpu)
        ]


def create_gic(vm: VM, version: int) -> None:
    """Give a VM a GIC, and initialise it."""
    device = vm.create_device(DeviceType.VGIC_V2 if version == 2 else DeviceType.VGIC_V3)
    assert device is not None
    dist, cpu = (
        (Address.V2_DIST, Address.V2_CPU) if version == 2 else (Address.V3_DIST, Address.V3_REDIST)
    )
    device.set_attr(Group.ADDR, dist, 0x0800_0000)
    device.set_attr(Group.ADDR, cpu, 0x080A_0000)
    device.set_attr(Group.NR_IRQS, 0, 64)
    device.set_attr(Group.CTRL, Control.INIT)


def open_gic(gic: Vgic, *, enabled: bool = True) -> None:
    """Let all timers and SPIs through to the vCPUs, as a guest would; or none of them."""
    dist = gic.distributor
    dist.set_enabled(enabled=True)
    for number, cpu in enumerate(dist.cpus):
        cpu.set_pmr(0xF0)
        for group in (0, 1):
            cpu.set_group_enabled(group, enabled=True)
        for intid in (27, 30, *range(32, 64)):
            irq = dist.irq(number, intid)
            assert irq is not None
            irq.enabled = enabled
            dist.requeue(irq)
    dist.settle()


def unmask(vcpu: VCPU) -> None:
    """Let a vCPU take interrupts."""
    vcpu.write(SPSR_EL2(EL1H_UNMASKED))
