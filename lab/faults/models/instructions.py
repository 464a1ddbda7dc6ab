"""Faults of instructions: another one is executed, or none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.arch.address import PA
from emu.arch.registers.exceptions import ELR_EL2
from lab.faults.fault import Fault, Injection, Status, invalid
from lab.faults.models import change
from lab.faults.models.addresses import physical
from lab.faults.models.undisturbed import undisturbed
from lab.faults.models.wrong import refuse, require_bits
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from lab.faults.target import Target

_BYTES: Final = 4
_BITS: Final = 8 * _BYTES
_ADDRESS_MASK: Final = (1 << 64) - 1
ONCE, LINE = "once", "line"


@dataclass(frozen=True, kw_only=True)
class InstructionFault(Fault):
    """A fault of one instruction on one PE; memory is as it was, and so is what loads find."""

    address: int | None = parameter(
        "VA of the instruction, a multiple of 4; the one that comes next if it is left out",
        default=None,
        minimum=0,
        maximum=_ADDRESS_MASK,
    )
    lasts: str = parameter(
        f"{ONCE}: for one execution, which instructions that fault and come back do not end; "
        f"{LINE}: as long as its line of the instruction cache does",
        default=ONCE,
        choices=(ONCE, LINE),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.address is not None and self.address % _BYTES:
            refuse(self, "address", "a multiple of 4")

    def _fetch(self, target: Target) -> tuple[int, PA, int] | Injection:
        """Return VA, PA and word of the instruction."""
        vcpu, pe = target.vcpu, target.pe
        va = int(vcpu.pc) if self.address is None else self.address
        if vcpu.loaded_on is None:
            return invalid(f"no PE has vCPU {vcpu.index} loaded, so none fetches for it")
        if va % _BYTES:
            return invalid(f"PC is {va:#x}, where no instruction can be")
        pa = physical(target, "va", va)
        if isinstance(pa, str):
            return invalid(pa)
        page = PA(pa & -0x1000)
        return va, pa, pe.icache.view(page).cast("I")[(pa - page) // _BYTES]

    def _replace(self, target: Target, va: int, pa: PA, old: int, new: int) -> Injection:
        pe, icache = target.pe, target.pe.icache
        if new == old:
            return invalid(f"the instruction at {va:#x} is {old:#010x} already")
        detail = f"the instruction at {va:#x}: {old:#010x} -> {new:#010x}"
        if self.lasts == ONCE:
            icache.corrupt_once(pa, va, new)
            return Injection(Status.INJECTED, f"{detail}, once", end=icache.heal_once)
        icache.corrupt(pa, new)
        return Injection(
            Status.INJECTED,
            f"{detail}, until its line is invalidated",
            end=lambda: _forget(pe, pa),
        )


def _forget(pe: ProcessingElement, pa: PA) -> None:
    if pe.icache.copies:
        pe.changed_code.invalidate(pa)


@dataclass(frozen=True, kw_only=True)
class InstructionFlip(InstructionFault):
    """Bits of an instruction flip on their way to the PE, or in its instruction cache."""

    name = "instruction-flip"
    bit: int = change.bit_parameter(_BITS - 1)
    width: int = change.width_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, _BITS, "an instruction")

    def inject(self, target: Target) -> Injection:
        """Flip them."""
        found = self._fetch(target)
        if isinstance(found, Injection):
            return found
        va, pa, word = found
        flipped = word ^ (1 << self.width) - 1 << self.bit
        return self._replace(target, va, pa, word, flipped)


@dataclass(frozen=True, kw_only=True)
class InstructionSet(InstructionFault):
    """Another instruction is executed instead of the one in memory."""

    name = "instruction-set"
    word: int = parameter("its encoding", minimum=0, maximum=(1 << _BITS) - 1)

    def inject(self, target: Target) -> Injection:
        """Replace it."""
        found = self._fetch(target)
        if isinstance(found, Injection):
            return found
        va, pa, word = found
        return self._replace(target, va, pa, word, self.word)


@dataclass(frozen=True, kw_only=True)
class InstructionSkip(Fault):
    """Instructions are not executed: PC goes on behind them, and nothing else happens."""

    name = "instruction-skip"
    count: int = parameter("how many", default=1, minimum=1, maximum=1 << 20)

    def inject(self, target: Target) -> Injection:
        """Skip them."""
        vcpu = target.vcpu
        old = int(vcpu.pc)
        new = old + _BYTES * self.count & _ADDRESS_MASK
        with undisturbed(vcpu):
            vcpu.write(ELR_EL2(new))
        return Injection(Status.INJECTED, f"pc: {old:#x} -> {new:#x}")
