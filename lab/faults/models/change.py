"""The three things that happen to the bits of any place: flipped, set, stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from lab.faults.fault import Injection, Status, invalid
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import Layout


class Place(Protocol):
    """Something that holds bits."""

    @property
    def name(self) -> str:
        """What it is called in reports."""

    def read(self) -> int:
        """Return what it holds."""

    def write(self, value: int) -> None:
        """Have it hold something else."""


class Part(NamedTuple):
    """A 64-bit word, or one field of it."""

    name: str
    """Empty for all of it."""
    lsb: int
    bits: int

    def of(self, word: int) -> int:
        """Return what it holds."""
        return word >> self.lsb & (1 << self.bits) - 1

    def replaced(self, word: int, value: int) -> int:
        """Return the word with another value in it."""
        return word & ~((1 << self.bits) - 1 << self.lsb) | value << self.lsb


WHOLE: Final = Part("", 0, 64)


def part(layout: type[Layout], field: str) -> Part:
    """Return a field of a layout, or all of it for an empty name."""
    if not field:
        return WHOLE
    found = layout.FIELDS[field]
    return Part(field, found.lsb, found.msb - found.lsb + 1)


def bit_parameter(maximum: int = 63) -> Any:  # noqa: ANN401  # a dataclass field stands for its value
    """Declare the parameter that names the lowest bit."""
    return parameter("the lowest bit that changes", minimum=0, maximum=maximum)


def width_parameter() -> Any:  # noqa: ANN401  # a dataclass field stands for its value
    """Declare the parameter that says how many neighbouring bits change."""
    return parameter("how many neighbouring bits change", default=1, minimum=1, maximum=128)


def value_parameter() -> Any:  # noqa: ANN401  # a dataclass field stands for its value
    """Declare the parameter that says what a place is to hold."""
    return parameter("what it holds from then on", minimum=0, maximum=(1 << 128) - 1)


def level_parameter() -> Any:  # noqa: ANN401  # a dataclass field stands for its value
    """Declare the parameter that says what a stuck bit reads as."""
    return parameter("what the bits are stuck at", choices=(0, 1))


# Who finds no place says why by an injection that is invalid, which is passed on.


def flipped(place: Place | Injection, bit: int, width: int) -> Injection:
    """Flip bits."""
    if isinstance(place, Injection):
        return place
    return _changed(place, place.read() ^ _mask(bit, width))


def set_to(place: Place | Injection, value: int) -> Injection:
    """Replace all bits."""
    if isinstance(place, Injection):
        return place
    if place.read() == value:
        return invalid(f"{place.name} is {value:#x} already")
    return _changed(place, value)


def stuck(place: Place | Injection, bit: int, width: int, level: int) -> Injection:
    """Have bits keep one level, whatever is written to them.

    That they have it already does not make the fault invalid: what comes later matters.
    """
    if isinstance(place, Injection):
        return place
    mask = _mask(bit, width)

    def wanted(value: int) -> int:
        return value | mask if level else value & ~mask

    def hold() -> None:
        value = place.read()
        if value != wanted(value):
            place.write(wanted(value))

    value = place.read()
    if value == wanted(value):
        return _injected(f"{place.name}: {value:#x}, as it was", hold)
    return _changed(place, wanted(value), hold)


def _mask(bit: int, width: int) -> int:
    return (1 << width) - 1 << bit


def _changed(place: Place, value: int, hold: Callable[[], None] | None = None) -> Injection:
    old = place.read()
    place.write(value)
    new = place.read()
    if new == old:
        return invalid(f"{place.name} keeps its value {old:#x}")
    return _injected(f"{place.name}: {old:#x} -> {new:#x}", hold)


def _injected(detail: str, hold: Callable[[], None] | None) -> Injection:
    return Injection(Status.INJECTED, detail, hold)


def how_often(times: int) -> str:
    """Return a number of times in words."""
    return "once" if times == 1 else f"{times} times"
