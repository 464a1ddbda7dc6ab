"""Events: names, texts as ftrace prints them, and the stream."""

from __future__ import annotations

import json

import pytest

from emu.arch.address import IPA, VA
from emu.arch.fields import Encoding
from hyp.errors import Errno
from hyp.event_stream import Events
from hyp.events import (
    Event,
    ExceptionType,
    IrqLineType,
    KvmAccessFault,
    KvmEntry,
    KvmExit,
    KvmGuestFault,
    KvmHandleSysReg,
    KvmHvcArm64,
    KvmIrqLine,
    KvmMmio,
    KvmMmioNisv,
    KvmSetWayFlush,
    KvmSysAccess,
    KvmToggleCache,
    KvmUserspaceExit,
    KvmWfxArm64,
    MmioType,
    VgicUpdateIrqPending,
)
from hyp.exits import ExitReason

PC = VA(0xFFFF_8000_0801_0000)
OSLAR = Encoding(2, 0, 1, 0, 4)

TEXTS = [
    (KvmEntry(0, 1, PC), "kvm_entry: PC: 0xffff800008010000"),
    (
        KvmExit(0, 1, ExceptionType.TRAP, 0x24, VA(0x4000_0000)),
        "kvm_exit: TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0x0000000040000000",
    ),
    (
        KvmExit(0, 1, ExceptionType.IRQ, 0, VA(0)),
        "kvm_exit: IRQ: HSR_EC: 0x0000 (UNKNOWN), PC: 0x0000000000000000",
    ),
    (
        KvmExit(0, 1, ExceptionType.TRAP, 0x3F, VA(0)),
        "kvm_exit: TRAP: HSR_EC: 0x003f (0x3f), PC: 0x0000000000000000",
    ),
    (
        KvmGuestFault(0, 1, PC, 0x9380_0007, VA(0x10), IPA(0x4020_1000)),
        "kvm_guest_fault: ipa 0x40201000, hsr 0x93800007, hxfar 0x000010, pc 0xffff800008010000",
    ),
    (
        KvmGuestFault(0, 1, VA(0x4000_0000), 0, VA(0), IPA(0)),
        "kvm_guest_fault: ipa 0x0, hsr 0x000000, hxfar 0x000000, pc 0x00000040000000",
    ),
    (KvmAccessFault(0, 1, IPA(0x4020_1000)), "kvm_access_fault: IPA: 40201000"),
    (
        KvmMmio(0, 1, MmioType.WRITE, 4, IPA(0x900_0000), 0x41),
        "kvm_mmio: mmio write len 4 gpa 0x9000000 val 0x41",
    ),
    (
        KvmMmio(0, 1, MmioType.READ_UNSATISFIED, 1, IPA(0x900_0018), 0),
        "kvm_mmio: mmio unsatisfied-read len 1 gpa 0x9000018 val 0x0",
    ),
    (
        KvmMmio(0, 1, MmioType.READ, 8, IPA(0x900_0018), 0x90),
        "kvm_mmio: mmio read len 8 gpa 0x9000018 val 0x90",
    ),
    (
        KvmMmioNisv(0, 1, VA(0x4000_0000), 0x9200_0046, VA(0xB00_0000), IPA(0xB00_0000)),
        (
            "kvm_mmio_nisv: ipa 0x0000000b000000, esr 0x00000092000046, far 0x0000000b000000, "
            "pc 0x00000040000000"
        ),
    ),
    (
        KvmIrqLine(0, 1, IrqLineType.SPI, 0, 33, 1),
        "kvm_irq_line: Inject VGIC SPI interrupt (1), vcpu->idx: 0, num: 33, level: 1",
    ),
    (
        KvmIrqLine(-1, 0, 9, 0, 33, 0),
        "kvm_irq_line: Inject UNKNOWN interrupt (9), vcpu->idx: 0, num: 33, level: 0",
    ),
    (
        VgicUpdateIrqPending(0, 1, 1, 27, level=True),
        "vgic_update_irq_pending: VCPU: 1, IRQ 27, level: 1",
    ),
    (
        KvmSetWayFlush(0, 1, PC, cache=False),
        "kvm_set_way_flush: S/W flush at 0xffff800008010000 (cache off)",
    ),
    (
        KvmToggleCache(0, 1, PC, was=False, now=True),
        "kvm_toggle_cache: VM op at 0xffff800008010000 (cache was off, now on)",
    ),
    (
        KvmWfxArm64(0, 1, PC, is_wfe=True),
        "kvm_wfx_arm64: guest executed wfe at: 0xffff800008010000",
    ),
    (
        KvmWfxArm64(0, 1, PC, is_wfe=False),
        "kvm_wfx_arm64: guest executed wfi at: 0xffff800008010000",
    ),
    (
        KvmHvcArm64(0, 1, PC, 0x8400_0008, 0),
        "kvm_hvc_arm64: HVC at 0xffff800008010000 (r0: 0x0000000084000008, imm: 0x0)",
    ),
    (KvmHandleSysReg(0, 1, 0x6230_0000), "kvm_handle_sys_reg: HSR 0x62300000"),
    (
        KvmSysAccess(0, 1, VA(0x4000_0000), "OSLAR_EL1", OSLAR, is_write=True),
        "kvm_sys_access: PC: 40000000 OSLAR_EL1 (2,0,1,0,4) write",
    ),
    (
        KvmSysAccess(0, 1, VA(0x4000_0000), "UNKN", OSLAR, is_write=False),
        "kvm_sys_access: PC: 40000000 UNKN (2,0,1,0,4) read",
    ),
    (
        KvmUserspaceExit(0, 1, ExitReason.MMIO, 0),
        "kvm_userspace_exit: reason KVM_EXIT_MMIO (6)",
    ),
    (
        KvmUserspaceExit(0, 1, ExitReason.INTR, -Errno.EINTR),
        "kvm_userspace_exit: reason restart (4)",
    ),
    (
        KvmUserspaceExit(0, 1, ExitReason.UNKNOWN, -Errno.ENOSYS),
        "kvm_userspace_exit: reason error (38)",
    ),
]


