"""Guest aborts: what each kind of fault leads to."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA, PA, VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode, FaultType
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    FAR_EL1,
    PAR_EL1,
    SPSR_EL2,
    Mode,
)
from emu.arch.registers.translation import TCR_EL1, TTBR0_EL1
from emu.arch.registers.virtualization import HCR_EL2
from hyp.errors import Errno
from hyp.exits import ArmNisv, ArmSea, Error, Intr, Mmio, SeaFlags
from hyp.host import SIZE_1G, SIZE_2M, SIZE_4K, HostProt
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.pte import PTE_AF, PTE_R, PTE_W, PTE_XN, Prot, pte_prot, pte_to_phys, pte_valid
from hyp.stats import Resolution
from hyp.vm import Cap
from tests.hyp.fake_machine import (
    DIC_CPU,
    HOLE,
    NEW_CPU,
    OLD_CPU,
    RAM,
    Guest,
    Trap,
    fetch,
    load,
    make_guest,
    store,
)

PERMISSION = FaultType.PERMISSION
ACCESS_FLAG = FaultType.ACCESS_FLAG
EC_DATA_SAME, EC_DATA_LOWER = ExceptionClass.DABT_CUR, ExceptionClass.DABT_LOW
READONLY, LOG = MemoryRegionFlags.READONLY, MemoryRegionFlags.LOG_DIRTY_PAGES


@pytest.fixture
def guest() -> Guest:
    return make_guest()


def prot_of(guest: Guest, ipa: int) -> Prot | None:
    leaf = guest.vm.pgt.get_leaf(IPA(ipa))
    return pte_prot(leaf.pte) if pte_valid(leaf.pte) else None


def level_of(guest: Guest, ipa: int) -> int:
    return guest.vm.pgt.get_leaf(IPA(ipa)).level


def page_of(guest: Guest, ipa: int) -> PA:
    return pte_to_phys(guest.vm.pgt.get_leaf(IPA(ipa)).pte)


def injected(guest: Guest) -> ESR_EL1:
    return guest.pe.read(ESR_EL1)


def resolutions(guest: Guest) -> list[Resolution]:
    return [key[2] for key, count in guest.vm.stats.aborts.items() for _ in range(count)]


# --- plain memory ------------------------------------------------------------------------


@pytest.mark.parametrize("access", [load, store])
@pytest.mark.kvm_row(2)
def test_first_touch_maps_one_page_readable_and_writable(guest: Guest, access: object) -> None:
    assert callable(access)
    assert isinstance(guest.run(access(RAM + 0x3008)), Intr)
    leaf = guest.vm.pgt.get_leaf(IPA(RAM + 0x3000))
    assert leaf.level == 3
    assert leaf.pte & (PTE_R | PTE_W | PTE_AF) == PTE_R | PTE_W | PTE_AF
    assert leaf.pte & PTE_XN
    assert prot_of(guest, RAM + 0x2000) is None
    assert resolutions(guest) == [Resolution.MAPPED]
    assert guest.vm.stats.pages_mapped == {SIZE_4K: 1}


def test_the_mapped_page_is_what_the_vmm_sees_at_its_address(guest: Guest) -> None:
    guest.vm.host.write(guest.hva, b"below")
    guest.run(load(RAM))
    assert guest.machine.memory.read(page_of(guest, RAM), 5) == b"below"


@pytest.mark.kvm_row(5)
def test_fetch_maps_executable_and_invalidates_the_icache_before_the_entry_is_made() -> None:
    guest = make_guest()
    guest.run(fetch(RAM))
    assert prot_of(guest, RAM) == Prot.R | Prot.W | Prot.X
    assert guest.vm.stats.icache_invalidations == 1
    assert ("IVAU", page_of(guest, RAM), SIZE_4K) in guest.pe.log


@pytest.mark.kvm_row(5)
def test_lazy_execute_takes_a_second_fault_and_keeps_write(guest: Guest) -> None:
    guest.run(store(RAM))
    assert guest.vm.stats.icache_invalidations == 0
    guest.run(fetch(RAM, PERMISSION))
    assert prot_of(guest, RAM) == Prot.R | Prot.W | Prot.X
    assert guest.vm.stats.icache_invalidations == 1
    assert resolutions(guest) == [Resolution.MAPPED, Resolution.RELAXED]


@pytest.mark.kvm_row(5)
def test_with_dic_the_first_access_maps_executable_without_invalidation() -> None:
    guest = make_guest(DIC_CPU)
    guest.run(load(RAM))
    assert prot_of(guest, RAM) == Prot.R | Prot.W | Prot.X
    assert guest.vm.stats.icache_invalidations == 0


def test_walk_of_an_instruction_fetch_does_not_make_its_tables_executable(guest: Guest) -> None:
    guest.run(fetch(RAM, S1PTW=True))
    assert prot_of(guest, RAM) == Prot.R | Prot.W


@pytest.mark.kvm_row(8)
def test_second_fault_on_a_mapped_page_is_retried_without_tlb_invalidation(guest: Guest) -> None:
    guest.run(load(RAM))
    before = guest.vm.pgt.get_leaf(RAM)
    guest.pe.log.clear()
    guest.run(load(RAM))
    assert guest.vm.pgt.get_leaf(RAM) == before
    assert guest.pe.log == []
    assert resolutions(guest) == [Resolution.MAPPED, Resolution.RETRIED]


@pytest.mark.parametrize(("features", "cleaned"), [(OLD_CPU, 1), (NEW_CPU, 0)])
@pytest.mark.kvm_row(52)
def test_new_mapping_is_cleaned_to_memory_unless_write_back_is_forced(
    features: object, cleaned: int
) -> None:
    guest = make_guest(features)  # type: ignore[arg-type]  # parametrised
    guest.run(load(RAM))
    assert guest.pe.names().count("CIVAC") == cleaned


# --- size of the mapping -----------------------------------------------------------------


def test_two_megabyte_pages_are_mapped_as_a_block() -> None:
    guest = make_guest(page_size=SIZE_2M)
    guest.run(load(RAM + 0x12_3000))
    assert level_of(guest, RAM) == 2
    assert guest.vm.stats.pages_mapped == {SIZE_2M: 1}
    assert page_of(guest, RAM) % SIZE_2M == 0


@pytest.mark.kvm_row(40)
def test_gigabyte_page_is_mapped_as_a_block() -> None:
    guest = make_guest(size=SIZE_1G, page_size=SIZE_1G, memory_size=3 << 30)
    guest.run(load(RAM + 0x1234_5000))
    assert level_of(guest, RAM) == 1
    assert guest.vm.stats.pages_mapped == {SIZE_1G: 1}


def test_gigabyte_page_under_a_smaller_slot_is_mapped_by_two_megabytes() -> None:
    guest = make_guest(memory_size=3 << 30)
    hva = guest.vm.host.mmap(SIZE_1G, SIZE_1G)
    guest.add_slot(1, 0x8000_0000, 4 << 20, hva=hva)
    guest.run(load(0x8020_1000))
    assert level_of(guest, 0x8020_1000) == 2


@pytest.mark.parametrize(
    ("ipa", "size", "touch"),
    [
        (0x8000_1000, 4 << 20, 0x8020_0000),  # not congruent modulo the block
        (0x8000_0000, SIZE_4K, 0x8000_0000),  # the block reaches beyond the slot's end
    ],
)
@pytest.mark.kvm_row(38)
def test_block_that_does_not_fit_the_slot_is_mapped_by_pages(
    ipa: int, size: int, touch: int
) -> None:
    guest = make_guest()
    hva = guest.vm.host.mmap(8 << 20, SIZE_2M)
    guest.add_slot(1, ipa, size, hva=hva)
    guest.run(load(touch))
    assert level_of(guest, touch) == 3
    assert prot_of(guest, touch) is not None


@pytest.mark.kvm_row(38)
def test_block_that_begins_before_the_slot_is_mapped_by_pages() -> None:
    guest = make_guest()
    hva = guest.vm.host.mmap(8 << 20, SIZE_2M)
    guest.add_slot(1, 0x8000_1000, SIZE_2M, hva=type(hva)(hva + 0x1000))
    guest.run(load(0x8000_1000))
    assert level_of(guest, 0x8000_1000) == 3


# --- dirty logging -----------------------------------------------------------------------


def dirty(guest: Guest) -> list[int]:
    bitmap = guest.vm.get_dirty_log(0)
    return [n for n in range(len(bitmap) * 8) if bitmap[n // 8] >> n % 8 & 1]


@pytest.mark.kvm_row(21)
def test_read_under_logging_maps_read_only_and_only_the_write_is_dirty() -> None:
    guest = make_guest(flags=LOG)
    guest.run(load(RAM + 0x5000))
    assert prot_of(guest, RAM + 0x5000) == Prot.R
    assert dirty(guest) == []
    guest.run(store(RAM + 0x5000, PERMISSION))
    assert prot_of(guest, RAM + 0x5000) == Prot.R | Prot.W
    assert dirty(guest) == [5]


@pytest.mark.kvm_row(6)
def test_write_permission_fault_keeps_execute() -> None:
    guest = make_guest(flags=LOG)
    guest.run(fetch(RAM))
    guest.run(store(RAM, PERMISSION))
    assert prot_of(guest, RAM) == Prot.R | Prot.W | Prot.X


@pytest.mark.kvm_row(12)
def test_write_to_a_block_under_logging_leaves_one_page_of_it() -> None:
    guest = make_guest(page_size=SIZE_2M)
    guest.run(load(RAM))
    block = page_of(guest, RAM)
    guest.set_flags(LOG)
    assert prot_of(guest, RAM) == Prot.R
    guest.run(store(RAM + 0x3000, PERMISSION, level=2))
    assert level_of(guest, RAM + 0x3000) == 3
    assert page_of(guest, RAM + 0x3000) == block + 0x3000
    assert prot_of(guest, RAM + 0x3000) == Prot.R | Prot.W
    assert prot_of(guest, RAM + 0x4000) is None
    assert dirty(guest) == [3]


@pytest.mark.kvm_row(11)
def test_pages_become_a_block_again_once_logging_is_off() -> None:
    guest = make_guest(page_size=SIZE_2M, flags=LOG)
    guest.run(store(RAM), store(RAM + 0x1000))
    tables = guest.vm.stats.table_pages
    guest.set_flags(0)
    guest.run(load(RAM + 0x2000))
    assert level_of(guest, RAM) == 2
    assert guest.vm.stats.table_pages == tables - 1


@pytest.mark.kvm_row(23)
def test_a_walk_that_sets_the_access_flag_dirties_the_table_page() -> None:
    guest = make_guest(flags=LOG)
    guest.run(store(RAM + 0x7000, S1PTW=True))
    assert dirty(guest) == [], "a walk first reads, whatever WnR says"
    guest.run(load(RAM + 0x7000, PERMISSION, S1PTW=True))
    assert dirty(guest) == [7]


# --- permission faults: HPFAR_EL2 is not valid -------------------------------------------


def test_permission_fault_finds_the_page_by_translating_the_address(guest: Guest) -> None:
    guest.run(load(RAM + 0x1000))
    guest.pe.stage1 = lambda va: IPA(va - 0xFFFF_0000_0000_0000 + RAM)
    guest.pe.write(PAR_EL1(0x1234))
    guest.run(fetch(0, PERMISSION, far=0xFFFF_0000_0000_1004))
    assert prot_of(guest, RAM + 0x1000) == Prot.R | Prot.W | Prot.X
    assert ("S1E1R", VA(0xFFFF_0000_0000_1004)) in guest.pe.log
    assert guest.pe.read(PAR_EL1) == 0x1234, "the guest's own PAR_EL1 survives"


@pytest.mark.kvm_row(73)
def test_permission_fault_is_retried_when_the_guest_has_changed_its_tables(guest: Guest) -> None:
    guest.pe.stage1 = lambda _va: None
    guest.pe.write(PAR_EL1(0x1234))
    assert isinstance(guest.run(store(RAM, PERMISSION)), Intr)
    assert guest.vm.stats.aborts == {}
    assert "kvm_guest_fault" not in guest.event_names()
    assert guest.pe.read(PAR_EL1) == 0x1234


def test_permission_fault_of_a_walk_uses_hpfar() -> None:
    guest = make_guest(flags=LOG)
    guest.run(load(RAM))
    guest.run(load(RAM, PERMISSION, S1PTW=True, far=0xDEAD_0000))
    assert "S1E1R" not in guest.pe.names()
    assert prot_of(guest, RAM) == Prot.R | Prot.W


# --- access flag -------------------------------------------------------------------------


@pytest.mark.kvm_row(42)
def test_access_flag_fault_sets_the_flag_and_nothing_else(guest: Guest) -> None:
    guest.run(load(RAM))
    leaf = guest.vm.pgt.get_leaf(RAM)
    ptep = next(
        PA(pa)
        for page in guest.vm.pgt.pages.counts
        for pa in range(page, page + SIZE_4K, 8)
        if guest.machine.memory.read_u64(PA(pa)) == leaf.pte
    )
    guest.machine.memory.write_u64(ptep, leaf.pte & ~PTE_AF)
    guest.pe.log.clear()
    guest.run(load(RAM, ACCESS_FLAG))
    assert guest.vm.pgt.get_leaf(RAM) == leaf
    assert guest.pe.log == []
    assert guest.event_names().count("kvm_access_fault") == 1
    assert resolutions(guest) == [Resolution.MAPPED, Resolution.ACCESS_FLAG]


# --- holes and read-only slots -----------------------------------------------------------


@pytest.mark.kvm_row(29)
def test_fetch_from_a_hole_gives_the_guest_an_instruction_abort(guest: Guest) -> None:
    guest.run(Trap(fetch(HOLE).esr, HOLE, HOLE, pc=HOLE))
    esr = injected(guest)
    assert esr.EC is ExceptionClass.IABT_CUR
    assert esr.IL == 1
    assert esr.ISS == FaultStatusCode.EXTERNAL
    assert int(guest.pe.read(FAR_EL1)) == HOLE
    assert int(guest.pe.read(ELR_EL1)) == HOLE
    assert resolutions(guest) == [Resolution.INJECTED]


def test_abort_from_el0_is_reported_as_from_a_lower_level(guest: Guest) -> None:
    guest.pe.write(SPSR_EL2.build(M=Mode.EL0t))
    guest.run(fetch(HOLE))
    assert injected(guest).EC is ExceptionClass.IABT_LOW


def set_up_walk(guest: Guest) -> None:
    """Give the guest a level-1 table in RAM whose first entry points into a hole."""
    guest.vm.host.write(guest.hva, (HOLE | 3).to_bytes(8, "little"))
    guest.pe.write(TCR_EL1.build(T0SZ=25))
    guest.pe.write(TTBR0_EL1(RAM))


@pytest.mark.parametrize("access", [load, store, fetch])
@pytest.mark.kvm_row(30)
def test_walk_through_a_hole_gives_the_guest_an_external_abort_on_its_walk(
    guest: Guest, access: object
) -> None:
    assert callable(access)
    set_up_walk(guest)
    guest.run(access(HOLE, S1PTW=True, far=0x1234))
    esr = injected(guest)
    wanted = ExceptionClass.IABT_CUR if access is fetch else EC_DATA_SAME
    assert esr.EC is wanted
    assert esr.ISS == FaultStatusCode.EXTERNAL_ON_WALK_L2
    assert guest.pe.read(FAR_EL1) == 0x1234


def test_walk_through_a_hole_that_is_no_longer_there_just_restarts(guest: Guest) -> None:
    set_up_walk(guest)
    guest.run(load(HOLE + 0x8000, S1PTW=True, far=0x1234))
    assert injected(guest) == 0
    assert guest.vcpu.pc == 0


@pytest.mark.kvm_row(30)
def test_walk_that_writes_to_a_read_only_slot_is_an_external_abort() -> None:
    guest = make_guest(flags=READONLY)
    guest.pe.write(TCR_EL1.build(T0SZ=25))
    guest.pe.write(TTBR0_EL1(RAM))
    guest.run(load(RAM, S1PTW=True, far=0x1234))
    assert prot_of(guest, RAM) == Prot.R, "reading the table is fine"
    guest.run(load(RAM, PERMISSION, S1PTW=True, far=0x1234))
    assert injected(guest).ISS == FaultStatusCode.EXTERNAL_ON_WALK_L1


@pytest.mark.kvm_row(31)
def test_cache_maintenance_in_a_hole_is_skipped(guest: Guest) -> None:
    assert isinstance(guest.run(Trap(load(HOLE, CM=True, instruction=0).esr, 0, HOLE, 0x80)), Intr)
    assert guest.vcpu.pc == 0x84
    assert resolutions(guest) == [Resolution.SKIPPED]


@pytest.mark.kvm_row(31)
def test_cache_maintenance_on_a_read_only_slot_is_not_skipped() -> None:
    guest = make_guest(flags=READONLY)
    exit_ = guest.run(load(RAM, CM=True, instruction=0))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.ENOSYS
    assert guest.vcpu.pc == 0


@pytest.mark.kvm_row(34)
def test_read_only_slot_is_mapped_read_only() -> None:
    guest = make_guest(flags=READONLY)
    guest.run(load(RAM))
    assert prot_of(guest, RAM) == Prot.R


@pytest.mark.kvm_row(34)
def test_write_to_a_read_only_slot_is_mmio_at_its_address() -> None:
    guest = make_guest(flags=READONLY)
    guest.pe.x[5] = 0x1122_3344_5566_7788
    exit_ = guest.run(store(RAM + 0x1008, PERMISSION))
    assert exit_ == Mmio(IPA(RAM + 0x1008), (0x1122_3344_5566_7788).to_bytes(8, "little"), 8, True)
    assert resolutions(guest) == [Resolution.MMIO]


@pytest.mark.kvm_row(24)
def test_access_to_a_hole_is_mmio_with_the_page_offset_of_the_address(guest: Guest) -> None:
    exit_ = guest.run(load(HOLE, far=0xFFFF_0000_0000_0ABC))
    assert exit_ == Mmio(IPA(HOLE + 0xABC), bytes(8), 8, False)


@pytest.mark.kvm_row(26)
def test_access_without_syndrome_in_a_hole_fails_the_run_and_changes_nothing(
    guest: Guest,
) -> None:
    exit_ = guest.run(load(HOLE, instruction=0))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.ENOSYS
    assert "ARM_NISV_TO_USER" in exit_.message
    assert guest.vcpu.pc == 0
    assert resolutions(guest) == [Resolution.NISV]
    assert "kvm_mmio_nisv" in guest.event_names()


@pytest.mark.kvm_row(26)
def test_access_without_syndrome_goes_to_user_space_if_it_wants_it(guest: Guest) -> None:
    guest.vm.enable_cap(Cap.ARM_NISV_TO_USER)
    exit_ = guest.run(store(HOLE, instruction=0, far=0x18))
    wanted = IssDataAbort.build(WnR=1, DFSC=FaultStatusCode.TRANSLATION_L3)
    assert exit_ == ArmNisv(esr_iss=int(wanted), fault_ipa=IPA(HOLE + 0x18))


# --- addresses beyond the machine --------------------------------------------------------


@pytest.mark.kvm_row(32)
def test_ipa_beyond_the_vm_is_an_external_abort_with_the_ipa_as_address() -> None:
    guest = make_guest(ipa_bits=36)
    guest.run(load(1 << 36, level=0, far=0x123))
    assert injected(guest).ISS == FaultStatusCode.EXTERNAL
    assert guest.pe.read(FAR_EL1) == 1 << 36 | 0x123
    assert "kvm_guest_fault" not in guest.event_names()


@pytest.mark.parametrize(("access", "ec"), [(load, 0x25), (fetch, 0x21)])
@pytest.mark.kvm_row(32)
def test_ipa_beyond_the_machine_is_an_address_size_fault_at_level_0(
    access: object, ec: int
) -> None:
    assert callable(access)
    guest = make_guest(ipa_bits=36)
    guest.run(access(1 << 44, level=0, far=0x123))
    assert ec == injected(guest).EC
    assert injected(guest).ISS == FaultStatusCode.ADDRESS_SIZE_L0
    assert guest.pe.read(FAR_EL1) == 1 << 44 | 0x123


# --- what the host cannot provide --------------------------------------------------------


def test_hva_without_area_fails_with_efault_and_can_be_repeated(guest: Guest) -> None:
    gap = type(guest.hva)(0x1000_0000)
    guest.vm.set_user_memory_region(MemoryRegion(1, 0, IPA(0x8000_0000), SIZE_4K, gap))
    exit_ = guest.run(load(0x8000_0000))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.EFAULT
    assert "0x10000000" in exit_.message
    assert guest.vcpu.pc == 0
    assert resolutions(guest) == [Resolution.FAILED]


def test_write_where_the_host_may_only_read_fails_and_reads_map_read_only(guest: Guest) -> None:
    hva = guest.vm.host.mmap(SIZE_4K, prot=HostProt.READ)
    guest.add_slot(1, 0x8000_0000, SIZE_4K, hva=hva)
    exit_ = guest.run(store(0x8000_0000))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.EFAULT
    assert "written" in exit_.message
    guest.run(load(0x8000_0000))
    assert prot_of(guest, 0x8000_0000) == Prot.R


def test_inaccessible_host_memory_fails_for_reads(guest: Guest) -> None:
    hva = guest.vm.host.mmap(SIZE_4K, prot=HostProt.NONE)
    guest.add_slot(1, 0x8000_0000, SIZE_4K, hva=hva)
    exit_ = guest.run(load(0x8000_0000))
    assert isinstance(exit_, Error)
    assert "read" in exit_.message


def test_running_out_of_memory_for_pages_is_an_error_exit() -> None:
    guest = make_guest(memory_size=1 << 20, size=4 << 20)
    exit_ = guest.run(*(store(RAM + n * SIZE_4K) for n in range(300)))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.ENOMEM


def test_running_out_of_memory_for_tables_is_an_error_exit(guest: Guest) -> None:
    frames = guest.vm.host.frames
    while frames.allocate() is not None:
        pass
    exit_ = guest.run(load(RAM))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.ENOMEM
    assert "tables" in exit_.message


@pytest.mark.kvm_row(49)
def test_permission_fault_without_logging_needs_no_spare_tables(guest: Guest) -> None:
    guest.run(load(RAM))
    guest.vcpu.memcache.free()
    guest.run(fetch(RAM, PERMISSION))
    assert len(guest.vcpu.memcache) == 0


# --- other faults ------------------------------------------------------------------------


def test_unsupported_exclusive_is_given_to_the_guest(guest: Guest) -> None:
    guest.run(store(RAM, FaultType.UNSUPPORTED_EXCLUSIVE, level=None))
    assert injected(guest).EC is EC_DATA_SAME
    assert injected(guest).ISS == FaultStatusCode.UNSUPPORTED_EXCLUSIVE
    assert prot_of(guest, RAM) is None


@pytest.mark.parametrize("status", [FaultStatusCode.ALIGNMENT, FaultStatusCode.TLB_CONFLICT, 0x3F])
@pytest.mark.kvm_row(1)
def test_unknown_status_code_fails_the_run_and_names_it(guest: Guest, status: int) -> None:
    exit_ = guest.run(Trap(load(RAM).esr & ~0x3F | status, RAM, RAM))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.EFAULT
    assert f"xFSC={int(status):#x}" in exit_.message
    assert "kvm_guest_fault" in guest.event_names()


def test_mapping_failure_inside_the_tables_is_an_error_exit(guest: Guest) -> None:
    guest.vm.pgt.destroy()
    exit_ = guest.run(load(RAM))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.EINVAL


def external(**bits: bool) -> Trap:
    return load(RAM, FaultType.EXTERNAL, level=None, far=0x1234, instruction=0, **bits)


def test_external_abort_becomes_an_serror_of_the_guest(guest: Guest) -> None:
    assert isinstance(guest.run(external()), Intr)
    assert guest.pe.read(HCR_EL2).VSE == 1
    assert resolutions(guest) == [Resolution.SEA]


@pytest.mark.kvm_row(28)
def test_external_abort_goes_to_user_space_if_it_wants_it(guest: Guest) -> None:
    guest.vm.enable_cap(Cap.ARM_SEA_TO_USER)
    exit_ = guest.run(external())
    assert isinstance(exit_, ArmSea)
    assert exit_.flags == SeaFlags(0)
    assert exit_.gva == 0x1234
    assert exit_.esr & 0x3F == FaultStatusCode.EXTERNAL
    assert guest.pe.read(HCR_EL2).VSE == 0


def test_external_abort_without_address_shows_none(guest: Guest) -> None:
    guest.vm.enable_cap(Cap.ARM_SEA_TO_USER)
    exit_ = guest.run(external(FnV=True))
    assert isinstance(exit_, ArmSea)
    assert exit_.gva == 0


def test_external_abort_on_the_stage_2_walk_is_the_hosts_own(guest: Guest) -> None:
    guest.vm.enable_cap(Cap.ARM_SEA_TO_USER)
    assert isinstance(guest.run(external(S1PTW=True)), Intr)
    assert guest.pe.read(HCR_EL2).VSE == 1


def test_returning_to_the_guest_does_not_move_the_pc(guest: Guest) -> None:
    guest.pe.write(ELR_EL2(0x4000_1234))
    guest.run(load(RAM))
    assert guest.vcpu.pc == 0x4000_1234
