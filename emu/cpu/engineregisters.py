"""The registers of one Unicorn instance."""

from __future__ import annotations

import ctypes
from array import array
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from unicorn import arm64_const as reg

from emu.arch.address import VA
from emu.arch.registers.exceptions import PSTATE
from emu.cpu.batch import Batch, CpReg
from emu.cpu.enginestate import SavedRegisters
from emu.cpu.internals import NO_EXCLUSIVE, PC_INDEX, PSTATE_INDEX, check, find_internals
from emu.cpu.places import find_places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emu.arch.fields import Encoding

_u64 = ctypes.c_uint64
_pointer = ctypes.c_void_p

Q_IDS: Final = tuple(range(reg.UC_ARM64_REG_Q0, reg.UC_ARM64_REG_Q31 + 1))
X_COUNT: Final = 31
"""X0 to X30."""

_MASK32: Final = (1 << 32) - 1
_MASK64: Final = (1 << 64) - 1
_SIGN: Final = 1 << 31
_Z: Final = PSTATE.Z.in_place
_C_LSB: Final = PSTATE.C.lsb
_V: Final = PSTATE.V.in_place
_BTYPE_LSB: Final = PSTATE.BTYPE.lsb


class EngineRegisters:
    """General, vector and system registers, PC and PSTATE.

    Parameters
    ----------
    library
        Unicorn.
    engine
        Its handle.
    structure
        The address of its structure.
    pstate_mask
        The bits of PSTATE that the CPU has.

    Attributes
    ----------
    registers
        X0 to X30, SP, PC and PSTATE.M, at the indices that :mod:`emu.cpu.internals` has, for
        whoever is in a hurry.
    words
        The structure of its CPU, 64 bits each.
    places
        Which of them are system registers.
    saved_registers
        All registers at once, to be kept and put back.
    """

    def __init__(
        self, library: ctypes.CDLL, engine: ctypes.c_void_p, structure: int, pstate_mask: int
    ) -> None:
        self._library, self._engine = library, engine
        # These are called often, with arguments that are C objects already: none is converted.
        self._read, self._write = library.uc_reg_read, library.uc_reg_write
        self._pstate_mask = pstate_mask
        internals, places = find_internals(), find_places()
        cpu = _u64.from_address(structure + 8 * internals.cpu).value
        self._cpu = _pointer(cpu)
        block = (ctypes.c_ubyte * places.size).from_address(cpu)
        self.words = memoryview(block).cast("B").cast("Q")
        self.places = places.system
        self._halves = memoryview(block).cast("B").cast("I")
        self._n, self._z, self._c, self._v = (
            places.negative,
            places.nonzero,
            places.carry,
            places.overflow,
        )
        self._btype, self._daif = places.btype, internals.daif // 4
        first = internals.registers // 8
        self.registers = self.words[first : first + PSTATE_INDEX + 1]
        self._exclusive = _u64.from_address(cpu + internals.exclusive)
        self.saved_registers = SavedRegisters(library, engine)
        self._scratch = _u64()
        self._scratch_at = ctypes.byref(self._scratch)
        self._vector = (_u64 * 2)()

    def state(self) -> tuple[VA, int]:
        """Return PC and PSTATE."""
        registers, halves = self.registers, self._halves
        pstate = (
            registers[PSTATE_INDEX] & _MASK32
            | halves[self._n] & _SIGN
            | halves[self._c] << _C_LSB
            | halves[self._daif]
            | halves[self._btype] << _BTYPE_LSB
        )
        if not halves[self._z]:
            pstate |= _Z
        if halves[self._v] & _SIGN:
            pstate |= _V
        return VA(registers[PC_INDEX]), pstate & self._pstate_mask

    @property
    def pc(self) -> VA:
        """PC alone."""
        return VA(self.registers[PC_INDEX])

    @property
    def mode(self) -> int:
        """PSTATE without NZCV, DAIF and BTYPE."""
        return self.registers[PSTATE_INDEX] & _MASK32

    def change_mode(self, mask: int, value: int) -> None:
        """Change bits of PSTATE that mean nothing to the engine."""
        self.registers[PSTATE_INDEX] = self.registers[PSTATE_INDEX] & ~mask | value

    def read_x(self, number: int) -> int:
        """Read X0 to X30."""
        return self.registers[number]

    def write_x(self, number: int, value: int) -> None:
        """Write X0 to X30."""
        self.registers[number] = value

    def read_all_x(self) -> list[int]:
        """Read X0 to X30."""
        return self.registers[:X_COUNT].tolist()

    def write_all_x(self, values: Sequence[int]) -> None:
        """Write X0 to X30."""
        self.registers[:X_COUNT] = memoryview(array("Q", values))

    def read(self, register: int) -> int:
        """Read a register by Unicorn's number."""
        self._read(self._engine, register, self._scratch_at)
        return self._scratch.value

    def write(self, register: int, value: int) -> None:
        """Write a register by Unicorn's number."""
        self._scratch.value = value
        self._write(self._engine, register, self._scratch_at)

    def read_vector(self, number: int) -> int:
        """Read Q0 to Q31."""
        self._read(self._engine, reg.UC_ARM64_REG_Q0 + number, self._vector)
        return self._vector[0] | self._vector[1] << 64

    def write_vector(self, number: int, value: int) -> None:
        """Write Q0 to Q31."""
        self._vector[0], self._vector[1] = value & _MASK64, value >> 64
        self._write(self._engine, reg.UC_ARM64_REG_Q0 + number, self._vector)

    def read_system(self, encoding: Encoding) -> int:
        """Read a system register, without side effects or access checks."""
        place = self.places.get(encoding)
        if place is not None:
            return self.words[place]
        at, cp = _argument(encoding)
        check(self._read(self._engine, reg.UC_ARM64_REG_CP_REG, at))
        return int(cp.val)

    def write_system(self, encoding: Encoding, value: int) -> None:
        """Write a system register, without side effects or access checks.

        The engine then looks at all that it derives from registers.
        """
        at, cp = _argument(encoding)
        cp.val = value
        check(self._write(self._engine, reg.UC_ARM64_REG_CP_REG, at))

    def batch(self, *numbers: int, encodings: tuple[Encoding, ...] = ()) -> Batch:
        """Return registers that are read and written in one call, without side effects.

        Parameters
        ----------
        numbers
            Registers by Unicorn's number: either vectors or others.
        encodings
            System registers, which come behind them.
        """
        return Batch(self._library, self._engine, numbers, encodings)

    @property
    def exclusive(self) -> bool:
        """Whether the local exclusive monitor is set."""
        return self._exclusive.value != NO_EXCLUSIVE

    def clear_exclusive(self) -> None:
        """Clear the local exclusive monitor, as every exception return does."""
        self._exclusive.value = NO_EXCLUSIVE

    # All of them are the engine's state. Hooks and filters are none: they are never taken back.

    def save_state(self) -> bytes:
        """Return all registers."""
        return self.saved_registers.read()

    def load_state(self, registers: bytes) -> None:
        """Put all registers back. The caller flushes the TLB and has changed code forgotten."""
        self.saved_registers.write(registers)


@cache
def _argument(encoding: Encoding) -> tuple[Any, CpReg]:
    """Return the structure that names a system register to Unicorn, after its address."""
    cp = CpReg(encoding.CRn, encoding.CRm, encoding.op0, encoding.op1, encoding.op2)
    return ctypes.byref(cp), cp
