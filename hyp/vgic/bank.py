"""The notation in which register frames are declared, and how accesses find a register.

A frame is a table, a register a line::

    plain(0x004, "GICD_TYPER", WORD, _typer),
    per_irq(0x100, "GICD_ISENABLER", fields.SET_ENABLE, WORD),

An access that is misaligned, of a width that the register lacks, or of an interrupt that does
not exist reads as zero and is ignored, and so does everything that is not in the table
(``vgic_get_mmio_region``).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from hyp.errors import Errno, KvmError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyp.vgic.cpuif import CpuInterface
    from hyp.vgic.dist import Distributor
    from hyp.vgic.irq import Irq

WORD: Final = (4,)
BYTE_WORD: Final = (1, 4)
WORD_DOUBLE: Final = (4, 8)


class View(NamedTuple):
    """Who accesses a register.

    Parameters
    ----------
    dist
        The distributor.
    number
        The vCPU that the banked registers are of.
    by
        The vCPU that executes the access; ``None`` for user space.
    last
        GICR_TYPER.Last of the vCPU's redistributor.
    """

    dist: Distributor
    number: int
    by: int | None = None
    last: bool = False

    @property
    def cpu(self) -> CpuInterface:
        """The CPU interface of the vCPU."""
        return self.dist.cpus[self.number]


class Field(NamedTuple):
    """What a register of many interrupts holds of each.

    Parameters
    ----------
    bits
        The width of the field, a power of 2.
    get, set
        The guest's access.
    user_get, user_set
        That of user space, where it is another one.
    """

    bits: int
    get: Callable[[View, Irq], int]
    set: Callable[[View, Irq, int], None]
    user_get: Callable[[View, Irq], int] | None = None
    user_set: Callable[[View, Irq, int], None] | None = None


Read: TypeAlias = "Callable[[View], int]"
Write: TypeAlias = "Callable[[View, int], None]"


class Register(NamedTuple):
    """A line of a frame: a plain register, or an array of registers.

    Parameters
    ----------
    offset, size
        Where it is, in bytes.
    name
        The architecture's.
    widths
        The accesses that there are, in bytes.
    read, write
        The guest's access to a plain register; ``None`` reads as zero, ignores writes.
    user_read, user_write
        That of user space, where it is another one.
    for_user
        Whether user space can access it at all.
    field, first
        For an array: what it holds of each interrupt, and the first INTID that it holds;
        those before it, which have their place, read as zero.
    """

    offset: int
    size: int
    name: str
    widths: tuple[int, ...]
    read: Read | None = None
    write: Write | None = None
    user_read: Read | None = None
    user_write: Write | None = None
    for_user: bool = True
    field: Field | None = None
    first: int = 0


def plain(
    offset: int,
    name: str,
    widths: tuple[int, ...] = WORD,
    read: Read | None = None,
    write: Write | None = None,
    *,
    size: int = 0,
    user_read: Read | None = None,
    user_write: Write | None = None,
    for_user: bool = True,
) -> Register:
    """Declare one register, of its widest access unless ``size`` says otherwise."""
    return Register(
        offset,
        size or max(widths),
        name,
        widths,
        read,
        write,
        user_read,
        user_write,
        for_user,
    )


def per_irq(
    offset: int,
    name: str,
    field: Field,
    widths: tuple[int, ...] = WORD,
    *,
    first: int = 0,
    count: int = 1024,
) -> Register:
    """Declare an array of registers for ``count`` interrupts, of which ``first`` is the first."""
    return Register(offset, count * field.bits // 8, name, widths, field=field, first=first)


class Bank:
    """A frame of registers.

    Parameters
    ----------
    registers
        The table, ascending.
    """

    __slots__ = ("_offsets", "_registers")

    def __init__(self, registers: Sequence[Register]) -> None:
        self._registers = tuple(registers)
        self._offsets = [register.offset for register in registers]

    def find(self, nr_irqs: int, offset: int, length: int) -> Register | None:
        """Return the register that an access reaches, if it is one that has an effect."""
        index = bisect_right(self._offsets, offset) - 1
        if index < 0:
            return None
        register = self._registers[index]
        within = offset - register.offset
        if within >= register.size or length not in register.widths or offset % length:
            return None
        if register.field is not None and within * 8 // register.field.bits >= nr_irqs:
            return None
        return register

    def read(self, view: View, offset: int, length: int) -> int:
        """Return what a guest's load gives."""
        register = self.find(view.dist.nr_irqs, offset, length)
        if register is None:
            return 0
        return self._read(view, register, offset, length, register.read)

    def write(self, view: View, offset: int, length: int, value: int) -> None:
        """Do a guest's store."""
        register = self.find(view.dist.nr_irqs, offset, length)
        if register is not None:
            self._write(view, register, offset, length, value, register.write)

    def user_register(self, nr_irqs: int, offset: int) -> Register:
        """Return the register that user space names; it sees 32 bits at a time.

        Raises
        ------
        KvmError
            ENXIO if there is none.
        """
        register = self.find(nr_irqs, offset, 4)
        if register is None or not register.for_user:
            raise KvmError(
                Errno.ENXIO,
                f"offset {offset:#x} names no register of this frame that user space can "
                f"access; use a multiple of 4 from the architecture's list",
            )
        return register

    def user_read(self, view: View, offset: int) -> int:
        """Return a register for user space.

        Raises
        ------
        KvmError
            ENXIO if there is none.
        """
        register = self.user_register(view.dist.nr_irqs, offset)
        return self._read(view, register, offset, 4, register.user_read or register.read)

    def user_write(self, view: View, offset: int, value: int) -> None:
        """Set a register for user space.

        Raises
        ------
        KvmError
            ENXIO if there is none, EINVAL for a value that it cannot have.
        """
        register = self.user_register(view.dist.nr_irqs, offset)
        write = register.user_write or register.write
        self._write(view, register, offset, 4, value, write)

    @staticmethod
    def _read(view: View, register: Register, offset: int, length: int, read: Read | None) -> int:
        within = offset - register.offset
        field = register.field
        if field is None:
            value = 0 if read is None else read(view)
            return value >> within % max(register.widths) * 8 & (1 << length * 8) - 1
        get = field.user_get if view.by is None and field.user_get is not None else field.get
        value = 0
        for intid, position in _interrupts(register, field, within, length):
            irq = view.dist.irq(view.number, intid)
            if irq is not None:
                value |= get(view, irq) << position
        return value >> _sub_field(field, within) & (1 << length * 8) - 1

    @staticmethod
    def _write(
        view: View, register: Register, offset: int, length: int, value: int, write: Write | None
    ) -> None:
        value &= (1 << length * 8) - 1
        within = offset - register.offset
        field = register.field
        if field is None:
            # A plain register that can be written is one word, so that this is all of it.
            if write is not None:
                write(view, value)
            return
        if _sub_field(field, within):
            return
        set_ = field.user_set if view.by is None and field.user_set is not None else field.set
        for intid, position in _interrupts(register, field, within, length):
            irq = view.dist.irq(view.number, intid)
            if irq is not None:
                set_(view, irq, value >> position & (1 << field.bits) - 1)


def _sub_field(field: Field, within: int) -> int:
    """Return where in its field an access begins, in bits: not 0 for the upper half of IROUTER."""
    return within * 8 % field.bits


def _interrupts(
    register: Register, field: Field, within: int, length: int
) -> Sequence[tuple[int, int]]:
    """Return the INTIDs that an access concerns, each with the position of its field."""
    begin = within * 8 // field.bits
    count = max(length * 8 // field.bits, 1)
    return [(begin + n, n * field.bits) for n in range(count) if begin + n >= register.first]
