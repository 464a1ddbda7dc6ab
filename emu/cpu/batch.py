"""Registers of the engine in bulk: one call of the library for all of them."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

from unicorn import arm64_const as reg

from emu.cpu.internals import check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emu.arch.fields import Encoding

_u64 = ctypes.c_uint64
_pointer = ctypes.c_void_p
_MASK64: Final = (1 << 64) - 1


class CpReg(ctypes.Structure):
    """``uc_arm64_cp_reg``: a system register for Unicorn, and its value."""

    _fields_ = (
        ("crn", ctypes.c_uint32),
        ("crm", ctypes.c_uint32),
        ("op0", ctypes.c_uint32),
        ("op1", ctypes.c_uint32),
        ("op2", ctypes.c_uint32),
        ("val", _u64),
    )


class Batch:
    """Registers of one engine that are read, or written, in one call.

    Parameters
    ----------
    library
        Unicorn.
    engine
        Its handle.
    numbers, encodings
        As for :meth:`Engine.batch`.
    """

    __slots__ = (
        "_at",
        "_cells",
        "_count",
        "_engine",
        "_ids",
        "_read",
        "_systems",
        "_write",
    )

    def __init__(
        self,
        library: ctypes.CDLL,
        engine: ctypes.c_void_p,
        numbers: tuple[int, ...],
        encodings: tuple[Encoding, ...],
    ) -> None:
        self._read, self._write = library.uc_reg_read_batch, library.uc_reg_write_batch
        self._engine = engine
        self._cells = (_u64 * (2 * len(numbers)))()
        self._systems = (CpReg * len(encodings))()
        for cp, e in zip(self._systems, encodings, strict=True):
            cp.crn, cp.crm, cp.op0, cp.op1, cp.op2 = e.CRn, e.CRm, e.op0, e.op1, e.op2
        self._count = len(numbers) + len(encodings)
        ids = (*numbers, *([reg.UC_ARM64_REG_CP_REG] * len(encodings)))
        self._ids = (ctypes.c_int * self._count)(*ids)
        cells, systems = ctypes.addressof(self._cells), ctypes.addressof(self._systems)
        self._at = (_pointer * self._count)(
            *(cells + 16 * i for i in range(len(numbers))),
            *(systems + ctypes.sizeof(CpReg) * i for i in range(len(encodings))),
        )

    def read(self) -> list[int]:
        """Return the values of up to 64 bits."""
        check(self._read(self._engine, self._ids, self._at, self._count))
        return [*self._cells[::2], *(cp.val for cp in self._systems)]

    def write(self, values: Sequence[int]) -> None:
        """Write values of up to 64 bits."""
        own = len(self._cells) // 2
        self._cells[::2] = list(values[:own])
        for cp, value in zip(self._systems, values[own:], strict=True):
            cp.val = value
        check(self._write(self._engine, self._ids, self._at, self._count))

    def read_vectors(self) -> list[int]:
        """Return the values of a batch of vectors, 128 bits each."""
        check(self._read(self._engine, self._ids, self._at, self._count))
        cells = self._cells[:]
        return [low | high << 64 for low, high in zip(cells[::2], cells[1::2], strict=True)]

    def write_vectors(self, values: Sequence[int]) -> None:
        """Write a batch of vectors, 128 bits each."""
        self._cells[::2] = [value & _MASK64 for value in values]
        self._cells[1::2] = [value >> 64 for value in values]
        check(self._write(self._engine, self._ids, self._at, self._count))
