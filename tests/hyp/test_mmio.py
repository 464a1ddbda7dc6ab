"""MMIO: exits, devices in process, completion on the next run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import ELR_EL1, ELR_EL2, ESR_EL1, FAR_EL1, SPSR_EL2, Mode
from emu.arch.registers.translation import SCTLR_EL1
from hyp.devices.pl011 import PL011
from hyp.errors import Errno, KvmError
from hyp.exits import Intr, IntrCause, Mmio
from hyp.iobus import IoBus
from tests.hyp.fake_machine import HOLE, Guest, load, make_guest, store

if TYPE_CHECKING:
    from hyp.devices.device import Device

MASK64 = (1 << 64) - 1


class Recorder:
    """A device that answers with the bytes of a counter and remembers stores."""

    def __init__(self, answer: int = 0x8877_6655_4433_2211) -> None:
        self.answer = answer
        self.stores: list[tuple[int, int, int]] = []

    def read(self, offset: int, length: int) -> int:
        self.stores.append((offset, length, -1))
        return self.answer

    def write(self, offset: int, length: int, value: int) -> None:
        self.stores.append((offset, length, value))


@pytest.fixture
def guest() -> Guest:
    guest = make_guest()
    guest.pe.write(ELR_EL2(0x4000_0100))
    return guest


def instruction(size: int, *, signed: bool = False, x: bool = False, register: int = 5) -> int:
    return IssDataAbort.build(ISV=1, SAS=size.bit_length() - 1, SSE=signed, SF=x, SRT=register)


# width, sign-extended, into X, answer, register
EXTENSIONS = [
    (1, False, False, 0x80, 0x80),
    (1, True, False, 0x80, 0xFFFF_FF80),
    (1, True, True, 0x80, 0xFFFF_FFFF_FFFF_FF80),
    (1, True, True, 0x7F, 0x7F),
    (2, False, False, 0x8001, 0x8001),
    (2, True, False, 0x8001, 0xFFFF_8001),
    (2, True, True, 0x8001, 0xFFFF_FFFF_FFFF_8001),
    (4, False, False, 0x8000_0001, 0x8000_0001),
    (4, True, True, 0x8000_0001, 0xFFFF_FFFF_8000_0001),
    (8, False, True, 0x8000_0000_0000_0001, 0x8000_0000_0000_0001),
]


@pytest.mark.parametrize("user", [True, False], ids=["user space", "in process"])
@pytest.mark.parametrize(("size", "signed", "x", "answer", "register"), EXTENSIONS)
@pytest.mark.kvm_row(24)
def test_read_is_extended_as_the_instruction_says(  # a table
    guest: Guest, size: int, signed: bool, x: bool, answer: int, register: int, user: bool
) -> None:
    trap = load(HOLE, instruction=instruction(size, signed=signed, x=x))
    guest.pe.x[5] = MASK64
    if user:
        assert guest.run(trap) == Mmio(HOLE, bytes(size), size, False)
        guest.vcpu.set_mmio_data(answer.to_bytes(size, "little"))
        guest.run()
    else:
        guest.vm.register_device(HOLE, 0x1000, Recorder(answer))
        assert isinstance(guest.run(trap), Intr)
    assert guest.pe.x[5] == register
    assert guest.vcpu.pc == 0x4000_0104


@pytest.mark.parametrize(
    ("size", "signed", "x", "memory", "register"),
    [
        (2, True, True, b"\x80\x01", 0xFFFF_FFFF_FFFF_8001),
        (2, True, True, b"\x01\x80", 0x0180),
        (4, False, False, b"\x11\x22\x33\x44", 0x1122_3344),
        (8, False, True, b"\x11\x22\x33\x44\x55\x66\x77\x88", 0x1122_3344_5566_7788),
    ],
)
@pytest.mark.parametrize(
    ("mode", "sctlr"), [(Mode.EL1h, SCTLR_EL1.build(EE=1)), (Mode.EL0t, SCTLR_EL1.build(E0E=1))]
)
@pytest.mark.kvm_row(25)
def test_big_endian_read_is_swapped_before_its_sign_is_looked_at(  # a table
    guest: Guest,
    size: int,
    signed: bool,
    x: bool,
    memory: bytes,
    register: int,
    mode: Mode,
    sctlr: SCTLR_EL1,
) -> None:
    guest.pe.write(SPSR_EL2.build(M=mode))
    guest.pe.write(sctlr)
    guest.run(load(HOLE, instruction=instruction(size, signed=signed, x=x)))
    guest.vcpu.set_mmio_data(memory)
    guest.run()
    assert guest.pe.x[5] == register


@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.kvm_row(24)
def test_write_shows_the_low_bytes_of_the_register(guest: Guest, size: int) -> None:
    guest.pe.x[5] = 0x8877_6655_4433_2211
    exit_ = guest.run(store(HOLE, instruction=instruction(size), far=0x10))
    data = (0x8877_6655_4433_2211).to_bytes(8, "little")[:size]
    assert exit_ == Mmio(IPA(HOLE + 0x10), data, size, True)
    assert exit_.value == int.from_bytes(data, "little")


def test_big_endian_write_shows_the_bytes_as_the_bus_would(guest: Guest) -> None:
    guest.pe.write(SCTLR_EL1.build(EE=1))
    guest.pe.x[5] = 0x1122_3344
    exit_ = guest.run(store(HOLE, instruction=instruction(4)))
    assert isinstance(exit_, Mmio)
    assert exit_.data == b"\x11\x22\x33\x44"


def test_zero_register_writes_zero_and_swallows_reads(guest: Guest) -> None:
    exit_ = guest.run(store(HOLE, instruction=instruction(8, register=31)))
    assert isinstance(exit_, Mmio)
    assert exit_.data == bytes(8)
    guest.run(load(HOLE, instruction=instruction(8, register=31)))
    guest.vcpu.set_mmio_data(b"\xff" * 8)
    guest.run()
    assert guest.pe.x == [0] * 31


def test_the_instruction_is_completed_on_the_next_run_only(guest: Guest) -> None:
    guest.run(store(HOLE))
    assert guest.vcpu.pc == 0x4000_0100
    guest.run()
    assert guest.vcpu.pc == 0x4000_0104


def test_unanswered_read_gives_zero(guest: Guest) -> None:
    guest.pe.x[5] = MASK64
    guest.run(load(HOLE))
    guest.run()
    assert guest.pe.x[5] == 0


def test_immediate_exit_completes_the_access_and_returns(guest: Guest) -> None:
    guest.run(load(HOLE))
    guest.vcpu.set_mmio_data(b"\x2a" + bytes(7))
    guest.vcpu.immediate_exit = True
    assert guest.run() == Intr(IntrCause.IMMEDIATE_EXIT)
    assert guest.pe.x[5] == 42
    assert guest.vcpu.pc == 0x4000_0104


@pytest.mark.kvm_row(27, 75)
def test_external_abort_from_user_space_replaces_the_access(guest: Guest) -> None:
    guest.pe.x[5] = 7
    guest.run(load(HOLE, far=0xFFFF_0000_0000_0010))
    guest.vcpu.set_mmio_data(b"\x2a" + bytes(7))
    guest.vcpu.set_vcpu_events(ext_dabt_pending=True)
    guest.run()
    esr = guest.pe.read(ESR_EL1)
    assert guest.pe.x[5] == 7, "the load did not happen"
    assert guest.pe.read(ELR_EL1) == 0x4000_0100
    assert guest.pe.read(FAR_EL1) == 0xFFFF_0000_0000_0010
    assert esr.EC is ExceptionClass.DABT_CUR
    assert esr.ISS == FaultStatusCode.EXTERNAL
    guest.run()
    assert guest.pe.read(ELR_EL1) == 0x4000_0100, "taken once"


@pytest.mark.parametrize("data", [b"", bytes(4), bytes(9)])
def test_answer_of_another_width_is_refused(guest: Guest, data: bytes) -> None:
    guest.run(load(HOLE))
    with pytest.raises(KvmError, match="reads 8 bytes") as caught:
        guest.vcpu.set_mmio_data(data)
    assert caught.value.errno is Errno.EINVAL


def test_answer_without_a_read_is_refused(guest: Guest) -> None:
    for step in (None, store(HOLE)):
        if step is not None:
            guest.run(step)
        with pytest.raises(KvmError, match="no MMIO read is pending"):
            guest.vcpu.set_mmio_data(bytes(8))


def test_events_of_a_read_are_split_by_the_exit(guest: Guest) -> None:
    guest.run(load(HOLE))
    first = guest.event_names()
    assert first == [
        "kvm_entry",
        "kvm_exit",
        "kvm_guest_fault",
        "kvm_mmio",
        "kvm_userspace_exit",
    ]
    guest.events.clear()
    guest.run()
    assert guest.event_names()[:2] == ["kvm_mmio", "kvm_entry"]


def test_events_of_a_write_to_a_device_in_process(guest: Guest) -> None:
    guest.vm.register_device(HOLE, 0x1000, Recorder())
    guest.run(store(HOLE))
    assert guest.event_names()[:5] == [
        "kvm_entry",
        "kvm_exit",
        "kvm_guest_fault",
        "kvm_mmio",
        "kvm_entry",
    ]
    assert guest.vm.stats.mmio_exit_kernel == 1
    assert guest.vm.stats.mmio_exit_user == 0


def test_any_object_with_read_and_write_is_a_device() -> None:
    uart: Device = PL011(lambda _data: None)
    assert uart.read(0xFF0, 4) == 0x0D


# --- the bus -----------------------------------------------------------------------------


def test_bus_gives_each_device_its_own_offsets() -> None:
    bus, low, high = IoBus(), Recorder(), Recorder()
    bus.register(IPA(0x2000), 0x100, high)
    bus.register(IPA(0x1000), 0x100, low)
    assert bus.write(IPA(0x1010), 4, 7)
    assert bus.read(IPA(0x20F8), 8) == 0x8877_6655_4433_2211
    assert low.stores == [(0x10, 4, 7)]
    assert high.stores == [(0xF8, 8, -1)]


def test_bus_cuts_an_answer_to_the_width() -> None:
    bus = IoBus()
    bus.register(IPA(0x1000), 0x100, Recorder())
    assert bus.read(IPA(0x1000), 2) == 0x2211


@pytest.mark.parametrize("addr", [0x0, 0xFFF, 0x1100, 0x10FD])
def test_bus_has_no_device_for_what_is_not_wholly_inside_one(addr: int) -> None:
    bus = IoBus()
    bus.register(IPA(0x1000), 0x100, Recorder())
    assert bus.read(IPA(addr), 4) is None
    assert not bus.write(IPA(addr), 4, 0)


def test_overlapping_devices_are_refused() -> None:
    bus = IoBus()
    bus.register(IPA(0x1000), 0x100, Recorder())
    with pytest.raises(KvmError, match="overlaps") as caught:
        bus.register(IPA(0x10FF), 0x100, Recorder())
    assert caught.value.errno is Errno.EEXIST
    with pytest.raises(KvmError) as caught:
        bus.register(IPA(0x3000), 0, Recorder())
    assert caught.value.errno is Errno.EINVAL
