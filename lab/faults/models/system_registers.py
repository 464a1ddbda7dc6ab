"""Faults in system registers of EL1 and EL2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.registers import BY_NAME
from emu.arch.registers.exceptions import SPSR_EL2
from emu.arch.registers.virtualization import SCTLR_EL2, VTCR_EL2, VTTBR_EL2
from hyp.context import SYSTEM_REGISTERS
from lab.faults.fault import Fault, Injection, invalid
from lab.faults.models import change
from lab.faults.models.undisturbed import undisturbed
from lab.faults.models.wrong import refuse, require_bits, require_name, require_value
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from hyp.vcpu import VCPU
    from lab.faults.target import Target

_OF_THE_VM: Final = (VTTBR_EL2, VTCR_EL2, SCTLR_EL2)
"""No part of a vCPU's context: EL2 writes them when a vCPU is loaded."""

SYSTEM: Final[dict[str, type[SystemRegister]]] = {
    register.__name__: register
    for register in SYSTEM_REGISTERS + _OF_THE_VM
    if register is not SPSR_EL2
}
"""The registers that can have a fault. The guest's PSTATE is no system register: SPSR_EL2 only
holds it while EL2 runs."""


class _Register(NamedTuple):
    """A system register, or one of its fields."""

    vcpu: VCPU
    register: type[SystemRegister]
    part: change.Part

    @property
    def name(self) -> str:
        register = self.register.__name__
        return f"{register}.{self.part.name}" if self.part.name else register

    def read(self) -> int:
        return self.part.of(self.vcpu.read(self.register))

    def write(self, value: int) -> None:
        word = self.part.replaced(self.vcpu.read(self.register), value)
        with undisturbed(self.vcpu):
            self.vcpu.write(self.register(word))


@dataclass(frozen=True, kw_only=True)
class SystemRegisterFault(Fault):
    """A fault in a system register."""

    register: str = parameter(
        "a system register of EL1, or one with which EL2 controls the guest, by its name in the "
        "Arm ARM: SCTLR_EL1, VTTBR_EL2, HCR_EL2, ..."
    )
    field: str = parameter("the field of it that is meant; empty for all of it", default="")

    @property
    def _part(self) -> change.Part:
        return change.part(SYSTEM[self.register], self.field)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.register in BY_NAME and self.register not in SYSTEM:
            refuse(
                self,
                "register",
                "a register that a vCPU has for itself, which KVM saves and restores as it is",
            )
        require_name(self, "register", "a system register of EL1 or EL2", SYSTEM)
        if self.field:
            fields = SYSTEM[self.register].FIELDS
            require_name(self, "field", f"a field of {self.register}", fields)

    def _place(self, target: Target) -> _Register | Injection:
        register, vcpu = SYSTEM[self.register], target.vcpu
        if register in _OF_THE_VM and vcpu.loaded_on is None:
            return invalid(f"no PE has vCPU {vcpu.index} loaded, so none has its {self.register}")
        return _Register(vcpu, register, self._part)

    @property
    def _of(self) -> str:
        return self.field or self.register


@dataclass(frozen=True, kw_only=True)
class SystemRegisterFlip(SystemRegisterFault):
    """Bits of a system register flip once."""

    name = "system-register-flip"
    bit: int = change.bit_parameter()
    width: int = change.width_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, self._part.bits, self._of)

    def inject(self, target: Target) -> Injection:
        """Flip them."""
        return change.flipped(self._place(target), self.bit, self.width)


@dataclass(frozen=True, kw_only=True)
class SystemRegisterSet(SystemRegisterFault):
    """A system register, or a field of it, takes a value once."""

    name = "system-register-set"
    value: int = change.value_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_value(self, self.value, self._part.bits, self._of)

    def inject(self, target: Target) -> Injection:
        """Set it."""
        return change.set_to(self._place(target), self.value)


@dataclass(frozen=True, kw_only=True)
class SystemRegisterStuck(SystemRegisterFault):
    """Bits of a system register are stuck at 0 or at 1."""

    name = "system-register-stuck"
    bit: int = change.bit_parameter()
    width: int = change.width_parameter()
    stuck_at: int = change.level_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, self._part.bits, self._of)

    def inject(self, target: Target) -> Injection:
        """Make them so, and keep them so."""
        return change.stuck(self._place(target), self.bit, self.width, self.stuck_at)
