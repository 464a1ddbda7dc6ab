"""Before an instruction that is known by its address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from emu.arch.address import VA
from lab.errors import UserError
from lab.faults.parameter import parameter
from lab.faults.triggers.nth import NthInContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments

_INSTRUCTION: Final = 4


@dataclass(frozen=True, slots=True)
class Pc(NthInContext):
    """Before the instruction at a virtual address, the Nth time that it is to be executed.

    An instruction that takes an exception of EL1 and is tried again counts twice, as it would for
    a breakpoint; one that cannot be fetched does not. Until then each execution of that one
    instruction costs some microseconds.
    """

    name: ClassVar[str] = "pc"

    address: int = parameter("its virtual address", minimum=0)

    def __post_init__(self) -> None:
        """Check the parameters."""
        super(Pc, self).__post_init__()
        if self.address % _INSTRUCTION:
            raise UserError(f"Pc: address is a multiple of 4, not {self.address:#x}")

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        return moments.reaching(VA(self.address), self.counting(moments), fire)


@dataclass(frozen=True, slots=True)
class Symbol(NthInContext):
    """Before an instruction of a function, the Nth time that it is to be executed; see ``pc``."""

    name: ClassVar[str] = "symbol"

    symbol: str = parameter("a name in the guest's symbol table")
    offset: int = parameter("bytes from there to the instruction", default=0)

    def __post_init__(self) -> None:
        """Check the parameters."""
        super(Symbol, self).__post_init__()
        if self.offset % _INSTRUCTION:
            raise UserError(f"Symbol: offset is a multiple of 4, not {self.offset:#x}")

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once.

        Raises
        ------
        UserError
            If the guest has no such symbol.
        """
        if moments.symbols is None:
            raise UserError(
                f"there is no symbol {self.symbol}: the guest's file has no symbol table; give "
                "the address (trigger pc)"
            )
        address = VA(moments.symbols.find(self.symbol).address + self.offset)
        return moments.reaching(address, self.counting(moments), fire)
