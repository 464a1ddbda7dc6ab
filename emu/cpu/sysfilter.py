"""Which system instructions the engine executes without asking, by encoding.

Its hooks on MRS, MSR and SYS come before every one of them: Linux reads SP_EL0 millions of
times. A filter in machine code lets those pass that have been found to concern nobody, and
calls Python for the others.
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
        "ff 61 08"  # ask: jmp [rcx+8]         return state.ask(...)
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
        0xF9400464,  # ask: ldr x4, [x3, #8]
        0xD61F0080,  # br x4                   return state.ask(...)
    ),
}
"""The filter, by the host's architecture."""


class _State(ctypes.Structure):
    """What the filter works on. The machine code knows these offsets."""

    _fields_ = (("passes", ctypes.c_void_p), ("ask", ctypes.c_void_p))


class SystemFilter:
    """The filter of one kind of system instruction.

    Parameters
    ----------
    ask
        The C function that decides where the filter does not.
    native
        Whether to use machine code where possible.

    Attributes
    ----------
    hook
        The C function for the engine.
    state
        The address it must be given.
    """

    def __init__(self, ask: Any, *, native: bool = True) -> None:  # noqa: ANN401  # a C function
        self._passes = (ctypes.c_uint8 * ENCODINGS)()
        self._state = _State(ctypes.addressof(self._passes), ctypes.cast(ask, ctypes.c_void_p))
        self.state = ctypes.addressof(self._state)
        self.hook = (for_host(MACHINE_CODE) if native else None) or ask

    def let_pass(self, encoding: tuple[int, int, int, int, int]) -> None:
        """Have the engine execute the instruction without asking from now on.

        Parameters
        ----------
        encoding
            op0, op1, CRn, CRm, op2.
        """
        op0, op1, crn, crm, op2 = encoding
        self._passes[op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2] = 1
