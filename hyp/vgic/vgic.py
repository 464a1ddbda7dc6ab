"""The virtual GIC of a VM: one object for those who inject, deliver and serve interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA
from hyp.errors import Errno, KvmError
from hyp.events import VgicUpdateIrqPending
from hyp.vgic import v2_cpu, v2_dist, v3_dist, v3_redist
from hyp.vgic.addresses import Addresses
from hyp.vgic.bank import View
from hyp.vgic.cpuif import Signal
from hyp.vgic.dist import Distributor
from hyp.vgic.frame import Frame
from hyp.vgic.irq import NR_PRIVATE
from hyp.vgic.v3_sysregs import ICC_REGISTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import Encoding
    from hyp.vgic.cpuif import CpuState
    from hyp.vgic.dist import DistState
    from hyp.vgic.vmlike import VcpuLike, VmLike

_IRQ: Final = Signal.IRQ
_FIQ: Final = Signal.FIQ

DEFAULT_NR_IRQS: Final = 256
"""VGIC_NR_IRQS_LEGACY: the INTIDs of a GIC for which user space sets no number."""

MAX_VCPUS: Final = {2: 8, 3: 512}
"""By version: VGIC_V2_MAX_CPUS and VGIC_V3_MAX_CPUS."""


class VgicState(NamedTuple):
    """All that changes while a VM runs."""

    dist: DistState
    cpus: list[CpuState]


class Vgic:
    """A GICv2 or GICv3 as KVM emulates it.

    It comes to life in three steps, as in KVM: it is created, it is initialised once all
    vCPUs exist, and its frames are mapped before the first of them runs.

    Parameters
    ----------
    vm
        The VM.
    version
        2 or 3.
    nr_irqs
        How many INTIDs there are: 64 to 992, a multiple of 32. 256 unless it is set.
    kick
        Called with a vCPU when ``pending`` or ``fiq_pending`` has changed for it.

    Attributes
    ----------
    addresses
        Where the guest finds it.
    ready
        Whether the frames are mapped.
    resample
        Called with a vCPU before its guest looks at interrupts: levels that nobody reports
        as they change are then injected (``vgic_get_phys_line_level``).

    Raises
    ------
    KvmError
        EINVAL for another version or number of interrupts, E2BIG for too many vCPUs.
    """

    def __init__(
        self,
        vm: VmLike,
        version: int,
        nr_irqs: int | None = None,
        kick: Callable[[VcpuLike], None] | None = None,
    ) -> None:
        if version not in MAX_VCPUS:
            raise KvmError(Errno.EINVAL, f"there is no virtual GICv{version}; use 2 or 3")
        if len(vm.vcpus) > MAX_VCPUS[version]:
            raise KvmError(
                Errno.E2BIG,
                f"a GICv{version} is for {MAX_VCPUS[version]} vCPUs, and the VM has "
                f"{len(vm.vcpus)}",
            )
        self.vm = vm
        self.version = version
        self.kick = kick
        self.addresses = Addresses(version, vm.ipa_bits)
        self.ready = False
        self.resample: Callable[[VcpuLike], None] | None = None
        self._nr_irqs: int | None = None
        self._dist: Distributor | None = None
        self._vcpus: list[VcpuLike] = []
        self._numbers: dict[int, int] = {}
        self._loaded: int | None = None
        if nr_irqs is not None:
            self.set_nr_irqs(nr_irqs)

    # --- coming to life ------------------------------------------------------------------

    @property
    def nr_irqs(self) -> int:
        """The number of INTIDs; only the private ones until it is settled."""
        return self._nr_irqs or NR_PRIVATE

    def set_nr_irqs(self, nr_irqs: int) -> None:
        """Choose the number of INTIDs (KVM_DEV_ARM_VGIC_GRP_NR_IRQS).

        Raises
        ------
        KvmError
            EINVAL for an impossible number, EBUSY if it is chosen already.
        """
        if not 64 <= nr_irqs < 1024 or nr_irqs % 32:
            raise KvmError(
                Errno.EINVAL, f"{nr_irqs} interrupts are not possible; use 64, 96, ... 992"
            )
        if self.ready or self._nr_irqs is not None:
            raise KvmError(Errno.EBUSY, f"the GIC has {self.nr_irqs} interrupts already")
        self._nr_irqs = nr_irqs

    @property
    def initialized(self) -> bool:
        """Whether the number of vCPUs and interrupts is settled."""
        return self._dist is not None

    def init(self) -> None:
        """Settle the number of vCPUs and interrupts (``vgic_init``). Once is enough.

        Raises
        ------
        KvmError
            ENODEV if there is no vCPU.
        """
        if self._dist is not None:
            return
        vcpus = list(self.vm.vcpus.values())
        if not vcpus:
            raise KvmError(Errno.ENODEV, "the VM has no vCPU yet; create its vCPUs first")
        if self._nr_irqs is None:
            self._nr_irqs = DEFAULT_NR_IRQS
        self._vcpus = vcpus
        self._numbers = {vcpu.index: number for number, vcpu in enumerate(vcpus)}
        self._dist = Distributor(self.version, [vcpu.mpidr for vcpu in vcpus], self._nr_irqs)
        self._dist.on_signal = self._on_signal

    def lazy_init(self) -> None:
        """Initialise a GICv2 that is needed; a GICv3 waits for user space (``vgic_lazy_init``).

        Raises
        ------
        KvmError
            EBUSY for a GICv3 that is not initialised, ENODEV if there is no vCPU.
        """
        if self._dist is None:
            self._refuse_uninitialized_v3()
            self.init()

    def _refuse_uninitialized_v3(self) -> None:
        if self.version == 3 and self._dist is None:
            raise KvmError(
                Errno.EBUSY, "the GICv3 is not initialised; set KVM_DEV_ARM_VGIC_CTRL_INIT"
            )

    def vcpu_init(self) -> None:
        """Take note that a vCPU was created (``kvm_vgic_vcpu_init``).

        Raises
        ------
        KvmError
            EBUSY if the number of vCPUs is settled, E2BIG for too many, EINVAL if its
            redistributor does not fit.
        """
        nr_vcpus = len(self.vm.vcpus)
        if self.initialized:
            raise KvmError(Errno.EBUSY, "the GIC is initialised; create vCPUs before that")
        if nr_vcpus > MAX_VCPUS[self.version]:
            raise KvmError(
                Errno.E2BIG, f"a GICv{self.version} is for {MAX_VCPUS[self.version]} vCPUs"
            )
        placed = any(self.addresses.places(nr_vcpus))
        if placed and not self.addresses.is_consistent(nr_vcpus):
            raise KvmError(
                Errno.EINVAL, f"with {nr_vcpus} redistributors, the frames of the GIC overlap"
            )

    def map_resources(self) -> None:
        """Put the frames on the io bus; to be called when a vCPU runs for the first time.

        Raises
        ------
        KvmError
            ENXIO if an address is missing, EINVAL if frames overlap, EBUSY for a GICv3 that is
            not initialised, EEXIST if another device is in the way.
        """
        if self.ready:
            return
        nr_vcpus = len(self.vm.vcpus)
        self.addresses.check_complete(nr_vcpus)
        self.lazy_init()
        assert self.addresses.dist is not None
        bus = self.vm.io_bus
        if self.version == 2:
            assert self.addresses.cpu is not None
            bus.register(self.addresses.dist, v2_dist.SIZE, self.distributor_frame())
            bus.register(self.addresses.cpu, v2_cpu.SIZE, self.cpu_frame())
        else:
            bus.register(self.addresses.dist, v3_dist.SIZE, self.distributor_frame())
            for number, place in enumerate(self.addresses.places(nr_vcpus)):
                assert place is not None
                frame = Frame(self, v3_redist.GICR, number)
                bus.register(IPA(place.base), v3_redist.SIZE, frame)
        self.ready = True

    # --- frames --------------------------------------------------------------------------

    def distributor_frame(self) -> Frame:
        """Return GICD as a device. Its banked registers are of the loaded vCPU."""
        return Frame(self, v2_dist.GICD if self.version == 2 else v3_dist.GICD)

    def cpu_frame(self) -> Frame:
        """Return GICC of a GICv2 as a device, that of the loaded vCPU."""
        return Frame(self, v2_cpu.GICC)

    def redistributor_frame(self, vcpu: VcpuLike) -> Frame:
        """Return GICR of a GICv3 as a device: that of ``vcpu``, whoever accesses it."""
        return Frame(self, v3_redist.GICR, self.number_of(vcpu))

    def guest_view(self, number: int | None = None) -> View:
        """Return the registers as the loaded vCPU sees them; those of ``number`` if given."""
        by = self._loaded or 0
        if self.resample is not None and self._loaded is not None:
            self.resample(self._vcpus[by])
        if number is None:
            return View(self.distributor, by, by)
        return View(self.distributor, number, by, self._is_last(number))

    def user_view(self, number: int) -> View:
        """Return the registers of a vCPU as user space sees them."""
        return View(self.distributor, number, None, self._is_last(number))

    def _is_last(self, number: int) -> bool:
        return self.version == 3 and self.addresses.is_last(number, len(self._vcpus))

    @property
    def distributor(self) -> Distributor:
        """The distributor.

        Raises
        ------
        KvmError
            EBUSY if the GIC is not initialised.
        """
        if self._dist is None:
            raise KvmError(Errno.EBUSY, "the GIC is not initialised; call init()")
        return self._dist

    # --- vCPUs ---------------------------------------------------------------------------

    def number_of(self, vcpu: VcpuLike) -> int:
        """Return a vCPU's place in the order of creation.

        Raises
        ------
        KvmError
            EINVAL for a vCPU that the GIC does not know.
        """
        number = self._numbers.get(vcpu.index)
        if number is None:
            raise KvmError(Errno.EINVAL, f"vCPU {vcpu.index} is not one of this GIC's")
        return number

    def load(self, vcpu: VcpuLike) -> int | None:
        """Take note that ``vcpu`` runs: accesses to banked registers are its own.

        Returns
        -------
        int or None
            For :meth:`put`: the vCPU during whose run this one is run.
        """
        before, self._loaded = self._loaded, self.number_of(vcpu)
        return before

    def put(self, before: int | None = None) -> None:
        """Take note that the vCPU does not run: user space may access registers again."""
        self._loaded = before

    @property
    def is_busy(self) -> bool:
        """Whether a vCPU runs, so that user space has to wait."""
        return self._loaded is not None

    def pending(self, vcpu: VcpuLike) -> bool:
        """Return whether a vCPU's virtual IRQ is asserted (HCR_EL2.VI)."""
        return self._signal(vcpu) is _IRQ

    def fiq_pending(self, vcpu: VcpuLike) -> bool:
        """Return whether a vCPU's virtual FIQ is asserted (HCR_EL2.VF)."""
        return self._signal(vcpu) is _FIQ

    def _signal(self, vcpu: VcpuLike) -> Signal:
        if self._dist is None:
            return Signal.NONE
        return self._dist.signals[self.number_of(vcpu)]

    def _on_signal(self, number: int) -> None:
        if self.kick is not None:
            self.kick(self._vcpus[number])

    # --- interrupts ----------------------------------------------------------------------

    def kvm_vgic_inject_irq(self, vcpu: VcpuLike | None, intid: int, *, level: bool) -> None:
        """Move the input of an interrupt.

        Parameters
        ----------
        vcpu
            Whose interrupt it is, for an SGI or a PPI.
        intid
            Its number.
        level
            The new level of a level-sensitive interrupt; true triggers an edge-triggered one,
            false does nothing to it.

        Raises
        ------
        KvmError
            EINVAL if there is no such interrupt, or no vCPU for a private one; EBUSY and
            ENODEV as for :meth:`lazy_init`.
        """
        self.lazy_init()
        if vcpu is None and intid < NR_PRIVATE:
            raise KvmError(Errno.EINVAL, f"interrupt {intid} is private; say of which vCPU")
        self._trace(vcpu, intid, level=level)
        dist = self.distributor
        irq = dist.irq(0 if vcpu is None else self.number_of(vcpu), intid)
        if irq is None:
            raise KvmError(
                Errno.EINVAL, f"there is no interrupt {intid}; use one below {self.nr_irqs}"
            )
        dist.inject(irq, level=level)
        dist.settle()

    def _trace(self, vcpu: VcpuLike | None, intid: int, *, level: bool) -> None:
        emit = self.vm.events.emit
        if emit is not None:
            index = 0 if vcpu is None else vcpu.index
            emit(VgicUpdateIrqPending(*self.event_origin(), index, intid, level))

    def event_origin(self) -> tuple[int, int]:
        """Return the vCPU that runs, and its time: -1 and 0 for user space."""
        if self._loaded is None:
            return -1, 0
        vcpu = self._vcpus[self._loaded]
        return vcpu.index, vcpu.pe.retired

    # --- system registers ----------------------------------------------------------------

    def read_sysreg(self, vcpu: VcpuLike, encoding: Encoding) -> int | None:
        """Return what MRS gives; ``None`` where it is undefined. IAR takes an interrupt."""
        register = ICC_REGISTERS.get(encoding)
        if self.version != 3 or self._dist is None or register is None or register.read is None:
            return None
        if self.resample is not None:
            self.resample(vcpu)
        number = self.number_of(vcpu)
        value = register.read(View(self._dist, number, number))
        self._dist.settle()
        return value

    def write_sysreg(self, vcpu: VcpuLike, encoding: Encoding, value: int) -> bool:
        """Do MSR; return whether it is defined."""
        register = ICC_REGISTERS.get(encoding)
        if self.version != 3 or self._dist is None or register is None or register.write is None:
            return False
        if self.resample is not None:
            self.resample(vcpu)
        number = self.number_of(vcpu)
        register.write(View(self._dist, number, number), value)
        self._dist.settle()
        return True

    # --- snapshots -----------------------------------------------------------------------

    def save(self) -> VgicState:
        """Return a copy of all that changes while the VM runs.

        Raises
        ------
        KvmError
            EBUSY if the GIC is not initialised.
        """
        return VgicState(*self.distributor.save())

    def restore(self, state: VgicState) -> None:
        """Return to what :meth:`save` gave, for this GIC or an equal one.

        Raises
        ------
        KvmError
            EBUSY if the GIC is not initialised, EINVAL for the state of an unequal one.
        """
        dist = self.distributor
        if len(state.cpus) != len(dist.cpus) or len(state.dist.spis) != len(dist.state.spis):
            raise KvmError(
                Errno.EINVAL,
                f"the state is of {len(state.cpus)} vCPUs and {len(state.dist.spis)} SPIs, the "
                f"GIC has {len(dist.cpus)} and {len(dist.state.spis)}",
            )
        dist.restore((state.dist, state.cpus))
