"""Which instructions the PE has a look before, while it has one at all loads and stores.

The engine then calls a hook before every instruction, but most of them access no memory. A filter
in machine code calls Python for those only that were marked, by some bits of their address: it may
call for others, too, never for fewer.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, Final

from emu.cpu.hostcode import for_host, words

if TYPE_CHECKING:
    from emu.arch.address import VA

PLACES: Final = 1 << 16
"""Bits 17 to 2 of an address."""

MACHINE_CODE: Final = {
    "x86_64": bytes.fromhex(
        "48 89 f0"  #    mov rax, rsi          place = address / 4 % PLACES
        "48 c1 e8 02"  # shr rax, 2
        "0f b7 c0"  #    movzx eax, ax
        "4c 8b 01"  #    mov r8, [rcx]
        "41 80 3c 00 00"  # cmp byte [r8+rax], 0
        "74 03"  #       je done               if state.marks[place]:
        "ff 61 08"  #    jmp [rcx+8]               state.look(engine, ...)
        "c3"  #    done: ret
    ),
    "aarch64": words(
        0xD3424424,  # ubfx x4, x1, #2, #16    place = address / 4 % PLACES
        0xF9400065,  # ldr x5, [x3]
        0x386468A4,  # ldrb w4, [x5, x4]
        0x34000064,  # cbz w4, done            if state.marks[place]:
        0xF9400465,  # ldr x5, [x3, #8]
        0xD61F00A0,  # br x5                       state.look(engine, ...)
        0xD65F03C0,  # done: ret
    ),
}
"""The filter, by the host's architecture."""


class _State(ctypes.Structure):
    """What the filter works on. The machine code knows these offsets."""

    _fields_ = (("marks", ctypes.c_void_p), ("look", ctypes.c_void_p))


class CodeFilter:
    """The filter of one PE.

    Parameters
    ----------
    look
        The C function for marked instructions.
    native
        Whether to use machine code where possible.

    Attributes
    ----------
    hook
        The C function for the engine.
    state
        The address it must be given.
    """

    def __init__(self, look: Any, *, native: bool = True) -> None:  # noqa: ANN401  # a C function
        self._marks = (ctypes.c_uint8 * PLACES)()
        address = ctypes.cast(look, ctypes.c_void_p)
        self._state = _State(ctypes.addressof(self._marks), address)
        self.state = ctypes.addressof(self._state)
        self.hook = (for_host(MACHINE_CODE) if native else None) or look

    def mark(self, va: VA) -> None:
        """Have Python called before the instruction at ``va``."""
        self._marks[va // 4 % PLACES] = 1

    def mark_all(self) -> None:
        """Have Python called before every instruction."""
        ctypes.memset(self._marks, 1, PLACES)

    def clear(self) -> None:
        """Forget all marks."""
        ctypes.memset(self._marks, 0, PLACES)
