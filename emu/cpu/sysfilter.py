"""Which system instructions the engine executes without asking, by encoding.

Its hooks on MRS, MSR and SYS come before every one of them: Linux reads SP_EL0 millions of
times. A filter in machine code lets those pass that have been found to concern nobody, and
calls Python for the others. If Python asked for a stop, the filter then leaves the engine at
once, which otherwise would go on to the end of the block.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

from emu.cpu.hostcode import for_host, words

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
        "41 80 3c 00 00"  # cmp byte [r8+rax], 0
        "74 03"  #       je ask
        "31 c0"  #       xor eax, eax          if state.passes[index]:
        "c3"  #          ret                       return 0
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
        0x34000064,  # cbz w4, ask
        0x52800000,  # mov w0, #0              if state.passes[index]:
        0xD65F03C0,  # ret                         return 0
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

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("passes", "ask", "leave"))


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

    Attributes
    ----------
    hook
        The C function for the engine.
    state
        The address it must be given.
    leaves
        Whether a stop takes effect at once.
    """

    def __init__(self, ask: Any, leave: Any, *, native: bool = True) -> None:  # noqa: ANN401  # C functions
        self._passes = (ctypes.c_uint8 * ENCODINGS)()
        functions = (ctypes.cast(function, ctypes.c_void_p) for function in (ask, leave))
        self._state = _State(ctypes.addressof(self._passes), *functions)
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
        op0, op1, crn, crm, op2 = encoding
        self._passes[op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2] = 1
