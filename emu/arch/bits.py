"""Bit fields: where one lies in a word, and how it is read and written."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")
"""What a field is read as: an int. Not bound to it, or compiled code makes an int of a member."""
E = TypeVar("E", bound=IntEnum)


class Bits(Generic[T]):
    """A field: bits ``msb`` down to ``lsb`` of a layout, read as ``kind``.

    Reading a field through an instance gives its value; through the class, the
    field itself, so that ``ESR_EL2.EC.lsb`` is available to whoever needs it.
    """

    __slots__ = ("_members", "kind", "lsb", "mask", "msb", "name")

    def __init__(self, msb: int, lsb: int, kind: type[T] | None) -> None:
        if not 0 <= lsb <= msb <= 63:
            raise ValueError(f"a field lies in bits 63 to 0, msb first, not {msb}:{lsb}")
        self.msb, self.lsb, self.kind = msb, lsb, kind
        self.mask = (1 << (msb - lsb + 1)) - 1
        self.name = ""
        members: Iterable[Any] | None = kind  # type: ignore[assignment]  # an enumeration
        self._members = None if members is None else {int(member): member for member in members}

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, obj: None, owner: type) -> Self: ...
    @overload
    def __get__(self, obj: int, owner: type) -> T: ...
    def __get__(self, obj: int | None, owner: type) -> Self | T:
        if obj is None:
            return self
        return self.decode(obj)

    def decode(self, word: int) -> T:
        """Return this field of ``word``; a value its enumeration lacks comes back as an int."""
        value: Any = (word >> self.lsb) & self.mask
        if self._members is None:
            return value  # type: ignore[no-any-return]  # T is int when no kind is given
        return self._members.get(value, value)  # type: ignore[no-any-return]  # one or the other

    def encode(self, value: int) -> int:
        """Return ``value`` shifted into place.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        if not 0 <= value <= self.mask:
            raise ValueError(
                f"{self.name} is {self.msb - self.lsb + 1} bits wide (0 to {self.mask:#x}), "
                f"not {value:#x}"
            )
        return int(value) << self.lsb

    @property
    def in_place(self) -> int:
        """The field's bits as a mask over the whole word, for code that tests plain integers."""
        return self.mask << self.lsb

    @property
    def span(self) -> str:
        """The bit range, as ``bit_range`` prints it."""
        return bit_range(self.msb, self.lsb)


def bit_range(msb: int, lsb: int) -> str:
    """Return a bit range as the Arm ARM prints it: ``[23:22]`` or ``[24]``."""
    return f"[{msb}:{lsb}]" if msb != lsb else f"[{lsb}]"


def bit(position: int) -> Bits[int]:
    """Declare a one-bit field."""
    return Bits(position, position, None)


@overload
def bits(msb: int, lsb: int) -> Bits[int]: ...
@overload
def bits(msb: int, lsb: int, kind: type[E]) -> Bits[E]: ...
def bits(msb: int, lsb: int, kind: type[Any] | None = None) -> Bits[Any]:
    """Declare a field from ``msb`` down to ``lsb``, optionally read as the enumeration ``kind``."""
    return Bits(msb, lsb, kind)
