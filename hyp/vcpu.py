"""A virtual CPU: the vCPU file descriptor of KVM (arch/arm64/kvm/arm.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from emu.arch.address import VA
from emu.arch.registers.exceptions import ELR_EL2, SPSR_EL2
from emu.arch.registers.identification import CSSELR_EL1
from emu.arch.registers.translation import SCTLR_EL1
from hyp import one_reg, vcpu_attributes
from hyp.context import KvmCpuContext
from hyp.debug import VcpuDebug
from hyp.errors import Errno, KvmError
from hyp.inject import kvm_inject_sea, kvm_inject_serror
from hyp.memcache import MemoryCache
from hyp.pvtime import StolenTime
from hyp.reset import kvm_reset_vcpu, vcpu_mpidr
from hyp.stage2_mmu import stage2_unmap_vm
from hyp.timer import PhysicalTimer, TimerLines
from hyp.vcpu_features import VcpuFeature, kvm_vcpu_set_features
from hyp.vcpu_run import VcpuRun

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement
    from hyp.debug import GuestDebug, GuestDebugArch
    from hyp.exits import Exit
    from hyp.fault_info import FaultInfo
    from hyp.inject import PendingException
    from hyp.mmio import MmioAccess
    from hyp.percpu import HostCpu
    from hyp.pmu import Pmu
    from hyp.vm import VM

R = TypeVar("R", bound="SystemRegister")

FOREVER: Final = 1 << 62
"""A budget that no run spends."""


class VCPU:
    """A virtual CPU. It runs on any processing element, and is loaded there until another is.

    Parameters
    ----------
    vm
        The virtual machine it belongs to.
    index
        Its number.

    Attributes
    ----------
    pe
        Where it runs, ran last, or would run if nothing else were said.
    loaded_on
        The CPU that holds its registers; None if ``ctxt`` does.
    ctxt
        Its registers while it is not loaded.
    timer, timer_lines
        Its physical timer, and the outputs of both of its timers.
    halted
        Whether it waits for an interrupt.
    shares_machine
        Whether other vCPUs are to run while it waits: see :meth:`run`.
    immediate_exit
        If set, a run completes the pending MMIO access and returns at once.
    powered_off
        Whether PSCI has turned it off.
    has_run_once
        Whether it has been run: some things can be set up only before that.
    dirty_ring
        The pages that it has dirtied, if the VM logs in rings.
    pmu
        Its performance monitors, if it has the feature.
    stolen_time
        What is taken from it while it could run.
    """

    pe: ProcessingElement
    timer: PhysicalTimer
    timer_lines: TimerLines
    debug: VcpuDebug
    csselr: CSSELR_EL1

    def __init__(self, vm: VM, index: int) -> None:
        self.vm = vm
        self.index = index
        self.pe = self._cpu(None).pe
        self.loaded_on: HostCpu | None = None
        self.ctxt = KvmCpuContext()
        self.halted = False
        self.shares_machine = False
        self.mpidr = vcpu_mpidr(index)
        self.immediate_exit = False
        self.powered_off = False
        self.has_run_once = False
        self.memcache = MemoryCache(vm.host.frames)
        self.dirty_ring = vm.dirty_log.new_ring()
        self.timer = PhysicalTimer(self)
        self.timer_lines = TimerLines(self)
        self.debug = VcpuDebug(self)
        self.csselr = CSSELR_EL1(0)
        self.pmu: Pmu | None = None
        self.stolen_time = StolenTime()

        self.fault: FaultInfo | None = None
        self.mmio: MmioAccess | None = None
        self.mmio_data = b""
        self.pending_exception: PendingException | None = None
        self.pending_incr_pc = False

        self._initialised = False
        self._run = VcpuRun(self)

    # --- state ---------------------------------------------------------------------------

    @property
    def pc(self) -> VA:
        """The guest's PC."""
        if self.loaded_on is not None:
            return VA(self.pe.word(ELR_EL2))
        return VA(int(self.read(ELR_EL2)))

    @property
    def pstate(self) -> SPSR_EL2:
        """The guest's PSTATE."""
        return self.read(SPSR_EL2)

    def read(self, register: type[R]) -> R:
        """Read a system register, wherever it is (``vcpu_read_sys_reg``)."""
        if self.loaded_on is not None:
            return self.pe.read(register)
        if register in self.ctxt.system:
            return self.ctxt.read(register)
        return self.pe.read(register)

    def write(self, value: SystemRegister) -> None:
        """Write a system register, wherever it is (``vcpu_write_sys_reg``)."""
        if self.loaded_on is not None:
            self.pe.write(value)
        else:
            self.ctxt.write(value)

    def read_x(self, number: int) -> int:
        """Read X0 to X30, wherever it is (``vcpu_get_reg``)."""
        return self.pe.read_x(number) if self.loaded_on is not None else self.ctxt.x[number]

    def write_x(self, number: int, value: int) -> None:
        """Write X0 to X30, wherever it is (``vcpu_set_reg``)."""
        if self.loaded_on is not None:
            self.pe.write_x(number, value)
        else:
            self.ctxt.x[number] = value

    def init(self, *, power_off: bool = False, pmu: bool = False) -> None:
        """Reset to the architected state (KVM_ARM_VCPU_INIT).

        Parameters
        ----------
        power_off
            KVM_ARM_VCPU_POWER_OFF: wait for PSCI CPU_ON.
        pmu
            KVM_ARM_VCPU_PMU_V3: have performance monitors.

        Raises
        ------
        KvmError
            EINVAL for features that the machine lacks, or others than those of the VM's
            first vCPU.
        """
        kvm_vcpu_set_features(
            self, VcpuFeature.PSCI_0_2 | (VcpuFeature.PMU_V3 if pmu else VcpuFeature(0))
        )
        if self._initialised:
            stage2_unmap_vm(self.vm)
        self._reset()
        self.powered_off = power_off
        self._initialised = True

    def power_on(self, entry: VA, context_id: int, *, big_endian: bool = False) -> None:
        """Reset and start at ``entry`` with ``context_id`` in x0 (PSCI CPU_ON).

        It has the byte order of its caller.
        """
        self._reset()
        if big_endian:
            self.write(self.read(SCTLR_EL1).replace(EE=1))
        self.write(ELR_EL2(entry))
        self.write_x(0, context_id)
        self.powered_off = False
        self.vm.woken = True

    def _reset(self) -> None:
        kvm_reset_vcpu(self)
        self.mmio = None
        self.pending_exception = None
        self.pending_incr_pc = False
        self.timer = PhysicalTimer(self)
        self.timer_lines.sync()  # their outputs are low now
        self.csselr = CSSELR_EL1(0)
        if self.pmu is not None:
            self.pmu.reset()
        self.halted = False
        self.vm.interrupts.update(self)

    def set_device_attr(self, group: int, attr: int, value: int = 0) -> None:
        """Set an attribute (KVM_SET_DEVICE_ATTR).

        Parameters
        ----------
        group, attr
            Of :class:`~hyp.vcpu_attributes.VcpuGroup`, and one of the group's.
        value
            The attribute, as a number.

        Raises
        ------
        KvmError
            ENXIO for an attribute that there is not; others as its group says.
        """
        vcpu_attributes.set_device_attr(self, group, attr, value)

    def get_device_attr(self, group: int, attr: int) -> int:
        """Return an attribute (KVM_GET_DEVICE_ATTR); errors as for :meth:`set_device_attr`."""
        return vcpu_attributes.get_device_attr(self, group, attr)

    def has_device_attr(self, group: int, attr: int) -> bool:
        """Whether an attribute can be set (KVM_HAS_DEVICE_ATTR)."""
        return vcpu_attributes.has_device_attr(self, group, attr)

    def get_one_reg(self, reg_id: int) -> int:
        """Read a register (KVM_GET_ONE_REG); ids are made by :mod:`hyp.one_reg`.

        Raises
        ------
        KvmError
            ENOENT for an id that names no register.
        """
        return one_reg.get(self, reg_id)

    def set_one_reg(self, reg_id: int, value: int) -> None:
        """Write a register (KVM_SET_ONE_REG).

        Raises
        ------
        KvmError
            ENOENT for an id that names no register; EINVAL for a value it cannot have.
        """
        one_reg.set(self, reg_id, value)

    def set_guest_debug(
        self, control: GuestDebug | int, arch: GuestDebugArch | None = None
    ) -> None:
        """Debug the guest, or no longer (KVM_SET_GUEST_DEBUG); runs end with ``Debug``.

        Parameters
        ----------
        control
            Flags of :class:`hyp.debug.GuestDebug`; without ENABLE, nothing is debugged.
        arch
            For USE_HW: the breakpoints and watchpoints.

        Raises
        ------
        KvmError
            EINVAL for other flags, or values that the registers cannot have.
        """
        self.debug.set_guest_debug(control, arch)

    def set_mmio_data(self, data: bytes) -> None:
        """Answer the MMIO read that the last run ended with; taken up by the next run.

        Raises
        ------
        KvmError
            EINVAL if no read is pending, or if ``data`` has another width than the access.
        """
        if self.mmio is None or self.mmio.is_write:
            raise KvmError(
                Errno.EINVAL, "no MMIO read is pending; answer an Mmio exit with is_write False"
            )
        if len(data) != self.mmio.length:
            raise KvmError(
                Errno.EINVAL,
                f"the guest reads {self.mmio.length} bytes at {self.mmio.phys_addr:#x}, "
                f"not {len(data)}; answer with as many bytes as the exit's len",
            )
        self.mmio_data = bytes(data)

    def set_vcpu_events(
        self, *, ext_dabt_pending: bool = False, serror_pending: bool = False
    ) -> None:
        """Make an abort pending (KVM_SET_VCPU_EVENTS).

        Parameters
        ----------
        ext_dabt_pending
            The access that ended the last run takes a synchronous external abort
            instead of being completed.
        serror_pending
            The guest takes an SError once it is not masked.

        Raises
        ------
        KvmError
            EINVAL for an external abort when no access of the guest has faulted yet.
        """
        if ext_dabt_pending:
            if self.fault is None:
                raise KvmError(
                    Errno.EINVAL,
                    "no access of the guest has faulted yet; run the vCPU to an Mmio or ArmNisv "
                    "exit first",
                )
            kvm_inject_sea(self, is_iabt=False, far=self.fault.far)
        if serror_pending:
            kvm_inject_serror(self)

    # --- running -------------------------------------------------------------------------

    def run(
        self, budget: int = FOREVER, *, cpu: int | None = None, shares_machine: bool = False
    ) -> Exit:
        """Run the guest until user space is needed (KVM_RUN).

        Parameters
        ----------
        budget
            Instructions after which to return :class:`~hyp.exits.Intr`.
        cpu
            The PE to run on; unless it is given, the one of the vCPU's index if there is
            one, else PE 0.
        shares_machine
            Whether to return when the guest waits or spins, so that other vCPUs can run.
            Otherwise time passes until its next interrupt.

        Raises
        ------
        KvmError
            ENOEXEC before ``init``, EINVAL for a budget that is not positive or a PE that
            there is not, EBUSY if the vCPU or the PE is running already.
        """
        if not self._initialised:
            raise KvmError(
                Errno.ENOEXEC, f"vCPU {self.index} has not been initialised; call init() first"
            )
        if budget <= 0:
            raise KvmError(Errno.EINVAL, f"a budget is a positive number, not {budget}")
        return self._run.run(budget, self._cpu(cpu), shares_machine=shares_machine)

    def _cpu(self, number: int | None) -> HostCpu:
        """Return the CPU to run on."""
        cpus = self.vm.kvm.cpus
        if number is None:
            return cpus[self.index if self.index < len(cpus) else 0]
        if not 0 <= number < len(cpus):
            raise KvmError(
                Errno.EINVAL, f"the machine has no PE {number}; use 0 to {len(cpus) - 1}"
            )
        return cpus[number]
