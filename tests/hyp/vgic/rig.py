"""A VM that is nothing but vCPUs, with a GIC that is ready for use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA
from hyp.errors import Errno, KvmError
from hyp.event_stream import Events
from hyp.iobus import IoBus
from hyp.vgic import Vgic, VgicDevice
from hyp.vgic.v3_sysregs import ICC_REGISTERS

if TYPE_CHECKING:
    from hyp.events import Event

DIST = IPA(0x0800_0000)
CPU = IPA(0x0801_0000)
REDIST = IPA(0x080A_0000)

SYSREG = {register.name: encoding for encoding, register in ICC_REGISTERS.items()}


@dataclass
class FakePe:
    retired: int = 0


@dataclass
class FakeVcpu:
    index: int
    pe: FakePe = field(default_factory=FakePe)
    has_run_once: bool = False

    @property
    def mpidr(self) -> int:
        return 1 << 31 | self.index & 0xF | (self.index >> 4) << 8


@dataclass
class FakeVm:
    vcpus: dict[int, FakeVcpu]
    ipa_bits: int = 40
    io_bus: IoBus = field(default_factory=IoBus)
    events: Events = field(default_factory=Events)


def fake_vm(nr_vcpus: int) -> FakeVm:
    return FakeVm({index: FakeVcpu(index) for index in range(nr_vcpus)})


class Gic:
    """A GIC, mapped, and the ways to reach it."""

    def __init__(self, version: int, nr_vcpus: int = 2, nr_irqs: int = 96) -> None:
        self.vm = fake_vm(nr_vcpus)
        self.kicked: list[int] = []
        self.events: list[Event] = []
        self.vm.events.subscribe(self.events.append)
        self.vgic = Vgic(self.vm, version, nr_irqs, lambda vcpu: self.kicked.append(vcpu.index))
        self.device = VgicDevice(self.vgic)
        self.vgic.addresses.set_dist(DIST)
        if version == 2:
            self.vgic.addresses.set_cpu(CPU)
        else:
            self.vgic.addresses.add_region(0, REDIST, 0, nr_vcpus)
        self.vgic.init()
        self.vgic.map_resources()

    def _on(self, vcpu: int) -> None:
        self.vgic.load(self.vm.vcpus[vcpu])

    def read(self, address: int, length: int = 4, vcpu: int = 0) -> int:
        self._on(vcpu)
        value = self.vm.io_bus.read(IPA(address), length)
        self.vgic.put()
        assert value is not None
        return value

    def write(self, address: int, value: int, length: int = 4, vcpu: int = 0) -> None:
        self._on(vcpu)
        assert self.vm.io_bus.write(IPA(address), length, value)
        self.vgic.put()

    def dist(self, offset: int, length: int = 4, vcpu: int = 0) -> int:
        return self.read(DIST + offset, length, vcpu)

    def set_dist(self, offset: int, value: int, length: int = 4, vcpu: int = 0) -> None:
        self.write(DIST + offset, value, length, vcpu)

    def cpu(self, offset: int, vcpu: int = 0, length: int = 4) -> int:
        return self.read(CPU + offset, length, vcpu)

    def set_cpu(self, offset: int, value: int, vcpu: int = 0) -> None:
        self.write(CPU + offset, value, 4, vcpu)

    def redist(self, offset: int, length: int = 4, vcpu: int = 0, by: int = 0) -> int:
        return self.read(REDIST + vcpu * 0x2_0000 + offset, length, by)

    def set_redist(
        self, offset: int, value: int, length: int = 4, vcpu: int = 0, by: int = 0
    ) -> None:
        self.write(REDIST + vcpu * 0x2_0000 + offset, value, length, by)

    def mrs(self, name: str, vcpu: int = 0) -> int:
        value = self.vgic.read_sysreg(self.vm.vcpus[vcpu], SYSREG[name])
        assert value is not None
        return value

    def msr(self, name: str, value: int, vcpu: int = 0) -> None:
        assert self.vgic.write_sysreg(self.vm.vcpus[vcpu], SYSREG[name], value)

    def inject(self, intid: int, *, level: bool = True, vcpu: int | None = None) -> None:
        target = None if vcpu is None else self.vm.vcpus[vcpu]
        self.vgic.kvm_vgic_inject_irq(target, intid, level=level)

    def pending(self, vcpu: int = 0) -> bool:
        return self.vgic.pending(self.vm.vcpus[vcpu])

    def fiq_pending(self, vcpu: int = 0) -> bool:
        return self.vgic.fiq_pending(self.vm.vcpus[vcpu])


def ready_gicv2(nr_vcpus: int = 2, nr_irqs: int = 96) -> Gic:
    """Make a GICv2 with everything on, as Linux leaves it."""
    gic = Gic(2, nr_vcpus, nr_irqs)
    gic.set_dist(0x000, 1)
    for vcpu in range(nr_vcpus):
        gic.set_cpu(0x0, 1, vcpu)
        gic.set_cpu(0x4, 0xF0, vcpu)
    return gic


def ready_gicv3(nr_vcpus: int = 2, nr_irqs: int = 96) -> Gic:
    """Make a GICv3 with everything on, as Linux leaves it."""
    gic = Gic(3, nr_vcpus, nr_irqs)
    gic.set_dist(0x000, 2)
    for vcpu in range(nr_vcpus):
        gic.msr("ICC_PMR_EL1", 0xF0, vcpu)
        gic.msr("ICC_IGRPEN1_EL1", 1, vcpu)
    return gic


def refusal(errno: Errno, call: object, *args: object, **kwargs: object) -> KvmError:
    """Return the error with which a call is refused; it is ``errno``."""
    assert callable(call)
    with pytest.raises(KvmError) as caught:
        call(*args, **kwargs)
    error = caught.value
    assert error.errno is errno, f"{error.errno.name}, not {errno.name}: {error}"
    return error
