"""State that Unicorn keeps, found by experiment.

The address that the exclusive monitor is set for has no function in its interface; for general
registers and PC there is one, which takes longer than all else that a refill does; PSTATE.DAIF is
looked at by machine code; the addresses of a hook cannot be changed otherwise. All are located
once, in a throw-away instance, by making Unicorn store known values and looking for them. Anything
but exactly one place is refused.
"""

from __future__ import annotations

import ctypes
import os
import time
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar

from unicorn import arm64_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn_py3.unicorn import Uc, UcError, uc_version

from emu.arch.address import PAGE_SIZE

_u64 = ctypes.c_uint64

WORDS: Final = 400
"""How much of Unicorn's structure is searched, in 64-bit words."""
CPU_BYTES: Final = 1 << 16
"""How much behind each of its pointers is searched, in bytes."""

_PROBE_ADDRESSES: Final = (0x5A5A_1234_5670, 0x3C3C_7654_3210)
_LDXR_X0_X1: Final = 0xC85F_7C20
_MOV_X1_0: Final = 0xD280_0001
_CLREX: Final = 0xD503_3F5F
_X_IDS: Final = (
    *range(reg.UC_ARM64_REG_X0, reg.UC_ARM64_REG_X28 + 1),
    reg.UC_ARM64_REG_X29,
    reg.UC_ARM64_REG_X30,
)
_PROBE_REGISTERS: Final = tuple(0x1357_9BDF_0246_8ACE + number for number in range(31))
_PROBE_PC: Final = 0x2468_ACE0_1234_5678
_PROBE_MODES: Final = (0b0000, 0b0101)
"""PSTATE.M of EL0t and EL1h."""
PC_INDEX, PSTATE_INDEX = 32, 33
"""What follows the general registers, in 64-bit words; SP lies between."""
_HOOK_WORDS: Final = 8
"""How much of a hook is searched, in 64-bit words."""
_USER_SPACE: Final = range(PAGE_SIZE, 1 << 47)

NO_EXCLUSIVE: Final = (1 << 64) - 1
"""QEMU's value for a monitor that is not set."""
NO_ADDRESS: Final = (1 << 64) - 1
"""QEMU's value for a page that is none."""


_Place = TypeVar("_Place")


class EngineError(Exception):
    """Unicorn failed in a way that is no guest's doing: a bug here or there."""


def check(code: int) -> None:
    """Raise what an error code of Unicorn's functions means."""
    if code != const.UC_ERR_OK:
        raise EngineError(f"Unicorn: {UcError(code)}")


class Internals(NamedTuple):
    """Where the values are."""

    cpu: int
    """Pointer to the CPU: word of Unicorn's structure."""
    exclusive: int
    """Address the exclusive monitor is set for: bytes behind that pointer."""
    registers: int
    """X0 to X30, SP, PC, and PSTATE without flags and interrupt masks: bytes behind it."""
    daif: int
    """PSTATE.DAIF, at its bits in PSTATE: bytes behind that pointer."""
    windows: tuple[int, ...]
    """Where the time begins after which its TLB may shrink, for each kind of access: bytes behind
    that pointer."""
    hook_range: int
    """First and last address of a hook: bytes behind the pointer that stands for it."""


def handle(uc: Uc) -> int:
    """Return the address of Unicorn's structure, which its C functions take."""
    address = uc._uch.value  # noqa: SLF001  # not exported either
    assert address is not None
    return address


_PROBE_MASKS: Final = (0x3C0, 0x000, 0x080, 0x240, 0x140, 0x180)
"""Values of PSTATE.DAIF, in place."""
_EL1H: Final = 0x5


@cache
def find_internals() -> Internals:
    """Locate the values. The places are the same in every instance of one library."""
    began = time.time_ns()
    uc = Uc(const.UC_ARCH_ARM64, const.UC_MODE_ARM)
    uc.ctl_set_page_size(PAGE_SIZE)
    uc.ctl_set_tlb_mode(const.UC_TLB_VIRTUAL)
    uc.ctl_exits_enabled(True)
    uc.ctl_set_exits([])
    uc.mem_map(0, PAGE_SIZE)
    uc.hook_add(const.UC_HOOK_TLB_FILL, _everything_at_page_0)
    words = (_u64 * WORDS).from_address(handle(uc))
    with open("/proc/self/mem", "rb", buffering=0) as memory:  # noqa: PTH123  # not a real file
        exclusive = _find_exclusive(uc, words, memory.fileno())
        cpu, offset = only("the exclusive monitor", exclusive)
        registers = only("the general registers", _find_registers(uc, words[cpu], memory.fileno()))
        daif = only("PSTATE.DAIF", _find_daif(uc, words[cpu], memory.fileno()))
        windows = _find_windows(words[cpu], memory.fileno(), began)
    hook_range = only("the range of a hook", _find_range(uc))
    return Internals(cpu, offset, registers, daif, windows, hook_range)


def only(what: str, found: set[_Place]) -> _Place:
    """Return the one place where something was found; refuse none, and several."""
    if len(found) != 1:
        raise EngineError(
            f"Unicorn {uc_version()}: {what} was found in {len(found)} places, not in one; "
            "use unicorn 2.1.4"
        )
    return found.pop()


