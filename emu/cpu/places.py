"""Where Unicorn keeps what is asked for at every exception: registers that are plain words.

Its interface takes most of a microsecond for each of them. PSTATE is no word: the flags lie beside
the rest, in the form that translated code leaves them in. As in :mod:`emu.cpu.internals`, the
places are found by experiment, and anything but exactly one is refused.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from unicorn import arm64_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn_py3.unicorn import Uc

from emu.arch.registers.exceptions import ELR_EL1, ESR_EL1, FAR_EL1, PSTATE, SPSR_EL1, VBAR_EL1
from emu.arch.registers.translation import MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1
from emu.cpu.internals import CPU_BYTES, find_internals, handle, only

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import Encoding, SystemRegister

_u64 = ctypes.c_uint64

PLAIN: Final[tuple[type[SystemRegister], ...]] = (
    ELR_EL1,
    ESR_EL1,
    FAR_EL1,
    MAIR_EL1,
    SCTLR_EL1,
    SPSR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
    VBAR_EL1,
)
"""System registers that read as what was written, without side effects."""
_PROBES: Final = (0x5A5A_1234_5678_0000, 0x3C3C_7654_3210_8000)
_STEP: Final = 0x0101_0100
_EL1H: Final = 0x5
_NZCV_LSB: Final = PSTATE.V.lsb
_BTYPE_LSB: Final = PSTATE.BTYPE.lsb
_BTYPES: Final = 4


class Places(NamedTuple):
    """Words of the structure of Unicorn's CPU."""

    system: dict[Encoding, int]
    """System registers: 64-bit words."""
    negative: int
    """PSTATE.N is the sign of this 32-bit word, as below."""
    nonzero: int
    """PSTATE.Z is set if this word is zero."""
    carry: int
    """PSTATE.C."""
    overflow: int
    """PSTATE.V is the sign."""
    btype: int
    """PSTATE.BTYPE."""

    @property
    def size(self) -> int:
        """How much of the structure there is to be seen, in bytes."""
        halves = self.negative, self.nonzero, self.carry, self.overflow, self.btype
        return max(8 * max(self.system.values()) + 8, 4 * max(halves) + 8) & ~7


@cache
def find_places() -> Places:
    """Locate the words. They are the same in every instance of one library."""
    uc = Uc(const.UC_ARCH_ARM64, const.UC_MODE_ARM)
    uc.reg_write(reg.UC_ARM64_REG_PSTATE, _EL1H)  # there is no CPU before something is asked of it
    cpu = _u64.from_address(handle(uc) + 8 * find_internals().cpu).value
    with open("/proc/self/mem", "rb", buffering=0) as memory:  # noqa: PTH123  # not a real file

        def look() -> memoryview:
            return memoryview(os.pread(memory.fileno(), CPU_BYTES, cpu))

        return Places(_find_system(uc, look), *_find_pstate(uc, look))


def _find_system(uc: Uc, look: Callable[[], memoryview]) -> dict[Encoding, int]:
    """Write values that occur nowhere else, twice."""
    found: list[list[set[int]]] = []
    for probe in _PROBES:
        values = [probe + number * _STEP for number in range(len(PLAIN))]
        for register, value in zip(PLAIN, values, strict=True):
            op0, op1, crn, crm, op2 = register.encoding
            uc.reg_write(reg.UC_ARM64_REG_CP_REG, (crn, crm, op0, op1, op2, value))
        block = look().cast("Q")
        found.append([_places(block, value) for value in values])
    return {
        register.encoding: only(register.__name__, set.intersection(*sets))
        for register, *sets in zip(PLAIN, *found, strict=True)
    }


def _find_pstate(uc: Uc, look: Callable[[], memoryview]) -> tuple[int, int, int, int, int]:
    """Write all values of the flags and of BTYPE, and look for what follows each of them."""
    blocks = []
    for flags in range(16):
        uc.reg_write(reg.UC_ARM64_REG_PSTATE, flags << _NZCV_LSB | _EL1H)
        blocks.append((flags, look().cast("I")))
    types = []
    for btype in range(_BTYPES):
        uc.reg_write(reg.UC_ARM64_REG_PSTATE, btype << _BTYPE_LSB | _EL1H)
        types.append((btype, look().cast("I")))
    follows: dict[str, Callable[[int, int], bool]] = {
        "PSTATE.N": lambda flags, word: word >> 31 == flags >> 3,
        "PSTATE.Z": lambda flags, word: (word == 0) == bool(flags & 4),
        "PSTATE.C": lambda flags, word: word == flags >> 1 & 1,
        "PSTATE.V": lambda flags, word: word >> 31 == flags & 1,
    }
    n, z, c, v = (_only_follower(name, blocks, rule) for name, rule in follows.items())
    btype = _only_follower("PSTATE.BTYPE", types, lambda value, word: word == value)
    return n, z, c, v, btype


def _only_follower(
    name: str, blocks: list[tuple[int, memoryview]], rule: Callable[[int, int], bool]
) -> int:
    candidates = set(range(len(blocks[0][1])))
    for value, block in blocks:
        candidates = {at for at in candidates if rule(value, block[at])}
    return only(name, candidates)


def _places(block: memoryview, value: int) -> set[int]:
    return {at for at, word in enumerate(block) if word == value}