@pytest.mark.parametrize(("event", "text"), TEXTS, ids=lambda value: getattr(value, "name", ""))
def test_event_reads_as_in_ftrace(event: Event, text: str) -> None:
    assert str(event) == text


@pytest.mark.parametrize("event", [event for event, _ in TEXTS], ids=lambda e: e.name)
def test_event_survives_json(event: Event) -> None:
    shown = event.as_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["event"] == event.name
    assert list(shown)[:3] == ["event", "vcpu", "time"]


def test_enumerations_are_shown_by_name() -> None:
    shown = KvmMmio(0, 1, MmioType.WRITE, 4, IPA(0), 0).as_dict()
    assert shown["type"] == "WRITE"


def test_the_base_event_has_no_text() -> None:
    with pytest.raises(NotImplementedError):
        Event(0, 0).text()


def test_nothing_is_emitted_until_somebody_listens() -> None:
    assert Events().emit is None


def test_every_listener_hears_events_in_order() -> None:
    events = Events()
    heard: list[str] = []
    first = lambda event: heard.append(f"first {event.time}")  # noqa: E731  # needed twice
    events.subscribe(first)
    assert events.emit is first
    events.subscribe(lambda event: heard.append(f"second {event.time}"))
    emit = events.emit
    assert emit is not None
    emit(KvmEntry(0, 7, PC))
    assert heard == ["first 7", "second 7"]
    events.unsubscribe(first)
    assert events.emit is not None
    events.emit(KvmEntry(0, 8, PC))
    assert heard == ["first 7", "second 7", "second 8"]


def test_emission_stops_with_the_last_listener() -> None:
    events = Events()
    heard: list[Event] = []
    events.subscribe(heard.append)
    events.unsubscribe(heard.append)
    assert events.emit is None
