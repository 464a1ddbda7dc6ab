"""The PL011 UART (Arm DDI 0183), as far as software sees it without DMA or modem lines.

Time does not pass for it: a character is sent when it is written, and when no more arrives the
receive timeout has passed. It works whether or not CR enables it, as if a firmware had done so.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Final

from hyp.devices.primecell import SIZE, identification

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PL011", "SIZE", "Control", "Error", "Flag", "Interrupt", "LineControl", "Register"]

RX_FIFO_DEPTH: Final = 16
"""Characters that the receiver holds with FIFOs enabled, else one. More of them wait outside."""

RX_TRIGGERS: Final = (2, 4, 8, 12, 14, 14, 14, 14)
"""By IFLS.RXIFLSEL, the characters at which RX is raised: 1/8, 1/4, 1/2, 3/4, 7/8 of the depth.

The last three values are reserved.
"""


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


class Error(IntFlag):
    """What DR has above a character, as far as it happens here; RSR has it 8 bits lower."""

    BE = 1 << 10
    OE = 1 << 11


_ERROR_SHIFT: Final = 8


class Interrupt(IntFlag):
    """IMSC, RIS, MIS and ICR: the interrupts that can happen here."""

    RX = 1 << 4
    TX = 1 << 5
    RT = 1 << 6
    BE = 1 << 9
    OE = 1 << 10


class LineControl(IntFlag):
    """LCR_H, as far as it has an effect."""

    FEN = 1 << 4


class Control(IntFlag):
    """CR."""

    UARTEN = 1 << 0
    LBE = 1 << 7
    TXE = 1 << 8
    RXE = 1 << 9


_PERIPHERAL: Final = (0x11, 0x10, 0x14, 0x00)

_PLAIN: Final[dict[int, int]] = {
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

_RESET: Final[dict[int, int]] = {Register.CR: 0x300, Register.IFLS: 0x12}
_RXIFLSEL: Final = 3
"""The lowest bit of the field."""

# A character sent is two accesses. As plain numbers these cost a tenth of what enumerations do.
_DR: Final = int(Register.DR)
_FR: Final = int(Register.FR)
_LCR_H: Final = int(Register.LCR_H)
_CR: Final = int(Register.CR)
_IFLS: Final = int(Register.IFLS)
_IMSC: Final = int(Register.IMSC)
_RXFE: Final = int(Flag.RXFE)
_RXFF: Final = int(Flag.RXFF)
_TXFE: Final = int(Flag.TXFE)
_FEN: Final = int(LineControl.FEN)
_LBE: Final = int(Control.LBE)
_TX: Final = int(Interrupt.TX)
_RX: Final = int(Interrupt.RX)
_RT: Final = int(Interrupt.RT)


class PL011:
    """A UART.

    Parameters
    ----------
    output
        Called with each character that the guest sends, as one byte.
    interrupt
        Called with the level of the interrupt line whenever it changes.
    looked
        Called when the guest reads FR and nothing has been received, before it gets the answer.
    """

    def __init__(
        self,
        output: Callable[[bytes], None],
        interrupt: Callable[[bool], None] | None = None,
        looked: Callable[[], None] | None = None,
    ) -> None:
        self._output = output
        self._interrupt = interrupt
        self._looked = looked
        self._outside: deque[int] = deque()
        self._fifo: deque[int] = deque()
        self._overrun = False
        self._errors = 0
        self._plain = {register: _RESET.get(register, 0) for register in _PLAIN}
        self._raw = 0
        self._level = False

    @property
    def waiting(self) -> int:
        """Characters sent to the guest that it has not read yet."""
        return len(self._fifo) + len(self._outside)

    def receive(self, data: bytes) -> None:
        """Let the guest find ``data`` in its receiver."""
        self._outside.extend(data)
        self._update()

    def receive_break(self) -> None:
        """Let the guest find that its line was held low for longer than a character."""
        self._outside.append(Error.BE)
        self._update()

    def read(self, offset: int, length: int) -> int:
        """Return a register; reserved space reads as zero."""
        del length
        if offset == _FR:
            if self._looked is not None and not self._fifo:
                self._looked()
            return self._flags()
        if offset == _DR:
            return self._take()
        if offset == Register.RSR:
            return self._errors
        if offset == Register.RIS:
            return self._raw
        if offset == Register.MIS:
            return self._raw & self._plain[_IMSC]
        if offset in _PLAIN:
            return self._plain[offset]
        return identification(_PERIPHERAL, offset) or 0

    def write(self, offset: int, length: int, value: int) -> None:
        """Write a register; writes to read-only and reserved ones are ignored."""
        del length
        if offset == _DR:
            self._send(value & 0xFF)
        elif offset == Register.RSR:
            self._errors = 0
        elif offset == Register.ICR:
            self._raw &= ~value
        elif offset in _PLAIN:
            self._plain[offset] = value & _PLAIN[offset]
        self._update()

    # --- the transmitter

    def _send(self, character: int) -> None:
        if self._loops_back:
            if len(self._fifo) < self._depth:
                self._arrive(character)
            else:
                self._overrun = True
                self._raw |= Interrupt.OE
        else:
            self._output(bytes([character]))
        self._raw |= _TX

    @property
    def _loops_back(self) -> bool:
        return bool(self._plain[_CR] & _LBE)

    # --- the receiver

    @property
    def _depth(self) -> int:
        return RX_FIFO_DEPTH if self._plain[_LCR_H] & _FEN else 1

    @property
    def _trigger(self) -> int:
        """How many characters raise RX."""
        return min(self._depth, RX_TRIGGERS[self._plain[_IFLS] >> _RXIFLSEL])

    def _arrive(self, character: int) -> None:
        """Put a character into the FIFO: the only moment at which it raises an interrupt."""
        if self._overrun:
            character |= Error.OE
            self._overrun = False
        self._fifo.append(character)
        self._raw |= _RT
        if len(self._fifo) >= self._trigger:
            self._raw |= _RX
        if character & Error.BE:
            self._raw |= Interrupt.BE

    def _take(self) -> int:
        if not self._fifo:
            return 0
        character = self._fifo.popleft()
        self._errors = character >> _ERROR_SHIFT
        if len(self._fifo) < self._trigger:
            self._raw &= ~_RX
        if not self._fifo:
            self._raw &= ~_RT
        self._update()
        return character

    def _flags(self) -> int:
        flags = _TXFE
        if not self._fifo:
            flags |= _RXFE
        if len(self._fifo) >= self._depth:
            flags |= _RXFF
        return flags

    def _update(self) -> None:
        """Let in what waits outside, and move the interrupt line if its level changed."""
        while self._outside and len(self._fifo) < self._depth and not self._loops_back:
            self._arrive(self._outside.popleft())
        level = bool(self._raw & self._plain[_IMSC])
        if level != self._level:
            self._level = level
            if self._interrupt is not None:
                self._interrupt(level)
