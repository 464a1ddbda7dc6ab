"""Memory slots: lookup, and KVM's rules for changing them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import IPA, PAGE_SHIFT
from hyp.errors import Errno, KvmError
from hyp.host import HVA, SIZE_2M, SIZE_4K, TASK_SIZE
from hyp.memslots import (
    KVM_MEM_MAX_NR_PAGES,
    KVM_MEM_SLOTS_NUM,
    MemoryRegion,
    MemoryRegionFlags,
    MemorySlot,
    MemSlots,
)
from hyp.pte import Prot, pte_prot, pte_valid
from tests.hyp.fake_machine import HOLE, RAM, Guest, load, make_guest, store
from tests.hyp.observable import refusal

READONLY, LOG = MemoryRegionFlags.READONLY, MemoryRegionFlags.LOG_DIRTY_PAGES
SIZE = 4 * SIZE_4K
BASE = 0x8000_0000


@pytest.fixture
def guest() -> Guest:
    guest = make_guest(memory_size=16 << 20)
    guest.add_slot(1, BASE, SIZE)
    return guest


def hva_of(guest: Guest, slot_id: int = 1) -> HVA:
    slot = guest.vm.memslots.by_id(slot_id)
    assert slot is not None
    return slot.userspace_addr


def refused(guest: Guest, **changes: int) -> KvmError:
    """Ask for slot 1 with some values changed; return the refusal."""
    values = {
        "slot": 1,
        "flags": 0,
        "guest_phys_addr": BASE,
        "memory_size": SIZE,
        "userspace_addr": hva_of(guest),
        **changes,
    }
    region = MemoryRegion(**values)  # type: ignore[arg-type]  # by name
    return refusal(lambda: guest.vm.set_user_memory_region(region), guest)


ERRORS = [
    ("unknown flag", {"flags": 4}, Errno.EINVAL, "0x4"),
    ("guest_memfd flag", {"flags": 7}, Errno.EINVAL, "0x7"),
    ("size not page aligned", {"memory_size": SIZE + 1}, Errno.EINVAL, "memory_size"),
    ("gpa not page aligned", {"guest_phys_addr": BASE + 8}, Errno.EINVAL, "guest_phys_addr"),
    ("hva not page aligned", {"userspace_addr": 8}, Errno.EINVAL, "userspace_addr"),
    ("negative gpa", {"guest_phys_addr": -SIZE_4K}, Errno.EINVAL, "guest_phys_addr"),
    ("negative size", {"memory_size": -SIZE_4K}, Errno.EINVAL, "memory_size"),
    ("negative hva", {"userspace_addr": -SIZE_4K}, Errno.EINVAL, "userspace_addr"),
    ("hva beyond user space", {"userspace_addr": TASK_SIZE}, Errno.EINVAL, "user space"),
    (
        "end of hva beyond user space",
        {"slot": 2, "userspace_addr": TASK_SIZE - SIZE + SIZE_4K},
        Errno.EINVAL,
        "user space",
    ),
    ("tagged hva", {"userspace_addr": 0x0100_0000_0000_0000}, Errno.EINVAL, "user space"),
    ("another address space", {"slot": 1 << 16}, Errno.EINVAL, "32766"),
    ("gpa wraps", {"guest_phys_addr": (1 << 64) - SIZE_4K}, Errno.EINVAL, "wraps"),
    ("slot number too large", {"slot": KVM_MEM_SLOTS_NUM}, Errno.EINVAL, "32766"),
    ("slot number negative", {"slot": -1}, Errno.EINVAL, "-1"),
    ("delete of an impossible slot", {"slot": -1, "memory_size": 0}, Errno.EINVAL, "-1"),
    ("delete of no slot", {"slot": 2, "memory_size": 0}, Errno.EINVAL, "does not exist"),
    (
        "too many pages",
        {"slot": 2, "memory_size": (KVM_MEM_MAX_NR_PAGES + 1) << PAGE_SHIFT},
        Errno.EINVAL,
        "several slots",
    ),
    ("size change", {"memory_size": 2 * SIZE}, Errno.EINVAL, "memory_size"),
    ("hva change", {"userspace_addr": 0x1000}, Errno.EINVAL, "userspace_addr"),
    ("readonly toggle", {"flags": READONLY}, Errno.EINVAL, "READONLY"),
    (
        "readonly toggle with a move",
        {"flags": READONLY, "guest_phys_addr": 0x9000_0000},
        Errno.EINVAL,
        "READONLY",
    ),
    ("move onto another", {"guest_phys_addr": RAM}, Errno.EEXIST, "slot 0"),
    ("create on another", {"slot": 2}, Errno.EEXIST, "slot 1"),
    (
        "last page on another",
        {"slot": 2, "guest_phys_addr": BASE - SIZE + SIZE_4K},
        Errno.EEXIST,
        "slot 1",
    ),
    ("beyond the IPA size", {"slot": 2, "guest_phys_addr": 1 << 40}, Errno.EFAULT, "IPA bits"),
    (
        "end beyond the IPA size",
        {"slot": 2, "guest_phys_addr": (1 << 40) - SIZE + SIZE_4K},
        Errno.EFAULT,
        "IPA bits",
    ),
]


@pytest.mark.parametrize(
    ("changes", "errno", "text"),
    [row[1:] for row in ERRORS],
    ids=[row[0] for row in ERRORS],
)
@pytest.mark.kvm_row(35)
def test_refusals(guest: Guest, changes: dict[str, int], errno: Errno, text: str) -> None:
    guest.run(store(RAM), load(BASE))
    error = refused(guest, **changes)
    assert error.errno is errno
    assert text in error.message


def test_readonly_cannot_be_cleared_either(guest: Guest) -> None:
    guest.add_slot(2, 0x9000_0000, SIZE, READONLY)
    with pytest.raises(KvmError, match="READONLY of slot 2 is set"):
        guest.add_slot(2, 0x9000_0000, SIZE, hva=hva_of(guest, 2))


@pytest.mark.kvm_row(35)
def test_same_again_does_nothing(guest: Guest) -> None:
    before = guest.vm.memslots.by_id(1)
    guest.add_slot(1, BASE, SIZE, hva=hva_of(guest))
    assert guest.vm.memslots.by_id(1) is before


def test_slot_may_end_where_the_address_space_does(guest: Guest) -> None:
    guest.add_slot(2, (1 << 40) - SIZE, SIZE)
    assert guest.vm.memslots.find(((1 << 40) - 1) >> PAGE_SHIFT) is guest.vm.memslots.by_id(2)


def test_neighbours_may_touch(guest: Guest) -> None:
    guest.add_slot(2, BASE + SIZE, SIZE)
    guest.add_slot(3, BASE - SIZE, SIZE)
    assert [slot.id for slot in guest.vm.memslots] == [0, 3, 1, 2]


@pytest.mark.kvm_row(35)
def test_deleted_slot_is_a_hole_and_its_pages_are_unmapped(guest: Guest) -> None:
    guest.run(load(BASE))
    guest.vm.set_user_memory_region(MemoryRegion(1, 0, IPA(BASE), 0, HVA(0)))
    assert guest.vm.memslots.by_id(1) is None
    assert guest.vm.memslots.find(BASE >> PAGE_SHIFT) is None
    assert not pte_valid(guest.vm.pgt.get_leaf(IPA(BASE)).pte)


@pytest.mark.kvm_row(35)
def test_moved_slot_takes_its_memory_along(guest: Guest) -> None:
    guest.run(store(BASE))
    page = guest.vm.pgt.get_leaf(IPA(BASE)).pte
    guest.add_slot(1, 0x9000_0000, SIZE, hva=hva_of(guest))
    assert not pte_valid(guest.vm.pgt.get_leaf(IPA(BASE)).pte)
    guest.run(load(0x9000_0000))
    assert guest.vm.pgt.get_leaf(IPA(0x9000_0000)).pte == page


def test_slot_may_move_onto_itself(guest: Guest) -> None:
    guest.add_slot(1, BASE + SIZE_4K, SIZE, hva=hva_of(guest))
    assert guest.vm.memslots.find(BASE >> PAGE_SHIFT) is None


@pytest.mark.kvm_row(15)
def test_logging_protects_what_is_mapped_and_flushes() -> None:
    guest = make_guest()
    guest.run(store(RAM))
    guest.pe.log.clear()
    guest.set_flags(LOG)
    assert pte_prot(guest.vm.pgt.get_leaf(RAM).pte) == Prot.R
    assert guest.pe.names() == ["VMALLS12E1IS"]


def test_logging_is_kept_while_the_slot_moves(guest: Guest) -> None:
    hva = guest.add_slot(2, 0x9000_0000, SIZE, LOG)
    guest.run(store(0x9000_1000))
    guest.add_slot(2, 0xA000_0000, SIZE, LOG, hva=hva)
    assert guest.vm.get_dirty_log(2)[0] == 0b10


def test_logging_starts_afresh_when_it_is_turned_on_again() -> None:
    guest = make_guest(flags=LOG)
    guest.run(store(RAM))
    guest.set_flags(0)
    guest.set_flags(LOG)
    assert not any(guest.vm.get_dirty_log(0))


def test_read_only_slot_has_a_bitmap_but_is_not_logging(guest: Guest) -> None:
    guest.add_slot(2, 0x9000_0000, SIZE, READONLY | LOG)
    slot = guest.vm.memslots.by_id(2)
    assert slot is not None
    assert not slot.logging
    assert guest.vm.get_dirty_log(2) == bytes(8)


def test_slot_describes_itself(guest: Guest) -> None:
    slot = guest.vm.memslots.by_id(1)
    assert f"{BASE:#x}" in repr(slot)


def test_vm_reads_guest_memory_through_its_slots(guest: Guest) -> None:
    guest.vm.host.write(HVA(hva_of(guest) + 0x1008), b"data")
    assert guest.vm.read_guest(IPA(BASE + 0x1008), 4) == b"data"
    assert guest.vm.read_guest(HOLE, 4) is None


def test_vm_reads_nothing_where_the_process_has_no_memory(guest: Guest) -> None:
    guest.vm.set_user_memory_region(MemoryRegion(2, 0, IPA(0x9000_0000), SIZE_4K, HVA(0x1000_0000)))
    assert guest.vm.read_guest(IPA(0x9000_0000), 8) is None


# --- lookup ------------------------------------------------------------------------------


def plain_slot(slot_id: int, base_gfn: int, npages: int) -> MemorySlot:
    return MemorySlot(
        slot_id=slot_id,
        base_gfn=base_gfn,
        npages=npages,
        userspace_addr=HVA(SIZE_2M),
        flags=MemoryRegionFlags(0),
        dirty_bitmap=None,
    )


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), max_size=12),
    st.lists(st.integers(0, 45), max_size=20),
)
def test_lookup_agrees_with_a_search(areas: list[tuple[int, int]], gfns: list[int]) -> None:
    slots = MemSlots()
    for number, (base, npages) in enumerate(areas):
        if slots.overlapping(base, npages, except_id=-1) is None:
            slots.install(plain_slot(number, base, npages))
        else:
            assert any(s.base_gfn < base + npages and base < s.end_gfn for s in slots)
    assert [s.base_gfn for s in slots] == sorted(s.base_gfn for s in slots)
    for gfn in gfns:
        holding = [slot for slot in slots if slot.base_gfn <= gfn < slot.end_gfn]
        assert slots.find(gfn) is (holding[0] if holding else None)


def test_lookup_forgets_a_removed_slot() -> None:
    slots = MemSlots()
    slots.install(plain_slot(1, 10, 2))
    assert slots.find(11) is not None
    slots.remove(1)
    slots.remove(1)
    assert slots.find(11) is None
    assert len(slots) == 0


def test_slot_knows_the_address_of_each_page() -> None:
    slot = plain_slot(1, 10, 4)
    assert slot.hva_of(12) == SIZE_2M + 2 * SIZE_4K
    assert slot.base_ipa == 10 * SIZE_4K
    assert slot.size == 4 * SIZE_4K
