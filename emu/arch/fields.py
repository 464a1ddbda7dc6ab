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

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from emu.arch.bits import Bits

if TYPE_CHECKING:
    from collections.abc import Iterator


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
