"""Unicorn, reduced to what the processing element needs.

Everything that is particular to Unicorn is here: its set-up, raw callbacks, the instruction
counter, the flushing of its caches. Callbacks are installed as plain C functions, because
the binding's own wrappers build objects on every call.

Measured facts that this file relies on are pinned in ``tests/emu/cpu/test_unicorn_quirks.py``.
"""

from __future__ import annotations

import ctypes
from array import array
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from unicorn import arm64_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn_py3.unicorn import Uc, uclib

from emu.arch.address import PA, PAGE_SIZE, VA
from emu.arch.fields import Encoding
from emu.cpu.blocks import INSTRUCTION_BYTES, BlockBudget
from emu.cpu.codefilter import CodeFilter
from emu.cpu.engineregisters import EngineRegisters
from emu.cpu.hostcode import nothing
from emu.cpu.internals import (
    PC_INDEX,
    PSTATE_INDEX,
    check,
    find_internals,
    handle,
)
from emu.cpu.sysfilter import SystemCounter, SystemFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from mmap import mmap

    from emu.memory import PhysicalMemory

_u64 = ctypes.c_uint64
_pointer = ctypes.c_void_p

FILL_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_bool, _pointer, _u64, ctypes.c_int, ctypes.POINTER(_u64), _pointer
)
"""(engine, page VA, access type, result[2]: PA and permissions, unused) -> filled."""
INTERRUPT_CALLBACK = ctypes.CFUNCTYPE(None, _pointer, ctypes.c_uint32, _pointer)
"""(engine, QEMU's exception number, unused)."""
SYSTEM_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_uint32, _pointer, ctypes.c_int, _pointer, _pointer)
"""(engine, register, encoding, unused) -> 1 to skip the instruction."""

CODE_CALLBACK = ctypes.CFUNCTYPE(None, _pointer, _u64, ctypes.c_uint32, _pointer)
"""(engine, instruction address, size in bytes, unused)."""

FETCH: Final[int] = const.UC_MEM_FETCH
WRITE: Final[int] = const.UC_MEM_WRITE
READ: Final[int] = const.UC_MEM_READ

_NO_END: Final = _u64(0)
_NO_TIMEOUT: Final = _u64(0)
_UNCOUNTED: Final = ctypes.c_size_t(0)
"""Unicorn's count for a run that it does not count. Its own counting is not used: where it begins
or ends, all code is translated anew, and pages are asked for that the guest does not fetch."""

_OWN_MEMORY: Final = 0xF000_0000_0000
"""Where memory of the engine's own begins: beyond all RAM."""

EVERYWHERE: Final = (1, 0)
NOWHERE: Final = ((1 << 64) - 1, (1 << 64) - 1)
"""Ranges of a hook: all addresses, and one that no instruction has."""


class Interrupt(IntEnum):
    """QEMU's exception numbers, as far as an AArch64 guest can cause them."""

    UNDEFINED = 1
    SVC = 2
    PREFETCH_ABORT = 3
    DATA_ABORT = 4
    BREAKPOINT = 7
    SMC = 13


class SystemHook(IntEnum):
    """The instruction classes that Unicorn can hook."""

    MRS = reg.UC_ARM64_INS_MRS
    MSR = reg.UC_ARM64_INS_MSR
    SYS = reg.UC_ARM64_INS_SYS
    SYSL = reg.UC_ARM64_INS_SYSL


_lib = ctypes.CDLL(uclib._name)  # noqa: SLF001  # the library that the binding has loaded
_lib.uc_mem_map_ptr.argtypes = [_pointer, _u64, ctypes.c_size_t, ctypes.c_uint32, _pointer]
_start, _stop = _lib.uc_emu_start, _lib.uc_emu_stop
"""Called often, with arguments that are C objects already: no conversion is declared."""
_lib.uc_ctl.argtypes = [_pointer, ctypes.c_uint32]
_REMOVE_CACHE: Final = const.UC_CTL_TB_REMOVE_CACHE | 2 << 26 | const.UC_CTL_IO_WRITE << 30
"""Of two arguments."""