def _find_registers(uc: Uc, cpu: int, memory: int) -> set[int]:
    """Write known values through the interface, and look for them in a row."""
    for register, value in zip(_X_IDS, _PROBE_REGISTERS, strict=True):
        uc.reg_write(register, value)
    uc.reg_write(reg.UC_ARM64_REG_PC, _PROBE_PC)
    block = os.pread(memory, CPU_BYTES, cpu)
    wanted = b"".join(value.to_bytes(8, "little") for value in _PROBE_REGISTERS)
    found = {at for at in range(0, len(block), 8) if block.startswith(wanted, at)}
    return {at for at in found if _is_followed_by_pc_and_pstate(uc, cpu + at)}


def _is_followed_by_pc_and_pstate(uc: Uc, address: int) -> bool:
    words = (_u64 * (PSTATE_INDEX + 1)).from_address(address)
    modes = []
    for mode in _PROBE_MODES:
        uc.reg_write(reg.UC_ARM64_REG_PSTATE, mode)
        modes.append(words[PSTATE_INDEX] & (1 << 32) - 1)
    return words[PC_INDEX] == _PROBE_PC and tuple(modes) == _PROBE_MODES


def _find_exclusive(uc: Uc, words: ctypes.Array[_u64], memory: int) -> set[tuple[int, int]]:
    """After LDXR it holds the address, which no register holds any more."""
    code = PAGE_SIZE // 2
    program = (_LDXR_X0_X1, _MOV_X1_0, _CLREX)
    uc.mem_write(code, b"".join(word.to_bytes(4, "little") for word in program))
    found: list[set[tuple[int, int]]] = []
    for address in _PROBE_ADDRESSES:
        uc.reg_write(reg.UC_ARM64_REG_X1, address)
        uc.emu_start(code, 0, count=2)
        found.append(_search(memory, words, address))
    # Copies of the CPU lie about, too: of this search, for one. They do not follow CLREX.
    uc.emu_start(code + 8, 0, count=1)
    cleared = NO_EXCLUSIVE.to_bytes(8, "little")
    # Several words may point to the CPU, or to something ahead of it that need not stay there;
    # the first is the one that always does.
    by_address: dict[int, tuple[int, int]] = {}
    for offset, word in sorted((offset, word) for word, offset in set.intersection(*found)):
        address = words[word] + offset
        if os.pread(memory, len(cleared), address) == cleared:
            by_address.setdefault(address, (word, offset))
    return set(by_address.values())


def _find_daif(uc: Uc, cpu: int, memory: int) -> set[int]:
    """Return the aligned 32-bit words that follow what is written to PSTATE.DAIF."""
    found: list[set[int]] = []
    for mask in _PROBE_MASKS:
        uc.reg_write(reg.UC_ARM64_REG_PSTATE, mask | _EL1H)
        words = memoryview(os.pread(memory, CPU_BYTES, cpu)).cast("I")
        found.append({4 * index for index, word in enumerate(words) if word == mask})
    return set.intersection(*found)


def _find_windows(cpu: int, memory: int, began: int) -> tuple[int, ...]:
    """Return the words that hold a time of this instance's life, behind two that are all ones.

    Unicorn reads the clock in microseconds.
    """
    block = memoryview(os.pread(memory, CPU_BYTES, cpu)).cast("Q")
    born = range(began // 1000 * 1000, time.time_ns() + 1)
    found = tuple(
        8 * index
        for index in range(2, len(block))
        if block[index] in born and block[index - 1] == block[index - 2] == NO_ADDRESS
    )
    if len({after - before for before, after in pairwise(found)}) != 1:
        raise EngineError(
            f"Unicorn {uc_version()}: the windows of its TLBs are not where they should be; "
            "use unicorn 2.1.4"
        )
    return found


def _find_range(uc: Uc) -> set[int]:
    """Return where the first and the last address that a hook was made for stand."""
    hook = uc.hook_add(const.UC_HOOK_CODE, lambda *_: None, begin=_PROBE_PC, end=_PROBE_PC + 2)
    words = (_u64 * _HOOK_WORDS).from_address(hook)
    wanted = [_PROBE_PC, _PROBE_PC + 2]
    return {8 * i for i in range(_HOOK_WORDS - 1) if words[i : i + 2] == wanted}


def _search(memory: int, words: ctypes.Array[_u64], value: int) -> set[tuple[int, int]]:
    """Return (word, offset) wherever ``value`` lies behind a pointer of the structure.

    Memory is read through the kernel, so that a word that is no pointer does no harm.
    """
    wanted = value.to_bytes(8, "little")
    found = set()
    for word, pointer in enumerate(words):
        if pointer not in _USER_SPACE:
            continue
        try:
            block = os.pread(memory, CPU_BYTES, pointer)
        except OSError:
            continue
        offset = block.find(wanted)
        while offset >= 0:
            found.add((word, offset))
            offset = block.find(wanted, offset + 1)
    return found


def _everything_at_page_0(_uc: object, _va: int, _access: int, result: Any, _data: object) -> bool:  # noqa: ANN401
    result.paddr = 0
    result.perms = const.UC_PROT_ALL
    return True
