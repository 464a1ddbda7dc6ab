"""All registers of an engine at once: its own, not a list of them that might be incomplete."""

from __future__ import annotations

import ctypes
from typing import Final

from unicorn import arm64_const as reg

from emu.cpu.batch import CpReg
from emu.cpu.internals import EngineError, check

_PROBES: Final = (0x5A5A_1234_5678_9ABC, 0x3C3C_FEDC_BA98_7654)
_WORD: Final = 8
_CLOCK_BYTES: Final = 2 * _WORD
"""The cycle counter and, behind it, the host's time when it was last looked at."""
_TAIL: Final = 128
"""Bytes at its end that are addresses of the process: of breakpoints, which are never set."""
_HEADER: Final = 40
"""Bytes of Unicorn's context ahead of the registers. Among them are pointers of the process."""


class SavedRegisters:
    """The registers of one engine, as bytes.

    They hold all that Unicorn has in its CPU: general, vector and system registers, the local
    exclusive monitor, and what it derives from them. No address of the process is among them, and
    no time of the host: Unicorn's cycle counter, which runs on that, reads as zero.

    Parameters
    ----------
    library
        Unicorn.
    engine
        Its handle.
    """

    def __init__(self, library: ctypes.CDLL, engine: ctypes.c_void_p) -> None:
        self._save, self._restore = library.uc_context_save, library.uc_context_restore
        self._engine = engine
        size = library.uc_context_size
        size.restype = ctypes.c_size_t
        self._context = ctypes.c_void_p()
        check(library.uc_context_alloc(engine, ctypes.byref(self._context)))
        assert self._context.value is not None, "a context that was made has a place"
        self._size = size(engine) - _HEADER
        self._at = self._context.value + _HEADER
        stored = ctypes.c_size_t.from_address(self._context.value).value
        if stored != self._size:
            raise EngineError(
                f"Unicorn's context holds {stored} bytes of registers, not {self._size}; "
                "use unicorn 2.1.4"
            )
        self._clock = self._at + self._find_clock(library)

    def _find_clock(self, library: ctypes.CDLL) -> int:
        """Return where the cycle counter is, by writing to it."""
        found: list[set[int]] = []
        for probe in (*_PROBES, 0):
            counter = CpReg(crn=9, crm=13, op0=3, op1=3, op2=0, val=probe)
            check(
                library.uc_reg_write(self._engine, reg.UC_ARM64_REG_CP_REG, ctypes.byref(counter))
            )
            check(self._save(self._engine, self._context))
            words = memoryview(ctypes.string_at(self._at, self._size)).cast("Q")
            found.append({_WORD * at for at, word in enumerate(words) if word == probe})
        places = set.intersection(*found)
        if len(places) != 1:
            raise EngineError(
                f"Unicorn's cycle counter was found in {len(places)} places, not in one; "
                "use unicorn 2.1.4"
            )
        return places.pop()

    def read(self) -> bytes:
        """Return the registers."""
        check(self._save(self._engine, self._context))
        ctypes.memset(self._clock, 0, _CLOCK_BYTES)
        return ctypes.string_at(self._at, self._size)

    def write(self, registers: bytes) -> None:
        """Put them back, as they were read from this engine or one like it.

        Raises
        ------
        ValueError
            If these are no such bytes.
        """
        if len(registers) != self._size:
            raise ValueError(
                f"{len(registers)} bytes are not the {self._size} of this engine's registers"
            )
        ctypes.memmove(self._at, registers, self._size - _TAIL)
        check(self._restore(self._engine, self._context))
