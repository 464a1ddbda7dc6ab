"""Which system instructions the engine executes without asking, by encoding.

Its hooks on MRS, MSR and SYS come before every one of them: Linux reads SP_EL0 millions of
times. A filter in machine code lets those pass that have been found to concern nobody, reads the
counters of the generic timer, for which software polls, and calls Python for the others. If Python
asked for a stop, the filter then leaves the engine at once, which otherwise would go on to the end
of the block.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any, Final

from emu.cpu.hostcode import for_host, words

_ASK: Final = 0
_PASS: Final = 1

ENCODINGS: Final = 1 << 16
"""op0, op1, CRn, CRm and op2 are 16 bits."""

MACHINE_CODE: Final = {
    "x86_64": bytes.fromhex(
        "8b 42 08"  #    mov eax, [rdx+8]      index = op0
        "c1 e0 03"  #    shl eax, 3
        "0b 42 0c"  #    or eax, [rdx+12]      then op1
        "c1 e0 04"  #    shl eax, 4
        "0b 02"  #       or eax, [rdx]         then CRn
        "c1 e0 04"  #    shl eax, 4
        "0b 42 04"  #    or eax, [rdx+4]       then CRm
        "c1 e0 03"  #    shl eax, 3
        "0b 42 10"  #    or eax, [rdx+16]      then op2
        "4c 8b 01"  #    mov r8, [rcx]
        "45 0f b6 0c 00"  # movzx r9d, byte [r8+rax]
        "45 85 c9"  #    test r9d, r9d         what = state.passes[index]
        "74 57"  #       je ask
        "41 ff c9"  #    dec r9d
        "75 03"  #       jne counter
        "31 c0"  #       xor eax, eax          if what == PASS:
        "c3"  #          ret                       return 0
        "4c 8b 59 18"  # counter: mov r11, [rcx+24]
        "41 f6 83 08 01 00 00 0c"  # test byte [r11+0x108], 12
        "74 41"  #       je ask                EL0 asks
        "44 8d 96 39 ff ff ff"  # lea r10d, [rsi-199]
        "41 83 fa 1c"  # cmp r10d, 28
        "77 34"  #       ja ask                and so do X29, X30 and XZR
        "4c 8b 41 20"  # mov r8, [rcx+32]
        "49 8b 40 08"  # mov rax, [r8+8]
        "49 03 40 10"  # add rax, [r8+16]
        "49 2b 83 00 01 00 00"  # sub rax, [r11+0x100]
        "48 c1 e8 02"  # shr rax, 2            behind = (address + size - PC) / 4
        "49 8b 50 40"  # mov rdx, [r8+64]
        "49 2b 10"  #    sub rdx, [r8]
        "48 29 c2"  #    sub rdx, rax          time = end - left - behind
        "48 c1 ea 04"  # shr rdx, 4
        "4a 2b 54 c9 20"  # sub rdx, [rcx+8*r9+32]
        "4b 89 14 d3"  # mov [r11+8*r10], rdx  X[rt] = time / 16 - state.offsets[what - 2]
        "b8 01 00 00 00"  # mov eax, 1
        "c3"  #          ret                   return 1
        "53"  #     ask: push rbx
        "57"  #          push rdi
        "51"  #          push rcx
        "ff 51 08"  #    call [rcx+8]          answer = state.ask(engine, ...)
        "89 c3"  #       mov ebx, eax
        "59"  #          pop rcx
        "5f"  #          pop rdi
        "31 f6"  #       xor esi, esi
        "ff 51 10"  #    call [rcx+16]         state.leave(engine, 0)
        "89 d8"  #       mov eax, ebx
        "5b"  #          pop rbx
        "c3"  #          ret                   return answer
    ),
    "aarch64": words(
        0xB9400844,  # ldr w4, [x2, #8]        index = op0
        0xB9400C45,  # ldr w5, [x2, #12]
        0x2A040CA4,  # orr w4, w5, w4, lsl #3  then op1
        0xB9400045,  # ldr w5, [x2]
        0x2A0410A4,  # orr w4, w5, w4, lsl #4  then CRn
        0xB9400445,  # ldr w5, [x2, #4]
        0x2A0410A4,  # orr w4, w5, w4, lsl #4  then CRm
        0xB9401045,  # ldr w5, [x2, #16]
        0x2A040CA4,  # orr w4, w5, w4, lsl #3  then op2
        0xF9400065,  # ldr x5, [x3]
        0x386448A4,  # ldrb w4, [x5, w4, uxtw]
        0x34000384,  # cbz w4, ask             what = state.passes[index]
        0x71000484,  # subs w4, w4, #1
        0x54000061,  # b.ne counter
        0x52800000,  # mov w0, #0              if what == PASS:
        0xD65F03C0,  # ret                         return 0
        0xF9400C65,  # counter: ldr x5, [x3, #24]
        0xB94108A6,  # ldr w6, [x5, #0x108]
        0x721E04DF,  # tst w6, #12
        0x54000280,  # b.eq ask                EL0 asks
        0x51031C27,  # sub w7, w1, #199
        0x710070FF,  # cmp w7, #28
        0x54000228,  # b.hi ask                and so do X29, X30 and XZR
        0xF9401066,  # ldr x6, [x3, #32]
        0xA940A4C8,  # ldp x8, x9, [x6, #8]
        0x8B090108,  # add x8, x8, x9
        0xF94080A9,  # ldr x9, [x5, #0x100]
        0xCB090108,  # sub x8, x8, x9          behind = (address + size - PC) / 4
        0xF94020C9,  # ldr x9, [x6, #64]
        0xF94000CA,  # ldr x10, [x6]
        0xCB0A0129,  # sub x9, x9, x10
        0xCB480929,  # sub x9, x9, x8, lsr #2  time = end - left - behind
        0x9100806A,  # add x10, x3, #32
        0xF864794A,  # ldr x10, [x10, x4, lsl #3]
        0xD344FD29,  # lsr x9, x9, #4
        0xCB0A0129,  # sub x9, x9, x10
        0xF82758A9,  # str x9, [x5, w7, uxtw #3]  X[rt] = time / 16 - state.offsets[what - 2]
        0x52800020,  # mov w0, #1
        0xD65F03C0,  # ret                     return 1
        0xA9BE7BE0,  # ask: stp x0, x30, [sp, #-32]!
        0xF9000BE3,  # str x3, [sp, #16]
        0xF9400464,  # ldr x4, [x3, #8]
        0xD63F0080,  # blr x4                  answer = state.ask(engine, ...)
        0xB9001BE0,  # str w0, [sp, #24]
        0xF94003E0,  # ldr x0, [sp]
        0xF9400BE3,  # ldr x3, [sp, #16]
        0x52800001,  # mov w1, #0
        0xF9400864,  # ldr x4, [x3, #16]
        0xD63F0080,  # blr x4                  state.leave(engine, 0)
        0xB9401BE0,  # ldr w0, [sp, #24]
        0xF94007FE,  # ldr x30, [sp, #8]
        0x910083FF,  # add sp, sp, #32
        0xD65F03C0,  # ret                     return answer
    ),
}
"""The filter, by the host's architecture."""


