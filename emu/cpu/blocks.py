"""The instruction budget, kept by the block.

Deterministic time needs the exact number of retired instructions, and counting each of them
would more than halve the engine's speed. The engine calls a hook at the start of each
translated block; the hook subtracts the block's length from a budget and stops the engine
when it is spent. What was counted too early, the rest of a block that was left in the middle,
follows from the PC at which it was left.

Whatever unmasks an interrupt ends a block, so the hook also is where the engine notices that
one is pending and PSTATE.DAIF no longer masks it.

On demand, instructions of EL0 are counted beside, from a budget of their own: the Exception level
changes between blocks only, and ERET changes it without Python.
"""

from __future__ import annotations

import ctypes
from array import array
from typing import Any, Final, NamedTuple

from emu.arch.address import VA
from emu.cpu.hostcode import for_host, words

BLOCK_CALLBACK = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p
)
"""(engine, block address, block size in bytes, state)."""

INSTRUCTION_BYTES: Final = 4

_COUNT_USER: Final = 1 << 31
"""Beside the pending interrupts: instructions of EL0 are counted."""
_EL: Final = 0b1100
"""PSTATE.M[3:2]."""

MACHINE_CODE: Final = {
    "x86_64": bytes.fromhex(
        "48 89 71 08"  # mov [rcx+8], rsi      state.address = address
        "89 d0"  #       mov eax, edx
        "48 89 41 10"  # mov [rcx+16], rax     state.size = size
        "c1 e8 02"  #    shr eax, 2
        "48 29 01"  #    sub [rcx], rax        state.left -= size / 4
        "7c 30"  #       jl stop
        "8b 41 28"  #    mov eax, [rcx+40]     if not state.pending:
        "85 c0"  #       test eax, eax
        "75 01"  #       jne check
        "c3"  #          ret                       return
        "79 19"  # check: jns mask             if pending & COUNT_USER:
        "0f ba f0 1f"  # btr eax, 31               pending &= ~COUNT_USER
        "48 8b 51 30"  # mov rdx, [rcx+48]
        "f6 02 0c"  #    test byte [rdx], 12       if *state.pstate is of EL0:
        "75 0c"  #       jne mask
        "8b 51 10"  #    mov edx, [rcx+16]
        "c1 ea 02"  #    shr edx, 2
        "48 29 51 38"  # sub [rcx+56], rdx             state.user -= size / 4
        "7c 0d"  #       jl stop
        "48 8b 51 20"  # mask: mov rdx, [rcx+32]
        "8b 12"  #       mov edx, [rdx]
        "f7 d2"  #       not edx
        "85 d0"  #       test eax, edx         if not state.pending & ~*state.daif:
        "75 01"  #       jne stop
        "c3"  #          ret                       return
        "ff 61 18"  # stop: jmp [rcx+24]       state.stop(engine)
    ),
    "aarch64": words(
        0xF9000461,  # str x1, [x3, #8]    state.address = address
        0x2A0203E4,  # mov w4, w2
        0xF9000864,  # str x4, [x3, #16]   state.size = size
        0x53027C84,  # lsr w4, w4, #2
        0xF9400065,  # ldr x5, [x3]
        0xEB0400A5,  # subs x5, x5, x4     state.left -= size / 4
        0xF9000065,  # str x5, [x3]
        0x5400026B,  # b.lt stop
        0xB9402866,  # ldr w6, [x3, #40]   if not state.pending:
        0x35000046,  # cbnz w6, check
        0xD65F03C0,  # ret                     return
        0x36F80146,  # check: tbz w6, #31, mask
        0x120078C6,  # and w6, w6, #0x7fffffff  if pending & COUNT_USER: clear that
        0xF9401865,  # ldr x5, [x3, #48]
        0xB94000A5,  # ldr w5, [x5]
        0x721E04BF,  # tst w5, #12             if *state.pstate is of EL0:
        0x540000A1,  # b.ne mask
        0xF9401C65,  # ldr x5, [x3, #56]
        0xEB0400A5,  # subs x5, x5, x4             state.user -= size / 4
        0xF9001C65,  # str x5, [x3, #56]
        0x540000CB,  # b.lt stop
        0xF9401067,  # mask: ldr x7, [x3, #32]
        0xB94000E7,  # ldr w7, [x7]
        0x6A2700DF,  # bics wzr, w6, w7    if not state.pending & ~*state.daif:
        0x54000041,  # b.ne stop
        0xD65F03C0,  # ret                     return
        0xF9400C66,  # stop: ldr x6, [x3, #24]
        0xD61F00C0,  # br x6               state.stop(engine)
    ),
}
"""The hook, by the host's architecture."""


