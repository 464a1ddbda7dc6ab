"""The PL011 UART."""

from __future__ import annotations

import pytest

from hyp.devices.pl011 import (
    PL011,
    RX_FIFO_DEPTH,
    Control,
    Error,
    Flag,
    Interrupt,
    LineControl,
    Register,
)


class Uart:
    """A UART with what came out of it."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.line: list[bool] = []
        self.device = PL011(self.sent.extend, self.line.append)

    def read(self, offset: int) -> int:
        return self.device.read(offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.device.write(offset, 4, value)


@pytest.fixture
def uart() -> Uart:
    return Uart()


def test_characters_written_come_out(uart: Uart) -> None:
    for character in b"hello":
        uart.write(Register.DR, character | 0xF00)
    assert uart.sent == b"hello"


def test_transmitter_is_always_ready(uart: Uart) -> None:
    uart.write(Register.DR, 65)
    assert not uart.read(Register.FR) & (Flag.TXFF | Flag.BUSY)
    assert uart.read(Register.FR) & Flag.TXFE


def test_characters_received_are_read_in_order(uart: Uart) -> None:
    assert uart.read(Register.FR) & Flag.RXFE
    uart.device.receive(b"ab")
    assert not uart.read(Register.FR) & Flag.RXFE
    assert [uart.read(Register.DR) for _ in range(3)] == [ord("a"), ord("b"), 0]
    assert uart.read(Register.FR) & Flag.RXFE


def test_receiver_is_full_at_its_depth_and_loses_nothing(uart: Uart) -> None:
    uart.write(Register.LCR_H, LineControl.FEN)
    data = bytes(range(RX_FIFO_DEPTH + 4))
    uart.device.receive(data[: RX_FIFO_DEPTH - 1])
    assert not uart.read(Register.FR) & Flag.RXFF
    uart.device.receive(data[RX_FIFO_DEPTH - 1 :])
    assert uart.read(Register.FR) & Flag.RXFF
    assert uart.device.waiting == len(data)
    assert bytes(uart.read(Register.DR) for _ in data) == data


def test_identification_registers(uart: Uart) -> None:
    ids = [uart.read(offset) for offset in range(0xFE0, 0x1000, 4)]
    assert ids == [0x11, 0x10, 0x14, 0x00, 0x0D, 0xF0, 0x05, 0xB1]
    assert uart.read(0xFE1) == 0


@pytest.mark.parametrize(
    ("register", "kept"),
    [
        (Register.IBRD, 0xFFFF),
        (Register.FBRD, 0x3F),
        (Register.LCR_H, 0xFF),
        (Register.CR, 0xFF87),
        (Register.IMSC, 0x7FF),
        (Register.IFLS, 0x3F),
        (Register.DMACR, 0x7),
    ],
)
def test_plain_registers_keep_their_bits(uart: Uart, register: int, kept: int) -> None:
    uart.write(register, 0xFFFF_FFFF)
    assert uart.read(register) == kept


def test_reset_values(uart: Uart) -> None:
    assert uart.read(Register.CR) == 0x300
    assert uart.read(Register.IFLS) == 0x12
    assert uart.read(Register.IMSC) == 0


@pytest.mark.parametrize("offset", [0x008, 0x050, 0x800, Register.RSR, Register.ICR])
def test_reserved_space_reads_as_zero_and_ignores_writes(uart: Uart, offset: int) -> None:
    uart.write(offset, 0xFF)
    assert uart.read(offset) == 0


def test_read_only_registers_ignore_writes(uart: Uart) -> None:
    for register in (Register.FR, Register.RIS, Register.MIS, 0xFE0):
        before = uart.read(register)
        uart.write(register, 0xFF)
        assert uart.read(register) == before


def test_receive_interrupt_follows_the_receiver(uart: Uart) -> None:
    uart.write(Register.IMSC, Interrupt.RX)
    uart.device.receive(b"a")
    assert uart.read(Register.MIS) == Interrupt.RX
    assert uart.line == [True]
    uart.read(Register.DR)
    assert uart.read(Register.MIS) == 0
    assert uart.line == [True, False]


def test_masked_interrupt_is_raw_only(uart: Uart) -> None:
    uart.device.receive(b"a")
    assert uart.read(Register.RIS) == Interrupt.RX | Interrupt.RT
    assert uart.read(Register.MIS) == 0
    assert uart.line == []


def test_without_fifos_the_receiver_holds_one_character(uart: Uart) -> None:
    uart.device.receive(b"ab")
    assert uart.read(Register.FR) & Flag.RXFF
    assert [uart.read(Register.DR), uart.read(Register.DR)] == [ord("a"), ord("b")]


@pytest.mark.parametrize(
    ("select", "level"), [(0, 2), (1, 4), (2, 8), (3, 12), (4, 14), (5, 14), (7, 14)]
)
def test_the_fifo_raises_rx_at_the_level_that_was_chosen(
    uart: Uart, select: int, level: int
) -> None:
    uart.write(Register.LCR_H, LineControl.FEN)
    uart.write(Register.IFLS, select << 3)
    uart.device.receive(b"x" * (level - 1))
    assert not uart.read(Register.RIS) & Interrupt.RX
    uart.device.receive(b"x")
    assert uart.read(Register.RIS) & Interrupt.RX
    uart.read(Register.DR)
    assert not uart.read(Register.RIS) & Interrupt.RX


def test_few_characters_raise_the_receive_timeout_until_all_are_read(uart: Uart) -> None:
    uart.write(Register.LCR_H, LineControl.FEN)
    uart.write(Register.IMSC, Interrupt.RX | Interrupt.RT)
    uart.device.receive(b"ab")
    assert uart.read(Register.MIS) == Interrupt.RT
    uart.read(Register.DR)
    assert uart.read(Register.MIS) == Interrupt.RT
    uart.read(Register.DR)
    assert uart.read(Register.MIS) == 0
    assert uart.line == [True, False]


def test_a_cleared_interrupt_comes_back_with_the_next_character_only(uart: Uart) -> None:
    uart.write(Register.LCR_H, LineControl.FEN)
    uart.write(Register.IMSC, Interrupt.RX | Interrupt.RT)
    uart.device.receive(b"a" * 8)
    uart.write(Register.ICR, 0x7FF)
    assert uart.line == [True, False]
    uart.device.receive(b"a")
    assert uart.line == [True, False, True]


def test_the_line_does_not_move_while_more_waits_outside(uart: Uart) -> None:
    uart.write(Register.IMSC, Interrupt.RX)
    uart.device.receive(b"abc")
    for _ in range(3):
        assert uart.line == [True]
        uart.read(Register.DR)
    assert uart.line == [True, False]


def test_turning_fifos_off_loses_nothing(uart: Uart) -> None:
    uart.write(Register.LCR_H, LineControl.FEN)
    uart.device.receive(b"abcdef")
    uart.write(Register.LCR_H, 0)
    assert bytes(uart.read(Register.DR) for _ in range(6)) == b"abcdef"


def test_a_break_is_a_character_with_its_error(uart: Uart) -> None:
    uart.write(Register.IMSC, Interrupt.BE)
    uart.device.receive_break()
    uart.device.receive(b"h")
    assert uart.line == [True]
    assert uart.read(Register.DR) == Error.BE
    assert uart.read(Register.RSR) == Error.BE >> 8
    uart.write(Register.RSR, 0xFF)
    assert uart.read(Register.RSR) == 0
    uart.write(Register.ICR, Interrupt.BE)
    assert uart.line == [True, False]
    assert uart.read(Register.DR) == ord("h")


def test_transmit_interrupt_stays_until_it_is_cleared(uart: Uart) -> None:
    uart.write(Register.IMSC, Interrupt.TX)
    uart.write(Register.DR, 65)
    assert uart.read(Register.RIS) == Interrupt.TX
    uart.write(Register.ICR, Interrupt.TX)
    assert uart.read(Register.RIS) == 0
    assert uart.line == [True, False]


def test_loopback_feeds_the_receiver(uart: Uart) -> None:
    uart.write(Register.CR, Control.UARTEN | Control.LBE | Control.TXE | Control.RXE)
    uart.write(Register.DR, 65)
    assert uart.sent == b""
    assert uart.read(Register.DR) == 65


def test_in_loopback_the_outside_waits_and_the_receiver_can_overrun(uart: Uart) -> None:
    uart.write(Register.CR, Control.LBE)
    uart.device.receive(b"x")
    assert uart.read(Register.FR) & Flag.RXFE
    for character in b"ab":
        uart.write(Register.DR, character)
    assert uart.read(Register.RIS) & Interrupt.OE
    assert uart.read(Register.DR) == ord("a")
    uart.write(Register.DR, ord("c"))
    assert uart.read(Register.DR) == Error.OE | ord("c")
    uart.write(Register.CR, 0)
    assert uart.read(Register.DR) == ord("x")


def test_interrupt_line_may_lead_nowhere() -> None:
    sent = bytearray()
    device = PL011(sent.extend)
    device.write(Register.IMSC, 4, Interrupt.TX)
    device.write(Register.DR, 4, 65)
    assert device.read(Register.MIS, 4) == Interrupt.TX


def test_who_wants_to_know_hears_of_each_look_in_vain_and_can_still_answer() -> None:
    looks: list[int] = []

    def looked() -> None:
        looks.append(device.waiting)
        if len(looks) == 2:
            device.receive(b"a")

    device = PL011(lambda _data: None, looked=looked)
    flags = [device.read(Register.FR, 4) & Flag.RXFE for _ in range(3)]
    assert flags == [Flag.RXFE, 0, 0]
    assert looks == [0, 0]
