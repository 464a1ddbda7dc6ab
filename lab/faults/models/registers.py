"""Faults in the registers that programs use: X0 to X30, SP, PC, the flags of PSTATE, Q0 to Q31."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.registers.exceptions import ELR_EL2, PSTATE, SP_EL0, SP_EL1, SPSR_EL2
from lab.faults.fault import Fault, Injection, invalid
from lab.faults.models import change
from lab.faults.models.undisturbed import undisturbed
from lab.faults.models.wrong import require_bits, require_name, require_value
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from emu.arch.exceptions import PstateFeatures
    from emu.arch.fields import SystemRegister
    from hyp.vcpu import VCPU
    from lab.faults.target import Target

FLAGS: Final = ("N", "Z", "C", "V", "D", "A", "I", "F", "PAN", "DIT", "SSBS")
"""The bits of PSTATE that can be changed. Its mode is none: no running PE is in a mode that its
Exception level does not have."""

_NAMES: Final = {
    **{f"x{number}": 64 for number in range(31)},
    "sp": 64,
    "pc": 64,
    **{f"pstate.{flag}": 1 for flag in FLAGS},
    **{f"q{number}": 128 for number in range(32)},
}
"""Bits by name."""
_SPSEL: Final = 1


class _General(NamedTuple):
    """X0 to X30."""

    vcpu: VCPU
    name: str

    def read(self) -> int:
        return self.vcpu.read_x(int(self.name[1:]))

    def write(self, value: int) -> None:
        with undisturbed(self.vcpu):
            self.vcpu.write_x(int(self.name[1:]), value)


class _Vector(NamedTuple):
    """Q0 to Q31."""

    vcpu: VCPU
    name: str

    def read(self) -> int:
        number = int(self.name[1:])
        if self.vcpu.loaded_on is None:
            return self.vcpu.ctxt.q[number]
        return self.vcpu.pe.read_q(number)

    def write(self, value: int) -> None:
        number = int(self.name[1:])
        if self.vcpu.loaded_on is None:
            self.vcpu.ctxt.q[number] = value
            return
        with undisturbed(self.vcpu):
            self.vcpu.pe.write_q(number, value)


class _Special(NamedTuple):
    """SP and PC, which are system registers while EL2 runs."""

    vcpu: VCPU
    name: str

    @property
    def _register(self) -> type[SystemRegister]:
        if self.name == "pc":
            return ELR_EL2
        return SP_EL1 if self.vcpu.pstate & _SPSEL else SP_EL0

    def read(self) -> int:
        return int(self.vcpu.read(self._register))

    def write(self, value: int) -> None:
        with undisturbed(self.vcpu):
            self.vcpu.write(self._register(value))


class _Flag(NamedTuple):
    """One bit of PSTATE."""

    vcpu: VCPU
    name: str

    @property
    def _flag(self) -> str:
        return self.name.partition(".")[2]

    def read(self) -> int:
        return change.part(PSTATE, self._flag).of(self.vcpu.pstate)

    def write(self, value: int) -> None:
        with undisturbed(self.vcpu):
            pstate = self.vcpu.pstate.replace(**{self._flag: value})
            self.vcpu.write(SPSR_EL2(pstate))


def _place(vcpu: VCPU, name: str) -> change.Place | None:
    """Return the register of that name; None if the CPU lacks it."""
    if name.startswith("x"):
        return _General(vcpu, name)
    if name.startswith("q"):
        return _Vector(vcpu, name)
    if name in ("sp", "pc"):
        return _Special(vcpu, name)
    optional: PstateFeatures = vcpu.vm.features.pstate
    return _Flag(vcpu, name) if getattr(optional, name.partition(".")[2], True) else None


def _lacks(name: str) -> Injection:
    return invalid(f"the CPU has no {name}")


@dataclass(frozen=True, kw_only=True)
class RegisterFault(Fault):
    """A fault in a register that programs use."""

    register: str = parameter(
        "x0 to x30, sp, pc, q0 to q31, or a flag such as pstate.Z (N, Z, C, V, D, A, I, F, PAN, "
        "DIT, SSBS)"
    )

    @property
    def bits(self) -> int:
        """The size of the register."""
        return _NAMES[self.register]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_name(self, "register", "x0 to x30, sp, pc, q0 to q31, or pstate.N", _NAMES)


@dataclass(frozen=True, kw_only=True)
class RegisterFlip(RegisterFault):
    """Bits of a register flip once."""

    name = "register-flip"
    bit: int = change.bit_parameter(127)
    width: int = change.width_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, self.bits, self.register)

    def inject(self, target: Target) -> Injection:
        """Flip them."""
        place = _place(target.vcpu, self.register)
        return change.flipped(place, self.bit, self.width) if place else _lacks(self.register)


@dataclass(frozen=True, kw_only=True)
class RegisterSet(RegisterFault):
    """A register takes a value once."""

    name = "register-set"
    value: int = change.value_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_value(self, self.value, self.bits, self.register)

    def inject(self, target: Target) -> Injection:
        """Set it."""
        place = _place(target.vcpu, self.register)
        return change.set_to(place, self.value) if place else _lacks(self.register)


@dataclass(frozen=True, kw_only=True)
class RegisterStuck(RegisterFault):
    """Bits of a register are stuck at 0 or at 1."""

    name = "register-stuck"
    bit: int = change.bit_parameter(127)
    width: int = change.width_parameter()
    stuck_at: int = change.level_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, self.bits, self.register)

    def inject(self, target: Target) -> Injection:
        """Make them so, and keep them so."""
        place = _place(target.vcpu, self.register)
        if place is None:
            return _lacks(self.register)
        return change.stuck(place, self.bit, self.width, self.stuck_at)
