"""The VMM as a library."""

from __future__ import annotations

import signal
import struct
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA
from hyp.devices.pl011 import PL011
from hyp.errors import Errno, KvmError
from hyp.trng import Entropy
from hyp.vm import VM
from lab.config import RunConfig
from lab.errors import UserError
from lab.loader import Image, ImageKind, Region, Segment
from lab.monitor import EndReason
from lab.slots import Slot
from lab.vmm import Vmm

if TYPE_CHECKING:
    from pathlib import Path

    from hyp.events import Event
    from hyp.memslots import MemoryRegion

START = IPA(0x4008_0000)
X1_UART = 0xD2A12001  # mov x1, #0x09000000
W2_CHARACTER = 0x52800F02  # mov w2, #'x'
STORE_BYTE = 0x39000022  # strb w2, [x1]
BACK_ONE = 0x17FFFFFF  # b .-4
LOOP = 0x14000000  # b .
SYSTEM_OFF = (0xD2800100, 0xF2B08000, 0xD4000002)  # mov x0, #8; movk x0, #0x8400, lsl 16; hvc #0


def image(*words: int) -> Image:
    code = struct.pack(f"<{len(words)}I", *words)
    return Image((Segment(START, code, len(code)),), START, ImageKind.FLAT)


def test_the_guest_starts_as_the_boot_protocol_says() -> None:
    vmm = Vmm(RunConfig(), image(*SYSTEM_OFF))
    assert int(vmm.vcpu.pc) == START
    assert vmm.vcpu.pstate == 0x3C5
    tree = IPA(vmm.vcpu.read_x(0))
    assert vmm.vm.read_guest(tree, 4) == bytes.fromhex("d00dfeed")
    assert [vmm.vcpu.read_x(n) for n in (1, 2, 3)] == [0, 0, 0]


@pytest.mark.parametrize(("gic", "irq"), [(2, 23), (3, 23), (0, None)])
def test_performance_monitors_are_ready_and_in_the_device_tree(gic: int, irq: int | None) -> None:
    vmm = Vmm(RunConfig(gic=gic, pmu=True, smp=2, memory_size=32 << 20), image(*SYSTEM_OFF))
    for vcpu in vmm.vm.vcpus.values():
        assert vcpu.pmu is not None
        assert vcpu.pmu.created
        assert vcpu.pmu.irq == irq
    tree = vmm.vm.read_guest(IPA(vmm.vcpu.read_x(0)), 4096)
    assert tree is not None
    assert b"arm,armv8-pmuv3" in tree
    assert vmm.run("t").end.reason is EndReason.POWER_OFF


def test_guest_has_no_performance_monitors_unless_asked_for_and_entropy_from_the_seed() -> None:
    vmm = Vmm(RunConfig(seed=9), image(*SYSTEM_OFF))
    assert vmm.vcpu.pmu is None
    assert vmm.vm.firmware.entropy.long() == Entropy(9).long()


def test_output_and_events_are_passed_on_as_they_come() -> None:
    printed: list[bytes] = []
    events: list[Event] = []
    program = image(X1_UART, W2_CHARACTER, STORE_BYTE, *SYSTEM_OFF)
    result = Vmm(RunConfig(), program, output=printed.append, listeners=[events.append]).run("t")
    assert printed == [b"x"]
    assert result.console == "x"
    assert events[0].name == "kvm_entry"


def test_ctrl_c_stops_a_guest_where_the_hypervisor_is_next_entered() -> None:
    def press(_data: bytes) -> None:
        signal.raise_signal(signal.SIGINT)

    program = image(X1_UART, W2_CHARACTER, STORE_BYTE, BACK_ONE)
    result = Vmm(RunConfig(), program, output=press).run("t")
    assert result.end.reason is EndReason.INTERRUPTED
    assert result.exit_code == 130
    assert result.console == "x"
    assert result.instructions < 10


def test_an_error_of_a_listener_comes_out_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: PL011, _offset: int, _length: int, _value: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(PL011, "write", refuse)
    with pytest.raises(OSError, match="disk full"):
        Vmm(RunConfig(), image(X1_UART, W2_CHARACTER, STORE_BYTE)).run("t")


