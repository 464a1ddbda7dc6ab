"""Where KVM's abort handler once decided otherwise."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA, PA
from emu.arch.esr.fsc import FaultStatusCode, FaultType
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import ESR_EL1
from emu.arch.registers.translation import TCR_EL1, TTBR0_EL1
from emu.arch.registers.virtualization import HCR_EL2
from hyp.errors import Errno, KvmError
from hyp.exits import Error, Exit, Intr, Mmio
from hyp.host import HVA, SIZE_1G, SIZE_2M, SIZE_4K, PfnMemory
from hyp.profiles import PROFILES
from hyp.psci import PsciFunction, PsciResult, kvm_psci_call
from hyp.pte import MemAttr, Prot, Stage2Pte, pte_prot, pte_valid
from hyp.vm import Cap
from lab import config
from tests.hyp.fake_machine import (
    DIC_CPU,
    HOLE,
    OLD_CPU,
    RAM,
    RAM_PA,
    Guest,
    Trap,
    fetch,
    load,
    make_guest,
    store,
)

PERMISSION = FaultType.PERMISSION
LOG, READONLY = 1, 2
SLOT = IPA(0x8000_0000)
NAMES = ["2012", "2018", "2021", "6.1", "2026"]


def by_profile(*values: object) -> pytest.MarkDecorator:
    """Parametrise with what each profile, oldest first, is to do."""
    return pytest.mark.parametrize(("profile", "expected"), list(zip(NAMES, values, strict=True)))


def prot(guest: Guest, ipa: int = RAM) -> Prot | None:
    pte = guest.vm.pgt.get_leaf(IPA(ipa)).pte
    return pte_prot(pte) if pte_valid(pte) else None


def outcome(guest: Guest, exit_: Exit) -> str:
    """Say in one word what an abort led to."""
    if isinstance(exit_, Error):
        return exit_.errno.name
    if isinstance(exit_, Mmio):
        return "mmio"
    if guest.pe.registers.get(ESR_EL1):
        code = guest.pe.read(ESR_EL1).ISS
        return FaultStatusCode(code).name
    return "skipped" if guest.vcpu.pc else "again"


def test_command_line_knows_the_profiles() -> None:
    assert tuple(PROFILES) == config.PROFILES


def test_unknown_profile_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(KvmError, match="2012, 2018, 2021") as caught:
        make_guest(profile="1999")
    assert caught.value.errno is Errno.EINVAL


# --- which aborts are whose --------------------------------------------------------------


@pytest.mark.kvm_row(1)
@by_profile("EFAULT", "again", "again", "again", "again")
def test_external_aborts_are_serrors_since_2018(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    exit_ = guest.run(load(RAM, FaultType.EXTERNAL, level=None, instruction=0))
    assert outcome(guest, exit_) == expected
    assert (expected == "again") == guest.pe.read(HCR_EL2).VSE
    assert ("kvm_guest_fault" in guest.event_names()) == (profile == "2012")


@pytest.mark.kvm_row(1, 42)
@by_profile("EFAULT", "again", "again", "again", "again")
def test_access_flag_faults_are_known_since_2018(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    guest.run(load(RAM))
    assert outcome(guest, guest.run(load(RAM, FaultType.ACCESS_FLAG))) == expected


@by_profile("EFAULT", "EFAULT", "EFAULT", "EFAULT", "UNSUPPORTED_EXCLUSIVE")
def test_unsupported_exclusives_go_to_the_guest_in_2026(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    exit_ = guest.run(store(RAM, FaultType.UNSUPPORTED_EXCLUSIVE, level=None))
    assert outcome(guest, exit_) == expected


@pytest.mark.kvm_row(32)
@by_profile("mmio", "mmio", "ADDRESS_SIZE_L0", "EXTERNAL", "EXTERNAL")
def test_ipa_beyond_the_vm(profile: str, expected: str) -> None:
    guest = make_guest(ipa_bits=36, profile=profile)
    assert outcome(guest, guest.run(load(1 << 36, level=0))) == expected


@pytest.mark.kvm_row(30)
@by_profile("ENOSYS", "EXTERNAL", "EXTERNAL", "EXTERNAL", "EXTERNAL_ON_WALK_L1")
def test_walk_into_a_hole(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    guest.pe.write(TCR_EL1.build(T0SZ=25, EPD1=1))
    guest.pe.write(TTBR0_EL1(HOLE))
    assert outcome(guest, guest.run(load(HOLE, S1PTW=True, instruction=0, far=0))) == expected


@pytest.mark.kvm_row(29)
@by_profile("EXTERNAL", "EXTERNAL", "EXTERNAL", "EXTERNAL", "EXTERNAL")
def test_fetch_from_a_hole(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    assert outcome(guest, guest.run(fetch(HOLE))) == expected


@pytest.mark.kvm_row(31)
@by_profile("ENOSYS", "skipped", "skipped", "skipped", "skipped")
def test_cache_maintenance_in_a_hole(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    assert outcome(guest, guest.run(load(HOLE, CM=True, instruction=0))) == expected


@pytest.mark.kvm_row(34)
@by_profile("EFAULT", "mmio", "mmio", "mmio", "mmio")
def test_write_to_a_read_only_slot(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    guest.set_flags(0)
    guest.add_slot(1, SLOT, SIZE_4K, READONLY)
    assert outcome(guest, guest.run(store(SLOT))) == expected


@pytest.mark.kvm_row(26)
@by_profile(False, False, True, True, True)
def test_capability_for_accesses_without_syndrome(profile: str, expected: bool) -> None:
    vm = make_guest(profile=profile).vm
    assert vm.check_extension(Cap.ARM_NISV_TO_USER) == expected
    if expected:
        vm.enable_cap(Cap.ARM_NISV_TO_USER)
    else:
        with pytest.raises(KvmError, match=profile):
            vm.enable_cap(Cap.ARM_NISV_TO_USER)


@by_profile(False, False, False, False, True)
def test_dirty_rings_and_eager_splitting_came_after_6_1(profile: str, expected: bool) -> None:
    vm = make_guest(profile=profile).vm
    for cap in (
        Cap.DIRTY_LOG_RING_ACQ_REL,
        Cap.DIRTY_LOG_RING_WITH_BITMAP,
        Cap.ARM_SUPPORTED_BLOCK_SIZES,
    ):
        assert bool(vm.check_extension(cap)) == expected
    if not expected:
        with pytest.raises(KvmError, match=f"KVM of {profile} has no capability"):
            vm.enable_cap(Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, SIZE_2M)


# --- what the guest can tell the age of KVM by -------------------------------------------


@by_profile(0, 0, 0, 0xFFFF_FFFF, 0)
def test_upper_half_of_esr_el1_of_an_injected_abort(profile: str, expected: int) -> None:
    guest = make_guest(profile=profile)
    guest.run(fetch(HOLE))
    assert guest.pe.read(ESR_EL1) >> 32 == expected


@by_profile(0x80, 0x80, 0x80, 0x80, 0xFFFF_FF80)
def test_register_of_a_signed_load_of_a_byte_from_a_device(profile: str, expected: int) -> None:
    guest = make_guest(profile=profile)
    syndrome = IssDataAbort.build(ISV=1, SSE=1, SRT=5)
    guest.run(load(HOLE, instruction=syndrome))
    guest.vcpu.set_mmio_data(b"\x80")
    guest.run()
    assert guest.pe.read_x(5) == expected


@by_profile(0x2, 0x1_0000, 0x1_0000, 0x1_0001, 0x1_0003)
def test_version_of_psci(profile: str, expected: int) -> None:
    vcpu = make_guest(profile=profile).vcpu
    kvm_psci_call(vcpu, PsciFunction.VERSION)
    assert vcpu.pe.read_x(0) == expected


@pytest.mark.parametrize(
    ("function", "profiles"),
    [
        (PsciFunction.CPU_ON, NAMES),
        (PsciFunction.FEATURES, ["2018", "2021", "6.1", "2026"]),
        (PsciFunction.SYSTEM_RESET2, ["6.1", "2026"]),
        (PsciFunction.SYSTEM_OFF2_64, ["2026"]),
    ],
)
@pytest.mark.parametrize("profile", NAMES)
def test_functions_of_psci(profile: str, function: PsciFunction, profiles: list[str]) -> None:
    vcpu = make_guest(profile=profile).vcpu
    vcpu.pe.write_x(1, 5)
    call = kvm_psci_call(vcpu, function)
    assert call is None
    missing = vcpu.pe.read_x(0) == PsciResult.NOT_SUPPORTED & (1 << 64) - 1
    # To FEATURES, 5 is no function.
    assert missing == (function is PsciFunction.FEATURES or profile not in profiles)
    vcpu.pe.write_x(1, function)
    kvm_psci_call(vcpu, PsciFunction.FEATURES)
    offered = profile in profiles and profile != "2012"
    kinds = int(function is PsciFunction.SYSTEM_OFF2_64)  # of powering off: to hibernate
    assert (vcpu.pe.read_x(0) == kinds) == offered


# --- reads and writes --------------------------------------------------------------------

LDP = load(RAM, instruction=0)
LDP_WALK = load(RAM, S1PTW=True, instruction=0)
FETCH_WALK = fetch(RAM, S1PTW=True)
WALK_UPDATE = load(RAM, PERMISSION, S1PTW=True, instruction=0)


@pytest.mark.parametrize(
    ("trap", "writes"),
    [
        pytest.param(LDP, ["2012"], id="LDP", marks=pytest.mark.kvm_row(3)),
        pytest.param(LDP_WALK, ["2012", "2018", "2021"], id="walk", marks=pytest.mark.kvm_row(23)),
        pytest.param(FETCH_WALK, ["2021"], id="walk of a fetch", marks=pytest.mark.kvm_row(23)),
    ],
)
@pytest.mark.parametrize("profile", NAMES)
def test_what_counts_as_a_write(profile: str, trap: Trap, writes: list[str]) -> None:
    guest = make_guest(profile=profile)
    guest.set_flags(LOG)
    guest.run(Trap(trap.esr, trap.far, trap.ipa))
    mapped = prot(guest)
    assert mapped is not None
    assert (Prot.W in mapped) == (profile in writes)
    assert any(guest.vm.get_dirty_log(0)) == (profile in writes)


@pytest.mark.kvm_row(23)
@pytest.mark.parametrize("profile", NAMES)
def test_walk_that_comes_back_with_a_permission_fault_writes(profile: str) -> None:
    guest = make_guest(profile=profile)
    guest.set_flags(LOG)
    guest.run(load(RAM))
    guest.run(Trap(WALK_UPDATE.esr, WALK_UPDATE.far, RAM))
    assert guest.vm.get_dirty_log(0)[0] == 1


@by_profile("EFAULT", "EFAULT", "EFAULT", "EFAULT", "again")
def test_permission_fault_of_a_read(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    guest.run(load(RAM))
    assert outcome(guest, guest.run(load(RAM, PERMISSION))) == expected


# --- execute permission ------------------------------------------------------------------


@pytest.mark.kvm_row(4, 5)
@pytest.mark.parametrize("cpu", [OLD_CPU, DIC_CPU], ids=["IC", "DIC"])
@pytest.mark.parametrize("profile", NAMES)
def test_read_maps_executable(profile: str, cpu: object) -> None:
    guest = make_guest(cpu, profile=profile)  # type: ignore[arg-type]  # parametrised
    guest.run(load(RAM), load(RAM + SIZE_4K))
    at_once = profile == "2012" or cpu is DIC_CPU
    assert (prot(guest) == Prot.R | Prot.W | Prot.X) == at_once
    expected = 2 if profile == "2012" else 0
    assert guest.vm.stats.icache_invalidations == expected


@pytest.mark.kvm_row(6)
@pytest.mark.parametrize("profile", NAMES)
def test_write_to_an_executable_page_keeps_it_executable(profile: str) -> None:
    guest = make_guest(profile=profile)
    guest.set_flags(LOG)
    guest.run(fetch(RAM), store(RAM, PERMISSION))
    assert prot(guest) == Prot.R | Prot.W | Prot.X


# --- how entries change ------------------------------------------------------------------


@pytest.mark.kvm_row(7, 10)
@by_profile(
    [("new", True), ("tlbi", None)],
    [("new", False), ("tlbi", None), ("new", True)],
    [("new", True), ("tlbi", None)],
    [("new", True), ("tlbi", None)],
    [("new", True), ("tlbi", None)],
)
def test_order_of_store_and_invalidation_for_another_right(
    profile: str, expected: list[tuple[str, bool | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = make_guest(profile=profile)
    guest.set_flags(LOG)
    guest.run(load(RAM))
    steps: list[tuple[str, bool | None]] = []
    memory, pe = guest.machine.memory, guest.pe
    write, tlbi = memory.write_u64, pe.tlbi

    def write_u64(pa: PA, value: int) -> None:
        if pa >= RAM_PA:
            steps.append(("new", pte_valid(value)))
        write(pa, value)

    def invalidate(operation: object, argument: int = 0) -> None:
        if "IPAS2" in str(operation):
            steps.append(("tlbi", None))
        tlbi(operation, argument)

    monkeypatch.setattr(memory, "write_u64", write_u64)
    monkeypatch.setattr(pe, "tlbi", invalidate)
    guest.vm.pgt.descriptors = type(guest.vm.pgt.descriptors)(memory)
    guest.run(store(RAM, PERMISSION))
    assert steps == expected


@pytest.mark.kvm_row(8)
@pytest.mark.parametrize("profile", NAMES)
def test_equal_entry_is_left_alone(profile: str) -> None:
    guest = make_guest(profile=profile)
    guest.run(load(RAM))
    guest.pe.log.clear()
    before = guest.vm.pgt.get_leaf(RAM)
    guest.run(load(RAM))
    assert guest.vm.pgt.get_leaf(RAM) == before
    assert not {"IPAS2E1", "IPAS2E1IS"} & set(guest.pe.names())


# --- how much is mapped ------------------------------------------------------------------


@by_profile(3, 2, 2, 2, 2)
def test_host_pages_of_two_megabytes(profile: str, expected: int) -> None:
    guest = make_guest(page_size=SIZE_2M, profile=profile)
    guest.run(load(RAM))
    assert guest.vm.pgt.get_leaf(RAM).level == expected


@pytest.mark.kvm_row(39)
@by_profile(3, 2, 2, 2, 2)
def test_transparent_huge_page(profile: str, expected: int) -> None:
    guest = make_guest(profile=profile)
    hva = guest.vm.host.mmap(SIZE_2M, private=True, thp=True)
    guest.add_slot(1, SLOT, SIZE_2M, hva=hva)
    guest.run(store(SLOT))
    assert guest.vm.pgt.get_leaf(SLOT).level == expected
    if expected == 2:
        guest.run(fetch(SLOT + SIZE_4K, PERMISSION, level=2))
        assert guest.vm.pgt.get_leaf(SLOT).level == 2


@pytest.mark.kvm_row(40)
@by_profile(3, 3, 2, 2, 2)
def test_gigabyte_page_under_a_slot_for_two_megabytes(profile: str, expected: int) -> None:
    guest = make_guest(memory_size=2 << 30, profile=profile)
    hva = guest.vm.host.mmap(SIZE_1G, SIZE_1G)
    guest.add_slot(1, SLOT, 4 << 20, hva=HVA(hva + SIZE_2M))
    moved = IPA(SLOT + SIZE_2M)
    guest.run(load(moved))
    assert guest.vm.pgt.get_leaf(moved).level == expected


@pytest.mark.kvm_row(41)
@by_profile(3, 3, 2, 3, 2)
def test_frames_of_a_device(profile: str, expected: int) -> None:
    guest = make_guest(profile=profile)
    hva = guest.vm.host.mmap_pfn(PA(RAM_PA + 64 * SIZE_1G), SIZE_2M, memory=PfnMemory.ANY_UNCACHED)
    guest.add_slot(1, SLOT, SIZE_2M, hva=hva)
    guest.run(load(SLOT))
    leaf = guest.vm.pgt.get_leaf(SLOT)
    assert leaf.level == expected
    wanted = MemAttr.NORMAL_NC if profile == "2026" else MemAttr.DEVICE_nGnRE
    assert Stage2Pte(leaf.pte).MemAttr == wanted


@pytest.mark.kvm_row(33)
@by_profile("EXTERNAL", "EXTERNAL", "EXTERNAL", "EXTERNAL", "EXTERNAL")
def test_fetch_from_a_device(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    hva = guest.vm.host.mmap_pfn(PA(RAM_PA + 64 * SIZE_1G), SIZE_4K)
    guest.add_slot(1, SLOT, SIZE_4K, hva=hva)
    assert outcome(guest, guest.run(fetch(SLOT))) == expected


@pytest.mark.kvm_row(48)
@by_profile("EFAULT", "again", "again", "again", "again")
def test_failed_memory(profile: str, expected: str) -> None:
    guest = make_guest(profile=profile)
    guest.run(store(RAM))
    guest.vm.host.hwpoison(guest.hva)
    exit_ = guest.run(load(RAM))
    assert outcome(guest, exit_) == expected
    assert isinstance(exit_, Error | Intr)


@pytest.mark.kvm_row(43)
@pytest.mark.parametrize("profile", NAMES)
def test_invalidation_under_way_stops_every_profile(profile: str) -> None:
    guest = make_guest(profile=profile)
    guest.vm.notifier.invalidate_range_start(guest.hva, HVA(guest.hva + SIZE_4K))
    guest.run(store(RAM))
    assert prot(guest) is None
