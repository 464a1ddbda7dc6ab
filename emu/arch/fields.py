"""The notation in which registers and descriptors are declared.

A layout is a class; each field is one line, named as in the Arm ARM::

    class VTTBR_EL2(SystemRegister, encoding=(3, 4, 2, 1, 0)):
        \"\"\"Virtualization Translation Table Base Register.\"\"\"

        VMID = bits(63, 48)
        BADDR = bits(47, 1)
        CnP = bit(0)

An instance is an ``int`` with names for its bits::

    vttbr = VTTBR_EL2.build(VMID=3, BADDR=0x4800_0000 >> 1)
    vttbr.VMID                   # 3
    vttbr.replace(VMID=4)        # a new value
    memory.write_u64(pa, vttbr)  # it is an int

Decoding, encoding, description and tests all read this one declaration.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

T = TypeVar("T", bound=int)
E = TypeVar("E", bound=IntEnum)


class Bits(Generic[T]):
    """A field: bits ``msb`` down to ``lsb`` of a layout, read as ``kind``.

    Reading a field through an instance gives its value; through the class, the
    field itself, so that ``ESR_EL2.EC.lsb`` is available to whoever needs it.
    """

    __slots__ = ("kind", "lsb", "mask", "msb", "name")

    def __init__(self, msb: int, lsb: int, kind: type[T] | None) -> None:
        if not 0 <= lsb <= msb <= 63:
            raise ValueError(f"a field lies in bits 63 to 0, msb first, not {msb}:{lsb}")
        self.msb, self.lsb, self.kind = msb, lsb, kind
        self.mask = (1 << (msb - lsb + 1)) - 1
        self.name = ""

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
        if self.kind is None:
            return value  # type: ignore[no-any-return]  # T is int when no kind is given
        try:
            return self.kind(value)
        except ValueError:
            return value  # type: ignore[no-any-return]  # a reserved encoding

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


class Layout(int):
    """A 64-bit value with named fields. Subclasses declare the fields."""

    FIELDS: ClassVar[dict[str, Bits[Any]]] = {}
    """Every field by name, most significant first."""

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401  # forwarded as they come
        super().__init_subclass__(**kwargs)
        own = {name: f for name, f in vars(cls).items() if isinstance(f, Bits)}
        fields = {**cls.FIELDS, **own}
        cls.FIELDS = dict(sorted(fields.items(), key=lambda item: -item[1].lsb))

    @classmethod
    def build(cls, **fields: int) -> Self:
        """Encode a value from field values; fields not named are zero.

        Raises
        ------
        TypeError
            If the layout has no such field.
        ValueError
            If a value does not fit its field.
        """
        return cls(0).replace(**fields)

    def replace(self, **fields: int) -> Self:
        """Return a copy with some fields changed."""
        word = int(self)
        for name, value in fields.items():
            field = self.FIELDS.get(name)
            if field is None:
                raise TypeError(
                    f"{type(self).__name__} has no field {name}; it has {', '.join(self.FIELDS)}"
                )
            word = word & ~(field.mask << field.lsb) | field.encode(value)
        return type(self)(word)

    def describe(self) -> Iterator[tuple[Bits[Any], int]]:
        """Yield every field with its value, most significant first."""
        for field in self.FIELDS.values():
            yield field, field.decode(self)

    @property
    def unnamed(self) -> int:
        """The bits set here that no field covers: RES0, or without meaning yet."""
        word = int(self)
        for field in self.FIELDS.values():
            word &= ~(field.mask << field.lsb)
        return word

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.name}={int(v):#x}" for f, v in self.describe() if v)
        return f"{type(self).__name__}({int(self):#x}{': ' + shown if shown else ''})"

    __str__ = __repr__


class Encoding(NamedTuple):
    """A system register's address in MRS and MSR (Arm ARM C5.2)."""

    op0: int
    op1: int
    CRn: int
    CRm: int
    op2: int


class SystemRegister(Layout):
    """A 64-bit system register: a layout with an encoding."""

    encoding: ClassVar[Encoding]

    def __init_subclass__(
        cls,
        encoding: tuple[int, int, int, int, int] | None = None,
        **kwargs: Any,  # noqa: ANN401  # forwarded as they come
    ) -> None:
        super().__init_subclass__(**kwargs)
        if encoding is not None:
            cls.encoding = Encoding(*encoding)