def test_bss_is_zero_even_in_a_slot_filled_from_a_file(tmp_path: Path) -> None:
    rom = tmp_path / "rom"
    rom.write_bytes(b"\xff" * 16)
    base = IPA(0x5000_0000)
    slot = Slot(id=1, region=Region(base, 0x1000), file=rom)
    segments = (*image(*SYSTEM_OFF).segments, Segment(base, b"data", 8))
    vmm = Vmm(RunConfig(slots=(slot,)), Image(segments, START, ImageKind.ELF))
    assert vmm.vm.read_guest(base, 16) == b"data" + bytes(4) + b"\xff" * 8


def test_dic_is_what_the_guest_reads_in_its_cache_type_register() -> None:
    for dic in (False, True):
        vmm = Vmm(RunConfig(dic=dic), image(*SYSTEM_OFF))
        assert vmm.vm.features.dic is dic


def test_an_ipa_size_beyond_the_cpus_addresses_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        Vmm(RunConfig(ipa_bits=48), image(*SYSTEM_OFF))
    assert str(caught.value) == ("--ipa-bits is 32 to 44 on a cortex-a72, not 48; choose less")


def test_what_the_hypervisor_refuses_is_a_user_error() -> None:
    def refuse(_vm: VM, _region: MemoryRegion) -> None:
        raise KvmError(Errno.EINVAL, "slot 0 is odd; use another")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VM, "set_user_memory_region", refuse)
        with pytest.raises(UserError) as caught:
            Vmm(RunConfig(), image(*SYSTEM_OFF))
    assert str(caught.value) == ("the hypervisor refuses: slot 0 is odd; use another (EINVAL)")


def test_a_run_can_be_stopped_at_any_instruction_and_goes_on_from_there() -> None:
    vmm = Vmm(RunConfig(), image(LOOP))
    for instructions in (1, 2, 17, 1000, 10_000, 1_000_000):
        assert vmm.monitor.run(instructions).reason is EndReason.BUDGET
        assert vmm.pe.retired == instructions


def test_the_initial_file_system_is_in_memory_and_the_device_tree_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "initrd"
    path.write_bytes(b"070701")
    vmm = Vmm(RunConfig(initrd=path), image(*SYSTEM_OFF))
    assert vmm.vm.read_guest(IPA(0x4200_0000), 8) == b"070701\0\0"
    assert vmm.vcpu.read_x(0) == 0x4220_0000


def test_a_kernel_with_pages_that_the_cpu_lacks_is_refused() -> None:
    kernel = replace(image(*SYSTEM_OFF), page_size=0x4000)
    with pytest.raises(UserError, match="kernel with 16K pages"):
        Vmm(RunConfig(), kernel)


X1_CLOCK = (0xD2A12021, 0xB9400025)  # mov x1, #0x09010000; ldr w5, [x1]


def test_the_clock_shows_the_date_of_the_configuration() -> None:
    vmm = Vmm(RunConfig(rtc_base=1_700_000_000), image(*X1_CLOCK, *SYSTEM_OFF))
    vmm.run("t")
    assert vmm.vcpu.read_x(5) == 1_700_000_000


def test_the_machine_without_gic_has_no_clock_and_does_not_tell_of_one() -> None:
    vmm = Vmm(RunConfig(gic=0), image(*X1_CLOCK, *SYSTEM_OFF))
    result = vmm.run("t")
    assert [(page, access) for page, access, _ in result.unclaimed] == [(0x0901_0000, "read")]
    assert all(b"pl031" not in data for _, data in vmm.boot.loads)


def test_the_alarm_ends_a_wait_for_interrupts() -> None:
    # IMSC = 1 and MR = the base + 2; the GIC passes nothing on, so that the guest waits for ever.
    alarm = (
        0xD2A12021,  # mov x1, #0x09010000
        0x52800022,  # mov w2, #1
        0xB9001022,  # str w2, [x1, #0x10]: IMSC
        0x52800042,  # mov w2, #2
        0xB9000422,  # str w2, [x1, #4]: MR
        0xD503207F,  # wfi
        LOOP,
    )
    vmm = Vmm(RunConfig(rtc_base=0), image(*alarm))
    end, _ = vmm.run_to_end()
    assert end.reason is EndReason.IDLE
    assert vmm.rtc.read(0, 4) == 2
    assert vmm.rtc.read(0x18, 4) == 1