# Functions that Unicorn's library exports and its interface lacks; None if a build hides them.
_flush_tlb = getattr(_lib, "tlb_flush_aarch64", None)
"""Takes the CPU."""
_NEVER: Final = 1 << 62
"""A time, in nanoseconds, that does not come."""
_leave = getattr(_lib, "helper_check_exit_request_aarch64", None)
"""Leaves the engine if a stop was asked for. It does not return then, so it must never be called
from Python."""

_SCR_EL3: Final = Encoding(3, 6, 1, 1, 0)
_SCR_RW: Final = 1 << 10
"""The engine has an EL3 that nobody runs in. It must say that EL1 is AArch64, or each ERET to
EL1 is an illegal one."""


class _RangedHook:
    """A hook that stays and whose addresses change.

    Unicorn forgets code under a hook that goes away, and asks for pages to do so, at the next
    start: pages that the guest does not fetch then. So none ever goes away.
    """

    def __init__(self, handle: int) -> None:
        self._range = (_u64 * 2).from_address(handle + find_internals().hook_range)

    def cover(self, first: int, last: int) -> None:
        """Have it called before the instructions from ``first`` to ``last``.

        It takes effect in code that is translated from then on.
        """
        self._range[0], self._range[1] = first, last


class Engine(EngineRegisters):
    """One Unicorn instance over the machine's physical memory.

    Parameters
    ----------
    memory
        Mapped whole; code runs and data is accessed there without further help.
    on_fill
        Asked for a page that Unicorn's TLB lacks. See :data:`FILL_CALLBACK`.
    on_interrupt
        Told of exceptions that instructions raise.
    on_system
        Called before system instructions, but for those that were let pass.
    armv8_0
        Whether to execute the instructions of Armv8.0-A only, or all that Unicorn knows.
    pstate_mask
        The bits of PSTATE that the CPU has.
    on_code
        Called before instructions at watched addresses; a stop takes effect before them.
    native
        Whether to count blocks in machine code, where the host allows it.

    Attributes
    ----------
    blocks
        The instruction budget; grant it before :meth:`start`.
    windows
        When the time began after which Unicorn may shrink its TLB, in nanoseconds.
    accesses
        The instructions that ``on_code`` is called before by :meth:`watch_everything`.
    watches_everything
        Whether :meth:`watch_everything` is on.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        on_fill: Callable[[Any, VA, int, Any, Any], bool],
        on_interrupt: Callable[[Any, int, Any], None],
        on_system: Callable[[Any, int, Any, Any], int],
        on_code: Callable[[Any, int, int, Any], None] = lambda *_: None,
        *,
        armv8_0: bool = True,
        pstate_mask: int = ~0,
        native: bool = True,
    ) -> None:
        self._uc = _new_instance(reg.UC_CPU_ARM64_A72 if armv8_0 else reg.UC_CPU_ARM64_MAX)
        self._memory = memory  # its buffer must outlive the engine
        self._engine = _pointer(handle(self._uc))
        check(
            _lib.uc_mem_map_ptr(
                self._engine, memory.base, memory.size, const.UC_PROT_ALL, memory.host_address
            )
        )
        structure = handle(self._uc)
        super().__init__(_lib, self._engine, structure, pstate_mask)
        internals = find_internals()
        cpu = _u64.from_address(structure + 8 * internals.cpu).value
        self._begin = _u64()
        self.windows = _strided(cpu, internals.windows)
        self._never = memoryview(array("Q", [_NEVER] * len(internals.windows)))
        self._keep_tlb_size()
        registers = cpu + internals.registers
        daif = ctypes.c_uint32.from_address(cpu + internals.daif)
        pstate = ctypes.c_uint32.from_address(registers + 8 * PSTATE_INDEX)
        self._on_fill = FILL_CALLBACK(on_fill)
        self._on_interrupt = INTERRUPT_CALLBACK(on_interrupt)
        self._on_system = SYSTEM_CALLBACK(on_system)
        self._on_code = CODE_CALLBACK(on_code)
        self._hook(const.UC_HOOK_TLB_FILL, self._on_fill)
        self._hook(const.UC_HOOK_INTR, self._on_interrupt)
        self.blocks = BlockBudget(_stop, daif, pstate, native=native)
        self._hook(const.UC_HOOK_BLOCK, self.blocks.hook, data=self.blocks.state)
        self._watched: set[VA] = set()
        self.watches_everything = False
        self.accesses = CodeFilter(self._on_code, native=native)
        self._watch = self._ranged(self.accesses.hook, data=self.accesses.state)
        self._stop_at = self._ranged(_stop)
        self._stops: set[VA] = set()
        self._breaks: dict[VA, _RangedHook] = {}
        self._spare_breaks: list[_RangedHook] = []
        self._own_memory: list[mmap] = []
        self._filters = {
            kind: SystemFilter(
                self._on_system,
                _leave or nothing(),
                native=native,
                registers=registers,
                blocks=self.blocks.state,
            )
            for kind in SystemHook
        }
        filters_leave = all(filter_.leaves for filter_ in self._filters.values())
        self._stops_at_once = filters_leave and _leave is not None
        for kind, filter_ in self._filters.items():
            self._hook(const.UC_HOOK_INSN, filter_.hook, 1, 0, kind, data=filter_.state)
        self.write_system(_SCR_EL3, _SCR_RW)

    # Running

    def start(self, pc: VA) -> int:
        """Run from ``pc``; return Unicorn's error code."""
        self._begin.value = pc
        code: int = _start(self._engine, self._begin, _NO_END, _NO_TIMEOUT, _UNCOUNTED)
        return code

    def start_until(self, pc: VA, stop: VA, end: VA) -> int:
        """Run from ``pc`` and stop before the instruction at ``stop``; return Unicorn's error code.

        Both are in one block, which ends at ``end``. The engine may ask for its page.
        """
        self.forget_code_at(pc, end)
        self._stop_at.cover(stop, stop)
        code = self.start(pc)
        self._stop_at.cover(*NOWHERE)
        return code

    def stop(self) -> None:
        """Stop, from inside a callback. Never call this from another thread."""
        _stop(self._engine)

    def stop_at(self, pc: VA) -> None:
        """Stop inside a callback, with this PC."""
        self.registers[PC_INDEX] = pc
        _stop(self._engine)

    def skip(self, pc: VA) -> None:
        """Go on behind the instruction at ``pc``, from inside a callback about it."""
        self.write(reg.UC_ARM64_REG_PC, pc + 4)

    # Hooks and caches

    def let_pass(self, kind: SystemHook, encoding: Encoding) -> None:
        """Have system instructions of one encoding executed without ``on_system``."""
        self._filters[kind].let_pass(encoding)

    def answer(self, counter: SystemCounter, encoding: Encoding, offset: int | None) -> None:
        """Have a counter read at EL1 without ``on_system``, less ``offset`` ticks; None to ask."""
        self._filters[SystemHook.MRS].answer(encoding, counter, offset)

    def stop_behind(self, va: VA) -> None:
        """Have a stop by the system instruction at ``va`` take effect behind it.

        Where the filter is no machine code, the stop otherwise does where the next block begins.
        It must be in place before Unicorn first translates the code.
        """
        behind = va + INSTRUCTION_BYTES
        if behind not in self._stops and not self._stops_at_once:
            self._stops.add(VA(behind))
            self._hook(const.UC_HOOK_CODE, nothing(), behind, behind)

    def watch(self, va: VA) -> None:
        """Have ``on_code`` called before the instruction at ``va``.

        It must be in place before Unicorn first translates the code.
        """
        if va not in self._watched:
            self._watched.add(va)
            self._hook(const.UC_HOOK_CODE, self._on_code, va, va)

    def break_at(self, addresses: Collection[VA]) -> None:
        """Have ``on_code`` called before the instructions at ``addresses``, perhaps at others too.

        The engine must not be running. Hooks are moved only when there are not enough.
        """
        missing = [va for va in addresses if va not in self._breaks]
        if not missing:
            return
        unused = [va for va in self._breaks if va not in addresses]
        for va in missing:
            if self._spare_breaks:
                hook = self._spare_breaks.pop()
            elif unused:
                hook = self._breaks.pop(unused.pop())
            else:
                hook = self._ranged(self._on_code)
            hook.cover(va, va)
            self._breaks[va] = hook
        self.forget_code()

    def pass_by(self, addresses: Collection[VA]) -> None:
        """Have ``on_code`` no longer called before the instructions at ``addresses``.

        Otherwise it is until the hook is needed elsewhere, so that it need not be moved when
        they are asked for again.
        """
        for va in addresses:
            hook = self._breaks.pop(va, None)
            if hook is not None:
                hook.cover(*NOWHERE)
                self._spare_breaks.append(hook)

    def watch_everything(self, on: bool) -> None:
        """Have ``on_code`` called before all instructions of ``accesses``, or no longer.

        They must be named again: the code is forgotten, too.
        """
        self.watches_everything = on
        self.accesses.clear()
        self._watch.cover(*(EVERYWHERE if on else NOWHERE))
        self.forget_code()

    def flush_tlb(self) -> None:
        """Forget all translations. Safe inside callbacks."""
        if _flush_tlb is not None:
            _flush_tlb(self._cpu)
        else:
            self._uc.ctl(const.UC_CTL_TLB_FLUSH, const.UC_CTL_IO_WRITE)
        self._keep_tlb_size()

    def add_memory(self, buffer: mmap, size: int) -> PA:
        """Add whole pages for code, where the machine has no memory; return their address."""
        pa = PA(_OWN_MEMORY + sum(map(len, self._own_memory)))
        address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
        check(_lib.uc_mem_map_ptr(self._engine, pa, size, const.UC_PROT_ALL, address))
        self._own_memory.append(buffer)  # which must outlive the engine
        return pa

    def _keep_tlb_size(self) -> None:
        """Have Unicorn's TLB never shrink, which it does by the host's clock at a flush."""
        self.windows[:] = self._never

    def forget_code_at(self, begin: VA, end: VA) -> None:
        """Forget the translated code of one page between two addresses."""
        check(_lib.uc_ctl(self._engine, _REMOVE_CACHE, _u64(begin), _u64(end)))

    def forget_code(self) -> None:
        """Forget all translated code, so that it is read from memory again."""
        self._uc.ctl_flush_tb()

    def _ranged(self, callback: Any, data: int | None = None) -> _RangedHook:  # noqa: ANN401  # a ctypes function
        handle = self._hook(const.UC_HOOK_CODE, callback, *NOWHERE, data=data)
        assert handle.value is not None, "a hook that was made has a place"
        return _RangedHook(handle.value)

    def _hook(
        self,
        kind: int,
        callback: Any,  # noqa: ANN401  # a ctypes function
        begin: int = 1,
        end: int = 0,
        *extra: int,
        data: int | None = None,
    ) -> ctypes.c_size_t:
        handle = ctypes.c_size_t()
        check(
            _lib.uc_hook_add(
                self._engine,
                ctypes.byref(handle),
                kind,
                ctypes.cast(callback, _pointer),
                _pointer(data),
                _u64(begin),
                _u64(end),
                *(ctypes.c_int(value) for value in extra),
            )
        )
        return handle


def _strided(start: int, offsets: tuple[int, ...]) -> memoryview:
    """Return 64-bit words that lie at equal distances."""
    step = (offsets[1] - offsets[0]) // ctypes.sizeof(_u64)
    block = (_u64 * (step * len(offsets))).from_address(start + offsets[0])
    return memoryview(block).cast("B").cast("Q")[::step]


def _new_instance(model: int) -> Uc:
    uc = Uc(const.UC_ARCH_ARM64, const.UC_MODE_ARM)
    uc.ctl_set_cpu_model(model)
    uc.ctl_set_page_size(PAGE_SIZE)  # the default is 1024
    uc.ctl_set_tlb_mode(const.UC_TLB_VIRTUAL)
    uc.ctl_exits_enabled(True)  # otherwise each return probes the page of `until`
    uc.ctl_set_exits([])
    return uc
