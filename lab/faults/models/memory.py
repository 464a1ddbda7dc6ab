"""Faults in memory: bits of a byte or word that flip, are set, or are stuck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from lab.faults.fault import Fault, Injection, invalid
from lab.faults.models import change
from lab.faults.models.addresses import address_parameter, physical, space_parameter
from lab.faults.models.wrong import refuse, require_bits, require_value
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from emu.arch.address import PA
    from emu.machine import Machine
    from lab.faults.target import Target


class Cell(NamedTuple):
    """Some bytes of memory, little-endian."""

    machine: Machine
    pa: PA
    size: int

    @property
    def name(self) -> str:
        """Where they are."""
        return f"{self.size} bytes at PA {self.pa:#x}" if self.size > 1 else f"PA {self.pa:#x}"

    def read(self) -> int:
        """Return them."""
        return int.from_bytes(self.machine.memory.read(self.pa, self.size), "little")

    def write(self, value: int) -> None:
        """Change them. Instruction caches hold what memory does."""
        self.machine.memory.write(self.pa, value.to_bytes(self.size, "little"))
        for pe in self.machine.pes:
            pe.changed_code.look_again(self.pa)


@dataclass(frozen=True, kw_only=True)
class MemoryFault(Fault):
    """A fault in memory."""

    space: str = space_parameter()
    address: int = address_parameter("of the lowest byte; a multiple of the size")
    size: int = parameter("bytes", default=1, choices=(1, 2, 4, 8))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.address % self.size:
            refuse(self, "address", f"a multiple of the size, {self.size}")

    @property
    def _of(self) -> str:
        return f"memory of size {self.size}"

    def _cell(self, target: Target) -> Cell | Injection:
        pa = physical(target, self.space, self.address)
        return invalid(pa) if isinstance(pa, str) else Cell(target.vm.machine, pa, self.size)


@dataclass(frozen=True, kw_only=True)
class MemoryFlip(MemoryFault):
    """Bits of memory flip once."""

    name = "memory-flip"
    bit: int = change.bit_parameter()
    width: int = change.width_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, 8 * self.size, self._of)

    def inject(self, target: Target) -> Injection:
        """Flip them."""
        cell = self._cell(target)
        return cell if isinstance(cell, Injection) else change.flipped(cell, self.bit, self.width)


@dataclass(frozen=True, kw_only=True)
class MemorySet(MemoryFault):
    """Memory takes a value once."""

    name = "memory-set"
    value: int = change.value_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_value(self, self.value, 8 * self.size, self._of)

    def inject(self, target: Target) -> Injection:
        """Set it."""
        cell = self._cell(target)
        return cell if isinstance(cell, Injection) else change.set_to(cell, self.value)


@dataclass(frozen=True, kw_only=True)
class MemoryStuck(MemoryFault):
    """Bits of memory are stuck at 0 or at 1."""

    name = "memory-stuck"
    bit: int = change.bit_parameter()
    width: int = change.width_parameter()
    stuck_at: int = change.level_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, 8 * self.size, self._of)

    def inject(self, target: Target) -> Injection:
        """Make them so, and keep them so."""
        cell = self._cell(target)
        if isinstance(cell, Injection):
            return cell
        return change.stuck(cell, self.bit, self.width, self.stuck_at)