class _State(ctypes.Structure):
    """What the filter works on. The machine code knows these offsets."""

    _fields_ = (
        ("passes", ctypes.c_void_p),
        ("ask", ctypes.c_void_p),
        ("leave", ctypes.c_void_p),
        ("registers", ctypes.c_void_p),
        ("blocks", ctypes.c_void_p),
        ("offsets", ctypes.c_uint64 * 2),
    )


class SystemCounter(IntEnum):
    """The counters that EL1 reads without asking, while that is allowed."""

    VIRTUAL = 2
    PHYSICAL = 3


class SystemFilter:
    """The filter of one kind of system instruction.

    Parameters
    ----------
    ask
        The C function that decides where the filter does not.
    leave
        The C function that leaves the engine if a stop has been asked for.
    native
        Whether to use machine code where possible.
    registers, blocks
        Where the engine has its registers (X0 to X30, PC at index 32, PSTATE at 33), and where
        :class:`~emu.cpu.blocks.BlockBudget` has its state: for the counters.

    Attributes
    ----------
    hook
        The C function for the engine.
    state
        The address it must be given.
    leaves
        Whether a stop takes effect at once.
    """

    def __init__(
        self,
        ask: Any,  # noqa: ANN401  # a C function
        leave: Any,  # noqa: ANN401  # a C function
        *,
        native: bool = True,
        registers: int = 0,
        blocks: int = 0,
    ) -> None:
        self._passes = (ctypes.c_uint8 * ENCODINGS)()
        functions = (ctypes.cast(function, ctypes.c_void_p) for function in (ask, leave))
        self._state = _State(ctypes.addressof(self._passes), *functions, registers, blocks)
        self.state = ctypes.addressof(self._state)
        code = for_host(MACHINE_CODE) if native else None
        self.hook = code or ask
        self.leaves = code is not None

    def let_pass(self, encoding: tuple[int, int, int, int, int]) -> None:
        """Have the engine execute the instruction without asking from now on.

        Parameters
        ----------
        encoding
            op0, op1, CRn, CRm, op2.
        """
        self._passes[_index(encoding)] = _PASS

    def answer(
        self, encoding: tuple[int, int, int, int, int], counter: SystemCounter, offset: int | None
    ) -> None:
        """Have a counter of the generic timer read at EL1 without asking, or no longer.

        Parameters
        ----------
        encoding
            op0, op1, CRn, CRm, op2.
        counter
            Which it is.
        offset
            What is to be taken off the time, in ticks; None to ask again.
        """
        self._passes[_index(encoding)] = _ASK if offset is None else counter
        self._state.offsets[counter - SystemCounter.VIRTUAL] = offset or 0


def _index(encoding: tuple[int, int, int, int, int]) -> int:
    op0, op1, crn, crm, op2 = encoding
    return op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