_LEFT: Final = 0
_ADDRESS: Final = 1
_SIZE: Final = 2
_STOP: Final = 3
_DAIF: Final = 4
_PENDING: Final = 5
_PSTATE: Final = 6
_USER: Final = 7
_END: Final = 8
_WORDS: Final = 9
"""The words that the hook works on, 64 bits each. The machine code knows these places."""


class BlockState(NamedTuple):
    """What there is to a :class:`BlockBudget` while nothing runs."""

    left: int
    address: int
    size: int
    pending: int
    user: int
    end: int
    granted: int
    granted_user: int | None
    """None if instructions of EL0 are not counted apart."""


class BlockBudget:
    """The budget of one engine.

    Parameters
    ----------
    stop
        The C function that stops the engine it is given.
    daif, pstate
        Where the engine keeps PSTATE.DAIF and PSTATE.M; they must outlive the budget.
    native
        Whether to use machine code where possible.

    Attributes
    ----------
    hook
        The C function for a block hook.
    state
        The address it must be given.
    """

    def __init__(
        self,
        stop: Any,  # noqa: ANN401  # a C function
        daif: ctypes.c_uint32,
        pstate: ctypes.c_uint32,
        *,
        native: bool = True,
    ) -> None:
        self._daif = daif
        self._pstate = pstate
        words = array("Q", bytes(8 * _WORDS))
        self.state = words.buffer_info()[0]
        self._words = memoryview(words)
        self._signed_words = self._words.cast("B").cast("q")
        self._words[_STOP] = ctypes.cast(stop, ctypes.c_void_p).value or 0
        self._words[_DAIF] = ctypes.addressof(daif)
        self._words[_PSTATE] = ctypes.addressof(pstate)
        self._granted = 0
        self._granted_user: int | None = None
        self._stop = stop
        code = for_host(MACHINE_CODE) if native else None
        self.hook = BLOCK_CALLBACK(self._enter_block) if code is None else BLOCK_CALLBACK(code)

    def grant(self, instructions: int, user: int | None = None, *, now: int = 0) -> None:
        """Allow so many instructions from now on.

        Parameters
        ----------
        instructions
            How many.
        user
            How many of them may be of EL0. None not to count those apart.
        now
            The machine's time, which machine code may ask for while the grant lasts.
        """
        words = self._words
        words[_END] = now + instructions
        self._granted = words[_LEFT] = instructions
        words[_SIZE] = 0
        if user is None:
            if self._granted_user is not None:
                self._granted_user = None
                words[_PENDING] = self.pending
                words[_USER] = 0
            return
        self._granted_user = words[_USER] = user
        words[_PENDING] |= _COUNT_USER

    def withdraw(self, instructions: int) -> None:
        """Take the current block back, which has not been executed, and allow so many more."""
        words, signed = self._words, self._signed_words
        size = words[_SIZE] // INSTRUCTION_BYTES
        if self._counted_for_user:
            signed[_USER] += size
        self._granted += instructions
        words[_END] += instructions
        signed[_LEFT] += instructions + size
        if self._granted_user is not None:
            self._granted_user += instructions
            signed[_USER] += instructions

    def end_behind_block(self) -> None:
        """Allow nothing behind the current block, from inside it."""
        left = self._signed_words[_LEFT]
        self._granted -= left
        self._words[_END] -= left
        self._words[_LEFT] = 0

    def take_back(self) -> None:
        """Allow one instruction more in place of the current one, which does not retire."""
        if self._counted_for_user:
            self._signed_words[_USER] += 1
        self._signed_words[_LEFT] += 1

    def save_state(self) -> BlockState:
        """Return the state, for :meth:`load_state`."""
        words, signed = self._words, self._signed_words
        return BlockState(
            signed[_LEFT],
            words[_ADDRESS],
            words[_SIZE],
            words[_PENDING],
            signed[_USER],
            words[_END],
            self._granted,
            self._granted_user,
        )

    def load_state(self, saved: BlockState) -> None:
        """Have the state that was saved."""
        words, signed = self._words, self._signed_words
        signed[_LEFT], words[_ADDRESS], words[_SIZE] = saved.left, saved.address, saved.size
        words[_PENDING], signed[_USER], words[_END] = saved.pending, saved.user, saved.end
        self._granted, self._granted_user = saved.granted, saved.granted_user

    @staticmethod
    def essence(saved: BlockState) -> int:
        """Return what matters of a state: the rest is written anew by the next grant."""
        return saved.pending & ~_COUNT_USER

    @property
    def pending(self) -> int:
        """The interrupts that wait until they are unmasked, at their bits in PSTATE."""
        return self._words[_PENDING] & ~_COUNT_USER

    @pending.setter
    def pending(self, interrupts: int) -> None:
        self._words[_PENDING] = interrupts | self._words[_PENDING] & _COUNT_USER

    @property
    def left(self) -> int:
        """What is left of the grant, with all of the current block taken off.

        Negative if the engine has stopped before that block.
        """
        left = self._signed_words[_LEFT]
        if self._granted_user is None:
            return left
        user = self._signed_words[_USER]
        if left < 0 and self._in_user:
            user -= self._words[_SIZE] // INSTRUCTION_BYTES  # the hook did not get there
        return min(left, user)

    @property
    def is_spent(self) -> bool:
        """Whether the next block would exceed the grant."""
        return not self._words[_LEFT]

    @property
    def is_spent_for_user(self) -> bool:
        """Whether it would exceed the part that EL0 may have, and is of EL0."""
        return self._in_user and not self._words[_USER]

    @property
    def block(self) -> tuple[VA, VA]:
        """Where the block entered last begins and ends."""
        address = self._words[_ADDRESS]
        return VA(address), VA(address + self._words[_SIZE])

    def completed(self, pc: VA, *, fetching: bool = False) -> int:
        """Return how many instructions have completed since the grant.

        Parameters
        ----------
        pc
            The instruction that is next, or under way.
        fetching
            The engine is looking for the block at ``pc`` and has not entered it.
        """
        begun = self._granted - self._signed_words[_LEFT]
        size = self._words[_SIZE]
        behind = self._words[_ADDRESS] + size - pc
        if fetching or not 0 < behind <= size:
            return begun
        return begun - behind // INSTRUCTION_BYTES

    def of_user(self, completed: int) -> int:
        """Return how many of the ``completed`` instructions since the grant were of EL0.

        0 where those are not counted apart.
        """
        if self._granted_user is None:
            return 0
        begun = self._granted_user - self._signed_words[_USER]
        if self._counted_for_user:
            begun -= self._granted - self._signed_words[_LEFT] - completed
        return begun

    @property
    def _in_user(self) -> bool:
        """Whether the current block is of EL0, and those are counted."""
        return self._granted_user is not None and not self._pstate.value & _EL

    @property
    def _counted_for_user(self) -> bool:
        """Whether the current block has been; it has not where the whole budget is spent."""
        return self._in_user and self._signed_words[_LEFT] >= 0

    def _enter_block(self, engine: int, address: int, size: int, _state: int) -> None:
        """Do what the machine code does."""
        words, signed = self._words, self._signed_words
        words[_ADDRESS], words[_SIZE] = address, size
        signed[_LEFT] -= size // INSTRUCTION_BYTES
        if self._counted_for_user:
            signed[_USER] -= size // INSTRUCTION_BYTES
        if signed[_LEFT] < 0 or signed[_USER] < 0 or self.pending & ~self._daif.value:
            self._stop(ctypes.c_void_p(engine))
