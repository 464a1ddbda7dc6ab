"""The PL011 UART (Arm DDI 0183), as far as software sees it without DMA or modem lines.

Time does not pass for it: a character is sent when it is written.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE: Final = 0x1000
"""The registers and their reserved space, in bytes."""

RX_FIFO_DEPTH: Final = 16
"""Characters at which the receiver is full. More of them wait outside."""


class Register(IntEnum):
    """Register offsets."""

    DR = 0x000
    RSR = 0x004
    FR = 0x018
    ILPR = 0x020
    IBRD = 0x024
    FBRD = 0x028
    LCR_H = 0x02C
    CR = 0x030
    IFLS = 0x034
    IMSC = 0x038
    RIS = 0x03C
    MIS = 0x040
    ICR = 0x044
    DMACR = 0x048


class Flag(IntFlag):
    """FR."""

    BUSY = 1 << 3
    RXFE = 1 << 4
    TXFF = 1 << 5
    RXFF = 1 << 6
    TXFE = 1 << 7


class Interrupt(IntFlag):
    """IMSC, RIS, MIS and ICR: the two interrupts that can happen here."""

    RX = 1 << 4
    TX = 1 << 5


class Control(IntFlag):
    """CR."""

    UARTEN = 1 << 0
    LBE = 1 << 7
    TXE = 1 << 8
    RXE = 1 << 9


_ID_BASE: Final = 0xFE0
_ID: Final = (0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1)
"""PeriphID0-3 and PCellID0-3, one a word from 0xFE0 on."""

_PLAIN: Final = {
    Register.ILPR: 0xFF,
    Register.IBRD: 0xFFFF,
    Register.FBRD: 0x3F,
    Register.LCR_H: 0xFF,
    Register.CR: 0xFF87,
    Register.IFLS: 0x3F,
    Register.IMSC: 0x7FF,
    Register.DMACR: 0x7,
}
"""The bits that each plain register keeps."""

_RESET: Final = {Register.CR: 0x300, Register.IFLS: 0x12}


class PL011:
    """A UART.

    Parameters
    ----------
    output
        Called with each character that the guest sends, as one byte.
    interrupt
        Called with the level of the interrupt line whenever it changes.
    """

    def __init__(
        self,
        output: Callable[[bytes], None],
        interrupt: Callable[[bool], None] | None = None,
    ) -> None:
        self._output = output
        self._interrupt = interrupt
        self._input: deque[int] = deque()
        self._plain = {register: _RESET.get(register, 0) for register in _PLAIN}
        self._raw = Interrupt(0)
        self._level = False

    def receive(self, data: bytes) -> None:
        """Let the guest find ``data`` in its receiver."""
        self._input.extend(data)
        self._update()

    def read(self, offset: int, length: int) -> int:
        """Return a register; reserved space reads as zero."""
        del length
        if offset == Register.DR:
            return self._take()
        if offset == Register.FR:
            return self._flags()
        if offset == Register.RIS:
            return self._raw
        if offset == Register.MIS:
            return self._raw & self._plain[Register.IMSC]
        if _ID_BASE <= offset < SIZE:
            return _ID[(offset - _ID_BASE) // 4] if offset % 4 == 0 else 0
        return self._plain[Register(offset)] if offset in _PLAIN else 0

    def write(self, offset: int, length: int, value: int) -> None:
        """Write a register; writes to read-only and reserved ones are ignored."""
        del length
        if offset == Register.DR:
            self._send(value & 0xFF)
        elif offset == Register.ICR:
            self._raw &= ~Interrupt(value & (Interrupt.RX | Interrupt.TX))
        elif offset in _PLAIN:
            register = Register(offset)
            self._plain[register] = value & _PLAIN[register]
        self._update()

    def _send(self, character: int) -> None:
        if self._plain[Register.CR] & Control.LBE:
            self._input.append(character)
        else:
            self._output(bytes([character]))
        self._raw |= Interrupt.TX

    def _take(self) -> int:
        if not self._input:
            return 0
        character = self._input.popleft()
        self._update()
        return character

    def _flags(self) -> Flag:
        flags = Flag.TXFE
        if not self._input:
            flags |= Flag.RXFE
        if len(self._input) >= RX_FIFO_DEPTH:
            flags |= Flag.RXFF
        return flags

    def _update(self) -> None:
        """Follow the receiver, and move the interrupt line if its level changed."""
        if self._input:
            self._raw |= Interrupt.RX
        else:
            self._raw &= ~Interrupt.RX
        level = bool(self._raw & self._plain[Register.IMSC])
        if level != self._level:
            self._level = level
            if self._interrupt is not None:
                self._interrupt(level)
