"""What a guest's firmware offers beside PSCI, and its pseudo-registers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.address import IPA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.registers.translation import SCTLR_EL1
from emu.machine import Machine
from hyp import firmware, one_reg
from hyp.dirty import dirty_pages
from hyp.errors import Errno, KvmError
from hyp.exits import Intr, SystemEvent, SystemEventType
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.psci import PsciFunction, PsciResult
from hyp.pvtime import PVTIME_IPA, SIZE
from hyp.smccc import SmcccFunction
from hyp.trng import Entropy
from hyp.vcpu_attributes import VcpuGroup
from hyp.vm import VM, Cap
from tests.emu.cpu import a64
from tests.hyp.fake_machine import RAM, Guest, make_guest, trap

if TYPE_CHECKING:
    from hyp.vcpu import VCPU

MASK64: Final = (1 << 64) - 1
NOT_SUPPORTED: Final = MASK64
PVTIME: Final = VcpuGroup.PVTIME
PTP: Final = 0x8600_0001


@pytest.fixture
def guest() -> Guest:
    return make_guest()


def call(guest: Guest, function: int, *arguments: int) -> list[int]:
    """Make a call; return x0 to x3."""
    guest.pe.x[:8] = [function, *arguments, *([0xDEAD] * (7 - len(arguments)))]
    assert isinstance(guest.run(trap(ExceptionClass.HVC64)), Intr)
    return guest.pe.x[:4]


def refusal(caught: pytest.ExceptionInfo[KvmError]) -> Errno:
    return caught.value.errno


# --- random numbers ------------------------------------------------------------------------


def test_trng_is_version_1_0_with_kvms_uuid(guest: Guest) -> None:
    assert call(guest, SmcccFunction.TRNG_VERSION) == [0x1_0000, 0, 0, 0]
    words = call(guest, SmcccFunction.TRNG_GET_UUID)
    text = b"".join(word.to_bytes(4, "little") for word in words).hex()
    assert text == "0d21e000438411eb80705244554e5a4c"


@pytest.mark.parametrize(
    ("function", "known"),
    [
        (SmcccFunction.TRNG_VERSION, True),
        (SmcccFunction.TRNG_RND, True),
        (SmcccFunction.TRNG_RND_64, True),
        (0x8400_0054, False),
    ],
)
def test_trng_features(guest: Guest, function: int, known: bool) -> None:
    assert call(guest, SmcccFunction.TRNG_FEATURES, function)[0] == (0 if known else NOT_SUPPORTED)


@pytest.mark.parametrize(
    ("function", "width"), [(SmcccFunction.TRNG_RND, 32), (SmcccFunction.TRNG_RND_64, 64)]
)
@pytest.mark.parametrize("bits", [0, 1, 31, 33, 64, 65, 96, 190])
def test_trng_fills_as_many_bits_as_are_asked_for_from_the_last_register(
    guest: Guest, function: int, width: int, bits: int
) -> None:
    seen = 0
    for _ in range(64):
        status, *registers = call(guest, function, bits)
        if bits > 3 * width:
            assert [status, *registers] == [-2 & MASK64, 0, 0, 0]
            return
        assert status == 0
        assert all(register < 1 << width for register in registers)
        seen |= sum(register << width * n for n, register in enumerate(reversed(registers)))
    assert seen == (1 << bits) - 1, "all bits that were asked for come up, and no others"


def test_random_numbers_follow_from_the_seed() -> None:
    def numbers(seed: int) -> list[int]:
        entropy = Entropy(seed)
        return [entropy.long() for _ in range(10)]

    assert numbers(1) == numbers(1)
    assert len({*numbers(1), *numbers(2)}) == 20
    assert VM(Machine(1 << 20), seed=1).firmware.entropy.long() == numbers(1)[0]
    assert VM(Machine(1 << 20)).firmware.entropy.long() == numbers(0)[0]


# --- stolen time ---------------------------------------------------------------------------


def test_without_an_address_there_is_no_stolen_time(guest: Guest) -> None:
    assert call(guest, SmcccFunction.ARCH_FEATURES, SmcccFunction.PV_TIME_FEATURES)[0] == 0
    asked = SmcccFunction.PV_TIME_ST
    assert call(guest, SmcccFunction.PV_TIME_FEATURES, asked)[0] == NOT_SUPPORTED
    assert call(guest, SmcccFunction.PV_TIME_ST)[0] == NOT_SUPPORTED
    assert guest.vcpu.get_device_attr(PVTIME, PVTIME_IPA) == MASK64


def test_guest_is_told_where_its_stolen_time_is_and_finds_it_zero(guest: Guest) -> None:
    where = RAM + 0x1040
    guest.set_flags(MemoryRegionFlags.LOG_DIRTY_PAGES)
    guest.vm.host.write(type(guest.hva)(guest.hva + 0x1040), b"\xff" * SIZE)
    guest.vcpu.set_device_attr(PVTIME, PVTIME_IPA, where)
    assert guest.vcpu.get_device_attr(PVTIME, PVTIME_IPA) == where
    for function, known in ((SmcccFunction.PV_TIME_ST, True), (0xC500_0022, False)):
        answer = call(guest, SmcccFunction.PV_TIME_FEATURES, function)[0]
        assert answer == (0 if known else NOT_SUPPORTED)
    assert call(guest, SmcccFunction.PV_TIME_ST)[0] == where
    assert guest.vm.read_guest(IPA(where), SIZE) == bytes(SIZE)
    assert list(dirty_pages(guest.vm.get_dirty_log(0))) == [1]


@pytest.mark.parametrize(
    ("attr", "value", "error"),
    [
        (1, RAM, Errno.ENXIO),
        (PVTIME_IPA, RAM + 8, Errno.EINVAL),
        (PVTIME_IPA, 0x1000, Errno.EINVAL),
    ],
)
def test_impossible_addresses_are_refused(
    guest: Guest, attr: int, value: int, error: Errno
) -> None:
    with pytest.raises(KvmError) as caught:
        guest.vcpu.set_device_attr(PVTIME, attr, value)
    assert refusal(caught) is error
    assert guest.vcpu.has_device_attr(PVTIME, attr) is (attr == PVTIME_IPA)


def test_address_is_set_once(guest: Guest) -> None:
    guest.vcpu.set_device_attr(PVTIME, PVTIME_IPA, RAM)
    with pytest.raises(KvmError) as caught:
        guest.vcpu.set_device_attr(PVTIME, PVTIME_IPA, RAM)
    assert refusal(caught) is Errno.EEXIST


def test_attribute_came_with_stolen_time() -> None:
    guest = make_guest(profile="2018")
    assert not guest.vcpu.has_device_attr(PVTIME, PVTIME_IPA)
    with pytest.raises(KvmError) as caught:
        guest.vcpu.get_device_attr(PVTIME, PVTIME_IPA)
    assert refusal(caught) is Errno.ENXIO


def two_on_one_pe(*words: int) -> tuple[VCPU, VCPU]:
    """Return two vCPUs at the start of a program, the first with stolen time at RAM + 0x1000."""
    vm = VM(Machine(16 << 20))
    hva = vm.host.mmap(1 << 16)
    vm.set_user_memory_region(MemoryRegion(0, 0, RAM, 1 << 16, hva))
    vm.host.write(hva, b"".join(word.to_bytes(4, "little") for word in words))
    for index in range(2):
        vm.create_vcpu(index).init()
        vm.vcpus[index].set_one_reg(one_reg.PC, RAM)
    vm.vcpus[0].set_device_attr(PVTIME, PVTIME_IPA, RAM + 0x1000)
    return vm.vcpus[0], vm.vcpus[1]


def stolen(vcpu: VCPU) -> int:
    data = vcpu.vm.read_guest(IPA(RAM + 0x1008), 8)
    assert data is not None
    return int.from_bytes(data, "little")


def test_time_in_which_others_run_is_stolen() -> None:
    first, second = two_on_one_pe(a64.b(0))
    first.run(160)
    assert stolen(first) == 0
    second.run(1600, cpu=0)
    assert stolen(first) == 0, "told at its next run"
    first.run(160)
    assert stolen(first) == 1600, "an instruction is a nanosecond"
    first.run(160)
    second.run(320, cpu=0)
    first.run(160)
    assert stolen(first) == 1920


def test_nothing_is_stolen_from_a_vcpu_that_is_off() -> None:
    first, second = two_on_one_pe(a64.b(0))
    first.run(160)
    first.powered_off = True
    first.run(160)
    second.run(1600, cpu=0)
    first.powered_off = False
    first.run(160)
    assert stolen(first) == 0


def test_stolen_time_that_has_lost_its_memory_is_let_be() -> None:
    first, second = two_on_one_pe(a64.b(0))
    first.stolen_time.base = IPA(0x5000_0000)
    first.run(160)
    second.run(1600, cpu=0)
    assert isinstance(first.run(160), Intr)


# --- pseudo-registers ----------------------------------------------------------------------

PSCI_1_0: Final = 0x1_0000
VALUES: Final = {
    firmware.PSCI_VERSION: 0x1_0003,
    firmware.WORKAROUND_1: 2,
    firmware.WORKAROUND_2: 3,
    firmware.WORKAROUND_3: 2,
    firmware.STD_BMAP: 1,
    firmware.STD_HYP_BMAP: 1,
    firmware.VENDOR_HYP_BMAP: 1,
    firmware.VENDOR_HYP_BMAP_2: 0,
}


def test_pseudo_registers_have_ids_and_can_be_restored(guest: Guest) -> None:
    listed = one_reg.register_list(guest.vcpu)
    for reg_id, value in VALUES.items():
        assert reg_id in listed
        assert guest.vcpu.get_one_reg(reg_id) == value
        guest.vcpu.set_one_reg(reg_id, value)
    assert firmware.PSCI_VERSION == 0x6030_0000_0014_0000
    assert firmware.STD_BMAP == 0x6030_0000_0016_0000


@pytest.mark.parametrize(
    ("profile", "missing"),
    [
        ("6.1", set()),
        ("2021", {firmware.STD_BMAP, firmware.VENDOR_HYP_BMAP_2}),
        ("2012", {firmware.WORKAROUND_1, firmware.STD_BMAP}),
    ],
)
def test_older_kernels_have_fewer_of_them(profile: str, missing: set[int]) -> None:
    vcpu = make_guest(profile=profile).vcpu
    for reg_id in missing:
        with pytest.raises(KvmError) as caught:
            vcpu.get_one_reg(reg_id)
        assert refusal(caught) is Errno.ENOENT
    assert not missing & set(one_reg.register_list(vcpu))


def test_psci_version_is_what_user_space_says(guest: Guest) -> None:
    guest.vcpu.set_one_reg(firmware.PSCI_VERSION, PSCI_1_0)
    assert call(guest, PsciFunction.VERSION)[0] == PSCI_1_0
    assert call(guest, PsciFunction.FEATURES, PsciFunction.SYSTEM_RESET2)[0] == NOT_SUPPORTED


@pytest.mark.parametrize("version", [0, 0x1, 0x1_0004, 0x2_0000])
def test_impossible_psci_version_is_refused(guest: Guest, version: int) -> None:
    with pytest.raises(KvmError, match="0x10003") as caught:
        guest.vcpu.set_one_reg(firmware.PSCI_VERSION, version)
    assert refusal(caught) is Errno.EINVAL


@pytest.mark.parametrize(
    ("reg_id", "accepted", "refused"),
    [
        (firmware.WORKAROUND_1, (0, 1, 2), (3, 0x10)),
        (firmware.WORKAROUND_2, (0, 1, 2, 3, 0x12), (4, 0x13, 0x20)),
        (firmware.WORKAROUND_3, (0, 1, 2), (3, 0x10)),
    ],
)
def test_workarounds_accept_less_than_there_is(
    guest: Guest, reg_id: int, accepted: tuple[int, ...], refused: tuple[int, ...]
) -> None:
    for value in accepted:
        guest.vcpu.set_one_reg(reg_id, value)
        assert guest.vcpu.get_one_reg(reg_id) == VALUES[reg_id]
    for value in refused:
        with pytest.raises(KvmError) as caught:
            guest.vcpu.set_one_reg(reg_id, value)
        assert refusal(caught) is Errno.EINVAL


@pytest.mark.parametrize(
    ("bitmap", "function"),
    [
        (firmware.STD_BMAP, SmcccFunction.TRNG_VERSION),
        (firmware.STD_BMAP, SmcccFunction.TRNG_RND_64),
        (firmware.VENDOR_HYP_BMAP, SmcccFunction.VENDOR_HYP_CALL_UID),
        (firmware.VENDOR_HYP_BMAP, SmcccFunction.VENDOR_HYP_FEATURES),
    ],
)
def test_bitmap_turns_calls_off(guest: Guest, bitmap: int, function: int) -> None:
    assert call(guest, function, 64)[0] != NOT_SUPPORTED
    fresh = make_guest()
    fresh.vcpu.set_one_reg(bitmap, 0)
    assert call(fresh, function, 64)[0] == NOT_SUPPORTED


def test_bitmap_of_stolen_time(guest: Guest) -> None:
    guest.vcpu.set_one_reg(firmware.STD_HYP_BMAP, 0)
    asked = SmcccFunction.PV_TIME_FEATURES
    assert call(guest, SmcccFunction.ARCH_FEATURES, asked)[0] == NOT_SUPPORTED


def test_bitmap_is_settled_by_the_first_run(guest: Guest) -> None:
    with pytest.raises(KvmError, match="supported") as caught:
        guest.vcpu.set_one_reg(firmware.STD_BMAP, 2)
    assert refusal(caught) is Errno.EINVAL
    guest.run()
    guest.vcpu.set_one_reg(firmware.STD_BMAP, 1)
    with pytest.raises(KvmError) as caught:
        guest.vcpu.set_one_reg(firmware.STD_BMAP, 0)
    assert refusal(caught) is Errno.EBUSY


@pytest.mark.parametrize(
    ("profile", "known"),
    [("2012", set()), ("2018", {SmcccFunction.VERSION}), ("2021", {SmcccFunction.TRNG_VERSION})],
)
def test_older_kernels_know_fewer_calls(profile: str, known: set[int]) -> None:
    guest = make_guest(profile=profile)
    for function in (SmcccFunction.VERSION, SmcccFunction.TRNG_VERSION):
        supported = call(guest, function)[0] != NOT_SUPPORTED
        assert supported is (function in known or profile == "2021")


# --- PSCI ----------------------------------------------------------------------------------


def test_system_suspend_is_an_exit_that_changes_no_register(guest: Guest) -> None:
    asked = PsciFunction.SYSTEM_SUSPEND_64
    assert call(guest, PsciFunction.FEATURES, asked)[0] == NOT_SUPPORTED
    assert call(guest, asked)[0] == NOT_SUPPORTED
    assert guest.vm.check_extension(Cap.ARM_SYSTEM_SUSPEND) == 1
    guest.vm.enable_cap(Cap.ARM_SYSTEM_SUSPEND)
    assert call(guest, PsciFunction.FEATURES, asked)[0] == PsciResult.SUCCESS
    guest.pe.x[:4] = [asked, 0x1234, 5, 6]
    assert guest.run(trap(ExceptionClass.HVC64)) == SystemEvent(SystemEventType.SUSPEND, (0,))
    assert guest.pe.x[:4] == [asked, 0x1234, 5, 6]
    assert not guest.vcpu.powered_off
    assert make_guest(profile="2021").vm.check_extension(Cap.ARM_SYSTEM_SUSPEND) == 0


@pytest.mark.parametrize("endian", [0, 1])
def test_cpu_that_is_turned_on_has_the_byte_order_of_its_caller(endian: int) -> None:
    guest = make_guest(pe_count=2)
    other = guest.vm.create_vcpu(1)
    other.init(power_off=True)
    guest.pe.write(guest.pe.read(SCTLR_EL1).replace(EE=endian))
    assert call(guest, PsciFunction.CPU_ON_64, 1, RAM, 7)[0] == PsciResult.SUCCESS
    found = other.read(SCTLR_EL1).EE
    assert found == endian
    assert other.read_x(0) == 7


def test_types_of_reset_have_32_bits(guest: Guest) -> None:
    guest.pe.x[:4] = [PsciFunction.SYSTEM_RESET2_64, 1 << 32, 0, 0]
    event = guest.run(trap(ExceptionClass.HVC64))
    assert event == SystemEvent(SystemEventType.RESET, (1,))


def test_time_of_the_host_is_not_told(guest: Guest) -> None:
    assert call(guest, PTP)[0] == NOT_SUPPORTED
    with pytest.raises(KvmError):
        guest.vcpu.set_one_reg(firmware.VENDOR_HYP_BMAP, 0b11)
