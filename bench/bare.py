"""Unicorn without a machine around it: what the figures are compared with.

The same programs at the same addresses, with nothing translated. Nothing here uses
:mod:`emu.cpu`: the references stay what they are when the machine changes.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

from unicorn import arm64_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn_py3.unicorn import Uc, uclib

from bench.guest import PAGES, RAM
from bench.programs import COUNT
from bench.timing import clock
from emu.arch.address import PAGE_SIZE, VA

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.programs import Program

START: Final = VA(RAM + 4)
"""Behind the store that parks."""
UNCOUNTED: Final = 0
"""Unicorn's count for a run that is not counted."""
CODE: Final = const.UC_PROT_READ | const.UC_PROT_EXEC
DATA: Final = const.UC_PROT_READ | const.UC_PROT_WRITE

_X: Final = (
    *range(reg.UC_ARM64_REG_X0, reg.UC_ARM64_REG_X28 + 1),
    reg.UC_ARM64_REG_X29,
    reg.UC_ARM64_REG_X30,
)


class Plain:
    """Unicorn as it comes, without hooks.

    Parameters
    ----------
    program
        The guest.
    pages
        How many pages there are at ``PAGES``.
    """

    def __init__(self, program: Program, pages: int = 0) -> None:
        self._uc = Uc(const.UC_ARCH_ARM64, const.UC_MODE_ARM)
        self._prepare()
        self._uc.mem_map(RAM, PAGES - RAM + pages * PAGE_SIZE)
        self._uc.mem_write(RAM, program.words)

    def _prepare(self) -> None:
        """Set what must be set before the engine is used."""

    def run(self, registers: Mapping[int, int], instructions: int = UNCOUNTED) -> float:
        """Run the program until it parks; return the seconds it took.

        Parameters
        ----------
        registers
            Set before.
        instructions
            Have Unicorn count, and stop after so many. Code stays as it is first translated:
            an instance either counts always or never.
        """
        self._set(registers)
        started = clock()
        self._uc.emu_start(START, RAM, count=instructions)
        return clock() - started

    def read(self, register: int) -> int:
        """Return a general register."""
        return int(self._uc.reg_read(_X[register]))

    def memory(self, address: int, size: int) -> bytes:
        """Return what the program has left in memory."""
        return bytes(self._uc.mem_read(address, size))

    def _set(self, registers: Mapping[int, int]) -> None:
        for number, value in registers.items():
            self._uc.reg_write(_X[number], value)


class Binding(Plain):
    """Unicorn with a virtual TLB, filled by a hook of the binding that does nothing else."""

    def _prepare(self) -> None:
        self._uc.ctl_set_page_size(PAGE_SIZE)
        self._uc.ctl_set_tlb_mode(const.UC_TLB_VIRTUAL)
        self._hook_fill()

    def _hook_fill(self) -> None:
        self._uc.hook_add(const.UC_HOOK_TLB_FILL, _fill_through_binding)


def _fill_through_binding(_uc: Uc, va: int, access: int, result: Any, _data: object) -> bool:  # noqa: ANN401  # the binding's
    result.paddr = va
    # Unicorn is several times slower at stores to pages that can be executed.
    result.perms = CODE if access == const.UC_MEM_FETCH else DATA
    return True


class Native(Binding):
    """The same with callbacks that are plain C functions, as cheap as Python's can be.

    Parameters
    ----------
    program
        The guest.
    pages
        How many pages there are at ``PAGES``.
    hooked
        The offset of an MRS to hook.

    Attributes
    ----------
    interrupts
        Exceptions that have stopped the engine.
    """

    def __init__(self, program: Program, pages: int = 0, hooked: VA | None = None) -> None:
        super().__init__(program, pages)
        self.interrupts = 0
        self._on_interrupt = _INTERRUPT(self._stop)
        self._hook(const.UC_HOOK_INTR, self._on_interrupt)
        if hooked is not None:
            at = RAM + hooked
            self._hook(const.UC_HOOK_INSN, _ON_SYSTEM, at, at, reg.UC_ARM64_INS_MRS)

    def _hook_fill(self) -> None:
        self._hook(const.UC_HOOK_TLB_FILL, _ON_FILL)

    def _hook(
        self,
        kind: int,
        callback: Any,  # noqa: ANN401  # a ctypes function
        begin: int = 1,
        end: int = 0,
        *extra: int,
    ) -> None:
        code = uclib.uc_hook_add(
            self._handle,
            ctypes.byref(ctypes.c_size_t()),
            kind,
            ctypes.cast(callback, ctypes.c_void_p),
            None,
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
            *(ctypes.c_int(value) for value in extra),
        )
        assert code == const.UC_ERR_OK

    @property
    def _handle(self) -> Any:  # noqa: ANN401  # a ctypes pointer
        return self._uc._uch  # noqa: SLF001  # what the C functions take

    def _stop(self, engine: int, _number: int, _data: int | None) -> None:
        self.interrupts += 1
        uclib.uc_emu_stop(engine)

    def leave(self, times: int) -> float:
        """Run a program that leaves the engine with each SVC; return the seconds for so many."""
        start, handle = uclib.uc_emu_start, self._handle
        self._set({COUNT: times + 1})
        start(handle, START, RAM, 0, UNCOUNTED)
        again = VA(START + 4)
        started = clock()
        for _ in range(times):
            start(handle, again, RAM, 0, UNCOUNTED)
        return clock() - started


_FILL: Final = ctypes.CFUNCTYPE(
    ctypes.c_bool,
    *(ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int),
    *(ctypes.POINTER(ctypes.c_uint64), ctypes.c_void_p),
)
_INTERRUPT: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
_SYSTEM: Final = ctypes.CFUNCTYPE(
    ctypes.c_uint32, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p
)


def _fill(_engine: int, va: int, access: int, result: Any, _data: int | None) -> bool:  # noqa: ANN401  # a C array
    result[0] = va
    result[1] = CODE if access == const.UC_MEM_FETCH else DATA
    return True


def _execute(_engine: int, _register: int, _encoding: int, _data: int | None) -> int:
    return 0


_ON_FILL: Final = _FILL(_fill)
_ON_SYSTEM: Final = _SYSTEM(_execute)
