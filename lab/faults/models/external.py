"""Memory that fails, and system errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.arch.address import PA, PAGE_MASK, PAGE_SIZE
from emu.arch.esr.build import syndrome
from emu.arch.esr.classes import ExceptionClass
from emu.arch.registers.exceptions import ESR_EL2, VSESR_EL2
from emu.arch.registers.virtualization import HCR_EL2
from emu.memory import FailedRange
from hyp.serror import kvm_handle_guest_serror
from lab.faults.fault import Fault, Injection, Status, invalid
from lab.faults.models.addresses import address_parameter, physical, space_parameter
from lab.faults.models.undisturbed import undisturbed
from lab.faults.models.wrong import refuse
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from lab.faults.target import Target

EXTERNAL, PARITY = "external", "parity"
ACCESSES, WALKS, ALL = "accesses", "walks", "all"
_ISS: Final = (1 << 25) - 1


@dataclass(frozen=True, kw_only=True)
class FailedMemory(Fault):
    """Bytes of memory fail: every access to them takes a synchronous external abort.

    All other bytes work. EL2 that loads a descriptor there cannot go on.
    """

    name = "memory-error"
    space: str = space_parameter()
    address: int = address_parameter("of the first byte")
    size: int = parameter(
        "bytes; they may not cross a page boundary", default=8, minimum=1, maximum=PAGE_SIZE
    )
    kind: str = parameter(
        f"{EXTERNAL}: an external abort (FSC 0x10, on a walk 0x14 and its level); "
        f"{PARITY}: a parity or ECC error (0x18, 0x1C and the level)",
        default=EXTERNAL,
        choices=(EXTERNAL, PARITY),
    )
    on: str = parameter(
        "who meets it: loads, stores and fetches; table walks; or all of them",
        default=ALL,
        choices=(ACCESSES, WALKS, ALL),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.address & PAGE_MASK) + self.size > PAGE_SIZE:
            refuse(self, "size", f"1 to {PAGE_SIZE - (self.address & PAGE_MASK)} there")

    def inject(self, target: Target) -> Injection:
        """Have them fail."""
        pa = physical(target, self.space, self.address)
        if isinstance(pa, str):
            return invalid(pa)
        failed = FailedRange(
            PA(pa), self.size, self.kind == PARITY, self.on != ACCESSES, self.on != WALKS
        )
        machine, memory = target.vm.machine, target.memory
        memory.fail(failed)
        for pe in machine.pes:
            pe.engine.flush_tlb()
            pe.leave_engine()

        def end() -> None:
            memory.repair(failed)

        detail = f"{self.size} bytes at PA {pa:#x} fail: {self.kind}, {self.on}"
        return Injection(Status.INJECTED, detail, end=end)


@dataclass(frozen=True, kw_only=True)
class VirtualSError(Fault):
    """EL2 makes a virtual SError pending (HCR_EL2.VSE): EL1 takes it once PSTATE.A allows."""

    name = "serror-virtual"
    iss: int = parameter(
        "ISS of its syndrome, with FEAT_RAS (VSESR_EL2)", default=0, minimum=0, maximum=_ISS
    )

    def inject(self, target: Target) -> Injection:
        """Make it pending."""
        vcpu = target.vcpu
        hcr = vcpu.read(HCR_EL2)
        if hcr.VSE:
            return invalid(f"vCPU {vcpu.index} has a virtual SError pending already")
        with undisturbed(vcpu):
            vcpu.write(VSESR_EL2(self.iss))
            vcpu.write(hcr.replace(VSE=1))
        return Injection(Status.INJECTED, f"a virtual SError is pending, ISS {self.iss:#x}")


@dataclass(frozen=True, kw_only=True)
class PhysicalSError(Fault):
    """The PE takes an SError to EL2, which decides what the guest hears of it."""

    name = "serror-physical"
    iss: int = parameter("ISS of its syndrome", default=0, minimum=0, maximum=_ISS)

    def inject(self, target: Target) -> Injection:
        """Take it."""
        vcpu = target.vcpu
        if vcpu.loaded_on is None:
            return invalid(f"no PE has vCPU {vcpu.index} loaded, which could take it")
        esr = syndrome(ExceptionClass.SERROR, self.iss)
        target.pe.write(ESR_EL2(esr))
        kvm_handle_guest_serror(vcpu, esr)
        told = "the guest gets one, too" if vcpu.read(HCR_EL2).VSE else "the guest gets none"
        return Injection(Status.INJECTED, f"an SError is taken to EL2, ISS {self.iss:#x}; {told}")
