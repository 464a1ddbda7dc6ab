"""guest_memfd: binding, faults, and KVM_EXIT_MEMORY_FAULT."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA, PA, PAGE_SHIFT
from emu.arch.esr.fsc import FaultType
from hyp.capabilities import Cap
from hyp.errors import Errno, KvmError
from hyp.exits import Error, Intr, MemoryFault
from hyp.gmem import GuestMemfd, GuestMemfdFlags
from hyp.host import HVA, SIZE_4K
from hyp.memslots import MemoryRegion, MemoryRegion2, MemoryRegionFlags
from hyp.profiles import PROFILES
from hyp.pte import Prot, pte_prot, pte_to_phys, pte_valid
from hyp.stats import Resolution
from tests.hyp.fake_machine import DIC_CPU, RAM, Guest, fetch, load, make_guest, store
from tests.hyp.observable import refusal

LOG, READONLY, GMEM = (
    MemoryRegionFlags.LOG_DIRTY_PAGES,
    MemoryRegionFlags.READONLY,
    MemoryRegionFlags.GUEST_MEMFD,
)
MMAP, INIT_SHARED = GuestMemfdFlags.MMAP, GuestMemfdFlags.INIT_SHARED
BASE, SIZE = 0x8000_0000, 16 * SIZE_4K
OFFSET = 4 * SIZE_4K
"""Where slot 1 begins in its guest_memfd."""


@pytest.fixture
def guest() -> Guest:
    return make_guest(memory_size=16 << 20)


def create(guest: Guest, flags: int = MMAP | INIT_SHARED, size: int = 2 * SIZE) -> GuestMemfd:
    return guest.vm.create_guest_memfd(size, flags)


def bind(
    guest: Guest,
    gmem: GuestMemfd | None,
    *,
    slot: int = 1,
    flags: int = GMEM,
    base: int = BASE,
    size: int = SIZE,
    offset: int = OFFSET,
) -> None:
    region = MemoryRegion2(slot, flags, IPA(base), size, HVA(0x10_0000), gmem, offset)
    guest.vm.set_user_memory_region2(region)


@pytest.fixture
def gmem(guest: Guest) -> GuestMemfd:
    gmem = create(guest)
    bind(guest, gmem)
    return gmem


def outcome(guest: Guest, resolution: Resolution) -> int:
    return sum(n for (_, _, how), n in guest.vm.stats.aborts.items() if how is resolution)


# --- faults ----------------------------------------------------------------------------------


def test_guest_and_user_space_see_the_same_page(guest: Guest, gmem: GuestMemfd) -> None:
    gmem.write(OFFSET + SIZE_4K - 2, b"over the edge")
    guest.run(store(BASE), load(BASE + SIZE_4K))
    for page in (0, SIZE_4K):
        leaf = guest.vm.pgt.get_leaf(IPA(BASE + page))
        assert leaf.level == 3
        assert pte_prot(leaf.pte) == Prot.R | Prot.W, "a read maps for writing, too"
        pa = pte_to_phys(leaf.pte)
        assert guest.machine.memory.read(pa, SIZE_4K) == gmem.read(OFFSET + page, SIZE_4K)
    assert gmem.read(OFFSET + SIZE_4K - 2, 13) == b"over the edge"
    assert guest.vm.read_guest(IPA(BASE + SIZE_4K), 4) == b"er t"
    assert guest.vm.stats.pages_mapped == {SIZE_4K: 2}


def test_execution_is_added_by_a_permission_fault(guest: Guest, gmem: GuestMemfd) -> None:
    del gmem
    guest.run(load(BASE), fetch(BASE, FaultType.PERMISSION))
    assert pte_prot(guest.vm.pgt.get_leaf(IPA(BASE)).pte) == Prot.R | Prot.W | Prot.X
    assert outcome(guest, Resolution.RELAXED) == 1


def test_coherent_icache_makes_every_page_executable() -> None:
    guest = make_guest(DIC_CPU)
    bind(guest, create(guest))
    guest.run(load(BASE))
    assert pte_prot(guest.vm.pgt.get_leaf(IPA(BASE)).pte) == Prot.R | Prot.W | Prot.X


def test_second_fault_on_a_page_finds_it_mapped(guest: Guest, gmem: GuestMemfd) -> None:
    del gmem
    guest.run(load(BASE), load(BASE))
    assert outcome(guest, Resolution.MAPPED) == outcome(guest, Resolution.RETRIED) == 1


@pytest.mark.kvm_row(43)
def test_page_that_is_punched_out_during_the_fault_is_not_mapped(
    guest: Guest, gmem: GuestMemfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_pfn = GuestMemfd.get_pfn

    def punched(gmem: GuestMemfd, pgoff: int) -> PA | Errno:
        monkeypatch.undo()
        page = get_pfn(gmem, pgoff)
        gmem.punch_hole(pgoff << PAGE_SHIFT, SIZE_4K)
        return page

    monkeypatch.setattr(GuestMemfd, "get_pfn", punched)
    guest.run(load(BASE))
    assert not pte_valid(guest.vm.pgt.get_leaf(IPA(BASE)).pte)
    assert outcome(guest, Resolution.RETRIED) == 1
    guest.run(load(BASE))
    assert pte_valid(guest.vm.pgt.get_leaf(IPA(BASE)).pte)
    del gmem


@pytest.mark.kvm_row(47)
def test_failed_memory_ends_the_run_with_a_memory_fault(guest: Guest, gmem: GuestMemfd) -> None:
    guest.run(load(BASE))
    gmem.poison(OFFSET)
    assert not pte_valid(guest.vm.pgt.get_leaf(IPA(BASE)).pte)
    pc = guest.vcpu.pc
    for _ in range(2):
        exit_ = guest.run(store(BASE + 8))
        assert exit_ == MemoryFault(0, IPA(BASE), SIZE_4K, Errno.EHWPOISON)
        assert exit_.reason == 39
        assert guest.vcpu.pc == pc
    assert guest.events[-1].as_dict()["errno"] == -133
    gmem.punch_hole(OFFSET, SIZE_4K)
    assert isinstance(guest.run(store(BASE + 8)), Intr), "a new page takes its place"


@pytest.mark.kvm_row(47)
def test_no_page_left_is_a_memory_fault_and_can_be_repaired(guest: Guest, gmem: GuestMemfd) -> None:
    guest.run(load(BASE))
    taken = []
    while (page := guest.vm.host.frames.allocate()) is not None:
        taken.append(page)
    assert guest.run(load(BASE + SIZE_4K)) == MemoryFault(
        0, IPA(BASE + SIZE_4K), SIZE_4K, Errno.ENOMEM
    )
    with pytest.raises(KvmError) as caught:
        gmem.write(OFFSET + SIZE_4K, b"x")
    assert caught.value.errno is Errno.ENOMEM
    with pytest.raises(KvmError) as caught:
        gmem.allocate(OFFSET + SIZE_4K, SIZE_4K)
    assert caught.value.errno is Errno.ENOMEM
    guest.vm.host.frames.free(taken.pop())
    assert isinstance(guest.run(load(BASE + SIZE_4K)), Intr)


def test_no_memory_for_tables_fails_the_run() -> None:
    guest = make_guest()
    bind(guest, create(guest))
    taken = []
    while (page := guest.vm.host.frames.allocate()) is not None:
        taken.append(page)
    exit_ = guest.run(load(BASE))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.ENOMEM
    assert outcome(guest, Resolution.FAILED) == 1


def test_vm_does_not_read_private_pages() -> None:
    guest = make_guest()
    bind(guest, create(guest, MMAP))
    assert guest.vm.read_guest(IPA(BASE), 4) is None


# --- the file --------------------------------------------------------------------------------


def test_punched_page_is_unmapped_and_zero(guest: Guest, gmem: GuestMemfd) -> None:
    gmem.write(OFFSET, b"old")
    gmem.write(OFFSET + SIZE_4K, b"kept")
    guest.run(load(BASE), load(BASE + SIZE_4K))
    allocated = guest.vm.host.frames.allocated
    gmem.punch_hole(0, OFFSET + SIZE_4K)
    assert guest.vm.host.frames.allocated == allocated - SIZE_4K
    assert not pte_valid(guest.vm.pgt.get_leaf(IPA(BASE)).pte)
    assert pte_valid(guest.vm.pgt.get_leaf(IPA(BASE + SIZE_4K)).pte)
    assert gmem.read(OFFSET, 3) == bytes(3)
    assert gmem.read(OFFSET + SIZE_4K, 4) == b"kept"


def test_hole_may_reach_beyond_the_end_and_an_allocation_not(guest: Guest) -> None:
    gmem = create(guest)
    gmem.punch_hole(gmem.size, SIZE_4K)
    gmem.punch_hole(gmem.size - SIZE_4K, 2 * SIZE_4K)
    allocated = guest.vm.host.frames.allocated
    gmem.allocate(0, 3 * SIZE_4K)
    assert guest.vm.host.frames.allocated == allocated + 3 * SIZE_4K
    for call, arguments in (
        (gmem.allocate, (gmem.size, SIZE_4K)),
        (gmem.allocate, (1, SIZE_4K)),
        (gmem.allocate, (0, 0)),
        (gmem.punch_hole, (0, SIZE_4K + 1)),
        (gmem.punch_hole, (-SIZE_4K, SIZE_4K)),
    ):
        error = refusal(lambda: call(*arguments), guest, gmem)  # noqa: B023  # called at once
        assert error.errno is Errno.EINVAL
    assert guest.vm.host.frames.allocated == allocated + 3 * SIZE_4K


@pytest.mark.parametrize(
    ("flags", "offset", "errno", "text"),
    [
        (0, 0, Errno.ENODEV, "MMAP"),
        (MMAP, 0, Errno.EFAULT, "INIT_SHARED"),
        (MMAP | INIT_SHARED, 2 * SIZE, Errno.EFAULT, "SIGBUS"),
        (MMAP | INIT_SHARED, 2 * SIZE - 1, Errno.EFAULT, "SIGBUS"),
        (MMAP | INIT_SHARED, -1, Errno.EFAULT, "SIGBUS"),
    ],
)
def test_user_space_reaches_only_shared_pages_of_a_mapped_file(
    guest: Guest, flags: int, offset: int, errno: Errno, text: str
) -> None:
    gmem = create(guest, flags)
    for access in (lambda: gmem.read(offset, 2), lambda: gmem.write(offset, b"ab")):
        error = refusal(access, guest, gmem)
        assert error.errno is errno
        assert text in error.message


@pytest.mark.parametrize(("size", "flags"), [(0, 0), (-SIZE, 0), (SIZE + 1, 0), (SIZE, 4)])
def test_impossible_file_is_refused(guest: Guest, size: int, flags: int) -> None:
    error = refusal(lambda: guest.vm.create_guest_memfd(size, flags), guest)
    assert error.errno is Errno.EINVAL


# --- binding ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "errno", "text"),
    [
        ({"offset": 0, "flags": GMEM | LOG}, Errno.EINVAL, "flags 0x5"),
        ({"offset": 0, "flags": GMEM | READONLY}, Errno.EINVAL, "flags 0x6"),
        ({"offset": 1}, Errno.EINVAL, "whole pages"),
        ({"offset": -SIZE_4K}, Errno.EINVAL, "whole pages"),
        ({"offset": SIZE + SIZE_4K}, Errno.EINVAL, "within the guest_memfd"),
        ({"offset": OFFSET + SIZE - SIZE_4K, "size": SIZE_4K}, Errno.EINVAL, "another slot"),
        ({"offset": 0, "size": OFFSET + SIZE_4K}, Errno.EINVAL, "another slot"),
        ({"offset": 0, "size": SIZE_4K, "base": BASE}, Errno.EEXIST, "overlaps slot 1"),
        ({"offset": 0, "size": SIZE_4K, "slot": 1}, Errno.EINVAL, "delete the slot first"),
        ({"offset": 0, "size": SIZE_4K, "slot": 0}, Errno.EINVAL, "delete the slot first"),
        ({"offset": 0, "size": SIZE_4K, "base": 1 << 40}, Errno.EFAULT, "IPA bits"),
    ],
)
@pytest.mark.kvm_row(35)
def test_refused_binding_changes_nothing(
    guest: Guest, gmem: GuestMemfd, changes: dict[str, int], errno: Errno, text: str
) -> None:
    guest.run(store(BASE))
    values = {"slot": 2, "base": 0x9000_0000, **changes}
    error = refusal(lambda: bind(guest, gmem, **values), guest, gmem)
    assert error.errno is errno
    assert text in error.message
    bind(guest, gmem, slot=3, base=0xA000_0000, offset=0, size=OFFSET)


def test_binding_needs_a_file_of_the_same_vm_that_user_space_can_map(guest: Guest) -> None:
    stranger, private = create(make_guest(memory_size=16 << 20)), create(guest, 0)
    for call, errno in (
        (lambda: bind(guest, None), Errno.EBADF),
        (lambda: bind(guest, stranger), Errno.EINVAL),
        (lambda: bind(guest, private), Errno.EINVAL),
    ):
        assert refusal(call, guest, private).errno is errno


@pytest.mark.kvm_row(35)
def test_bound_slot_can_only_be_deleted_and_gives_its_range_free(
    guest: Guest, gmem: GuestMemfd
) -> None:
    guest.run(store(BASE))
    for change in (
        lambda: bind(guest, gmem),
        lambda: bind(guest, gmem, flags=0),
        lambda: bind(guest, gmem, base=0x9000_0000),
        lambda: bind(guest, gmem, offset=0),
    ):
        error = refusal(change, guest)
        assert error.errno is Errno.EINVAL
        assert "delete the slot first" in error.message
    bind(guest, None, flags=0, size=0)
    assert guest.vm.memslots.find(BASE >> PAGE_SHIFT) is None
    assert not pte_valid(guest.vm.pgt.get_leaf(IPA(BASE)).pte)
    bind(guest, gmem, base=0x9000_0000)


def test_first_form_of_the_call_knows_no_guest_memfd(guest: Guest, gmem: GuestMemfd) -> None:
    for region in (
        MemoryRegion(2, GMEM, IPA(0x9000_0000), SIZE_4K, HVA(0)),
        MemoryRegion2(2, GMEM, IPA(0x9000_0000), SIZE_4K, HVA(0), gmem, 0),
    ):
        error = refusal(
            lambda region=region: guest.vm.set_user_memory_region(region),  # type: ignore[misc]
            guest,
        )
        assert error.errno is Errno.EINVAL
        assert "set_user_memory_region2" in error.message


def test_second_form_makes_plain_slots_as_well(guest: Guest) -> None:
    hva = guest.vm.host.mmap(SIZE)
    guest.vm.set_user_memory_region2(MemoryRegion2(2, LOG, IPA(BASE), SIZE, hva))
    guest.run(store(BASE))
    assert guest.vm.get_dirty_log(2)[0] == 1


# --- where KVM had none ----------------------------------------------------------------------

OLDER = [name for name in PROFILES if name != "2026"]
CAPS = [Cap.USER_MEMORY2, Cap.MEMORY_FAULT_INFO, Cap.GUEST_MEMFD, Cap.GUEST_MEMFD_FLAGS]


@pytest.mark.parametrize("profile", OLDER)
def test_older_kvm_knows_none_of_the_calls_that_came_with_guest_memfd(profile: str) -> None:
    guest = make_guest(profile=profile)
    guest.run(load(RAM))
    stranger = create(make_guest(memory_size=16 << 20))
    plain = MemoryRegion2(2, 0, IPA(BASE), SIZE_4K, guest.vm.host.mmap(SIZE_4K))
    for call in (
        lambda: create(guest),
        lambda: create(guest, 0),
        lambda: bind(guest, None),
        lambda: bind(guest, stranger),
        # Its first form has no such flag, and what the second can do beside it is not there.
        lambda: guest.vm.set_user_memory_region(MemoryRegion(2, GMEM, IPA(BASE), SIZE, HVA(0))),
        lambda: guest.vm.set_user_memory_region2(plain),
    ):
        assert refusal(call, guest).errno is Errno.EINVAL


@pytest.mark.parametrize("profile", PROFILES)
def test_capabilities_say_whether_there_is_guest_memfd(profile: str) -> None:
    vm = make_guest(profile=profile).vm
    present = profile == "2026"
    assert [bool(vm.check_extension(cap)) for cap in CAPS] == [present] * len(CAPS)
