"""What the host has behind an access, and what the guest then gets."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA, PA
from emu.arch.esr.fsc import FaultStatusCode, FaultType
from emu.arch.registers.exceptions import ESR_EL1
from emu.arch.registers.identification import CTR_EL0
from hyp.errors import Errno, KvmError
from hyp.exits import Error, Intr, IntrCause, Sigbus
from hyp.host import (
    HVA,
    READ_WRITE,
    SIZE_1G,
    SIZE_2M,
    SIZE_4K,
    HostProt,
    PfnMemory,
    UserfaultMode,
)
from hyp.host.userfault import UserfaultMessage
from hyp.pte import PTE_XN, MemAttr, MemAttrFWB, Prot, Stage2Pte, pte_prot, pte_to_phys, pte_valid
from hyp.stats import Resolution
from tests.hyp.fake_machine import (
    NEW_CPU,
    RAM_PA,
    RAM_SIZE,
    Guest,
    fetch,
    load,
    make_guest,
    store,
)

PERMISSION = FaultType.PERMISSION
SLOT = IPA(0x8000_0000)
DEVICE_PA = PA(RAM_PA + 64 * SIZE_1G)
"""Beyond the machine's memory."""
CACHEABLE_CPU = NEW_CPU.replace(NEW_CPU.read(CTR_EL0).replace(DIC=1))


@pytest.fixture
def guest() -> Guest:
    return make_guest()


def leaf(guest: Guest, ipa: int = SLOT) -> Stage2Pte:
    return Stage2Pte(guest.vm.pgt.get_leaf(IPA(ipa)).pte)


def level(guest: Guest, ipa: int = SLOT) -> int:
    return guest.vm.pgt.get_leaf(IPA(ipa)).level


def prot(guest: Guest, ipa: int = SLOT) -> Prot | None:
    return pte_prot(leaf(guest, ipa)) if pte_valid(leaf(guest, ipa)) else None


def resolutions(guest: Guest) -> list[Resolution]:
    return [key[2] for key, count in guest.vm.stats.aborts.items() for _ in range(count)]


def private(guest: Guest, size: int = SIZE_2M, flags: int = 0, *, thp: bool = False) -> HVA:
    """Put private memory behind slot 1."""
    hva = guest.vm.host.mmap(size, private=True, thp=thp)
    return guest.add_slot(1, SLOT, size, flags, hva=hva)


# --- pages of zeros, copies --------------------------------------------------------------


def test_page_of_zeros_is_mapped_read_only_and_replaced_when_it_is_written(guest: Guest) -> None:
    private(guest)
    guest.run(load(SLOT), load(SLOT + SIZE_4K))
    assert prot(guest) == Prot.R
    assert pte_to_phys(leaf(guest)) == pte_to_phys(leaf(guest, SLOT + SIZE_4K))
    # The copy invalidates what was looked up before it.
    guest.run(store(SLOT, PERMISSION))
    assert prot(guest) is None
    guest.run(store(SLOT))
    assert prot(guest) == Prot.R | Prot.W
    assert prot(guest, SLOT + SIZE_4K) == Prot.R
    assert sorted(resolutions(guest)) == sorted([Resolution.RETRIED] + 3 * [Resolution.MAPPED])


def test_first_write_to_private_memory_needs_no_second_fault(guest: Guest) -> None:
    private(guest)
    guest.run(store(SLOT))
    assert prot(guest) == Prot.R | Prot.W


def test_written_page_is_mapped_writable_for_a_read(guest: Guest) -> None:
    guest.vm.host.write(private(guest), b"x")
    guest.run(load(SLOT))
    assert prot(guest) == Prot.R | Prot.W


def test_forked_memory_is_copied_when_the_guest_writes_it(guest: Guest) -> None:
    host = guest.vm.host
    hva = private(guest)
    host.write(hva, b"before")
    guest.run(store(SLOT))
    old = pte_to_phys(leaf(guest))
    copy = host.fork()
    assert prot(guest) is None, "the guest could write to the copy"
    guest.run(load(SLOT))
    assert prot(guest) == Prot.R
    assert pte_to_phys(leaf(guest)) == old
    guest.run(store(SLOT, PERMISSION), store(SLOT))
    guest.machine.memory.write(pte_to_phys(leaf(guest)), b"after!")
    assert copy.read(hva, 6) == b"before"
    assert host.read(hva, 6) == b"after!"


@pytest.mark.kvm_row(46)
def test_protection_taken_away_fails_writes_until_it_is_given_back(guest: Guest) -> None:
    host = guest.vm.host
    guest.run(store(guest.vm.memslots.find(0x40000).base_ipa))  # type: ignore[union-attr]
    host.mprotect(guest.hva, SIZE_4K, HostProt.READ)
    ram = 0x4000_0000
    assert prot(guest, ram) is None
    exit_ = guest.run(store(ram))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.EFAULT
    assert isinstance(guest.run(load(ram)), Intr)
    assert prot(guest, ram) == Prot.R
    host.mprotect(guest.hva, SIZE_4K, READ_WRITE)
    guest.run(store(ram))
    assert prot(guest, ram) == Prot.R | Prot.W


def test_hole_fails_the_access_and_the_rest_of_the_slot_works(guest: Guest) -> None:
    hva = private(guest)
    guest.run(store(SLOT), store(SLOT + SIZE_4K))
    guest.vm.host.munmap(hva, SIZE_4K)
    exit_ = guest.run(load(SLOT))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.EFAULT
    assert f"{hva:#x}" in exit_.message
    assert prot(guest, SLOT + SIZE_4K) == Prot.R | Prot.W


def test_page_written_out_faults_in_with_its_contents(guest: Guest) -> None:
    hva = private(guest)
    guest.run(store(SLOT))
    guest.machine.memory.write(pte_to_phys(leaf(guest)), b"contents")
    assert guest.vm.host.swap_out(hva, SIZE_4K) == 1
    assert prot(guest) is None
    guest.run(load(SLOT))
    assert guest.machine.memory.read(pte_to_phys(leaf(guest)), 8) == b"contents"


# --- transparent huge pages --------------------------------------------------------------


@pytest.mark.kvm_row(39)
def test_transparent_huge_page_is_mapped_by_an_aligned_block(guest: Guest) -> None:
    private(guest, 2 * SIZE_2M, thp=True)
    guest.run(store(SLOT + 0x12_3000))
    assert level(guest) == 2
    assert pte_to_phys(leaf(guest)) % SIZE_2M == 0
    assert guest.vm.stats.pages_mapped == {SIZE_2M: 1}


@pytest.mark.kvm_row(39)
def test_host_page_that_is_small_is_mapped_small_in_an_area_for_huge_ones(guest: Guest) -> None:
    hva = private(guest, 2 * SIZE_2M, thp=True)
    guest.vm.host.write(hva, b"x")
    guest.vm.host.split_huge_page(hva)
    guest.run(store(SLOT))
    assert level(guest) == 3


@pytest.mark.kvm_row(38, 39)
def test_misaligned_slot_maps_huge_pages_small(guest: Guest) -> None:
    hva = guest.vm.host.mmap(2 * SIZE_2M, private=True, thp=True)
    guest.add_slot(1, SLOT, SIZE_2M, hva=HVA(hva + SIZE_4K))
    guest.run(store(SLOT))
    assert level(guest) == 3


@pytest.mark.kvm_row(50)
def test_huge_page_that_is_split_or_made_again_is_mapped_as_it_is(guest: Guest) -> None:
    host = guest.vm.host
    hva = private(guest, SIZE_2M, thp=True)
    guest.run(store(SLOT))
    host.split_huge_page(hva)
    assert prot(guest) is None
    guest.run(store(SLOT + SIZE_4K))
    assert (level(guest, SLOT + SIZE_4K), prot(guest)) == (3, None)
    host.collapse(hva)
    assert prot(guest, SLOT + SIZE_4K) is None
    guest.run(load(SLOT))
    assert (level(guest), prot(guest)) == (2, Prot.R | Prot.W)


def test_fetch_from_a_block_keeps_the_block(guest: Guest) -> None:
    private(guest, SIZE_2M, thp=True)
    guest.run(store(SLOT), fetch(SLOT + SIZE_4K, PERMISSION, level=2))
    assert (level(guest), prot(guest)) == (2, Prot.R | Prot.W | Prot.X)


def test_host_mapping_that_is_gone_when_its_size_is_asked_is_a_retry(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    private(guest, SIZE_2M, thp=True)
    monkeypatch.setattr(type(guest.vm.host), "user_mapping_size", lambda _self, _hva: None)
    guest.run(store(SLOT))
    assert resolutions(guest) == [Resolution.RETRIED]
    assert prot(guest) is None


# --- raw frames --------------------------------------------------------------------------


def raw(
    guest: Guest, size: int = SIZE_4K, memory: PfnMemory = PfnMemory.DEVICE, pa: PA = DEVICE_PA
) -> HVA:
    """Put raw frames behind slot 1."""
    hva = guest.vm.host.mmap_pfn(pa, size, memory=memory)
    return guest.add_slot(1, SLOT, size, hva=hva)


@pytest.mark.parametrize(
    ("memory", "memattr"),
    [
        (PfnMemory.DEVICE, MemAttr.DEVICE_nGnRE),
        (PfnMemory.ANY_UNCACHED, MemAttr.NORMAL_NC),
    ],
)
def test_frames_of_a_device_are_mapped_as_its_driver_says(
    guest: Guest, memory: PfnMemory, memattr: MemAttr
) -> None:
    raw(guest, memory=memory)
    guest.run(load(SLOT))
    assert leaf(guest).MemAttr == memattr
    assert pte_to_phys(leaf(guest)) == DEVICE_PA
    assert (prot(guest) or Prot(0)) & Prot.W
    assert guest.pe.names().count("CIVAC") == 0


@pytest.mark.kvm_row(33)
@pytest.mark.parametrize("memory", [PfnMemory.DEVICE, PfnMemory.ANY_UNCACHED])
def test_fetch_from_a_device_is_an_abort_of_the_guest(guest: Guest, memory: PfnMemory) -> None:
    raw(guest, memory=memory)
    guest.run(fetch(SLOT))
    assert guest.pe.read(ESR_EL1).ISS == FaultStatusCode.EXTERNAL
    assert guest.pe.read(ESR_EL1).EC == 0x21
    assert prot(guest) is None
    guest.run(load(SLOT))
    guest.run(fetch(SLOT, PERMISSION))
    assert leaf(guest) & PTE_XN


def test_cacheable_frames_need_forced_write_back_and_coherent_icaches() -> None:
    guest = make_guest()
    # The slot would be refused, had the area been so when it was made.
    vma = guest.vm.host.vma_lookup(raw(guest))
    assert vma is not None
    vma.pfn_memory = PfnMemory.CACHEABLE
    exit_ = guest.run(load(SLOT))
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.EFAULT
    assert "FEAT_S2FWB" in exit_.message
    guest = make_guest(CACHEABLE_CPU)
    raw(guest, memory=PfnMemory.CACHEABLE)
    guest.run(load(SLOT))
    assert leaf(guest).MemAttr == MemAttrFWB.NORMAL
    assert prot(guest) == Prot.R | Prot.W | Prot.X


def test_raw_frames_of_memory_are_memory(guest: Guest) -> None:
    raw(guest, pa=PA(RAM_PA + RAM_SIZE - SIZE_4K))
    guest.run(load(SLOT))
    assert leaf(guest).MemAttr == MemAttr.NORMAL


@pytest.mark.kvm_row(41)
@pytest.mark.parametrize(
    ("size", "offset", "expected"),
    [(SIZE_1G, 0, 1), (SIZE_2M, 0, 2), (SIZE_2M, SIZE_4K, 3), (SIZE_2M - SIZE_4K, 0, 3)],
)
def test_frames_of_a_device_are_mapped_by_the_largest_block_that_fits(
    guest: Guest, size: int, offset: int, expected: int
) -> None:
    hva = guest.vm.host.mmap_pfn(PA(DEVICE_PA + offset), size)
    guest.add_slot(1, SLOT + offset, size, hva=hva)
    guest.run(load(SLOT + offset))
    assert level(guest, SLOT + offset) == expected
    assert pte_to_phys(leaf(guest, SLOT + offset)) == DEVICE_PA + offset


# --- failed memory -----------------------------------------------------------------------


@pytest.mark.kvm_row(48)
@pytest.mark.parametrize(("page_size", "lsb"), [(SIZE_4K, 12), (SIZE_2M, 21)])
def test_failed_memory_is_a_signal_with_address_and_extent(page_size: int, lsb: int) -> None:
    guest = make_guest(page_size=page_size)
    ram = 0x4000_0000
    guest.run(store(ram))
    guest.vm.host.hwpoison(guest.hva)
    assert prot(guest, ram) is None
    exit_ = guest.run(load(ram + 0x18))
    assert exit_ == Sigbus(si_addr=guest.hva, si_addr_lsb=lsb)
    assert guest.vcpu.pc == 0
    assert guest.events[-1].text() == "reason restart (4)"
    with pytest.raises(KvmError) as caught:
        guest.vm.host.read(guest.hva, 1)
    assert caught.value.errno is Errno.EHWPOISON
    guest.vm.host.munmap(guest.hva, page_size)


# --- userfaults --------------------------------------------------------------------------


@pytest.mark.kvm_row(45)
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("access", "write"), [(load, False), (store, True), (fetch, False)])
def test_missing_page_is_asked_for_once_and_supplied(
    guest: Guest, access: object, write: bool, shared: bool
) -> None:
    assert callable(access)
    host = guest.vm.host
    hva = host.mmap(SIZE_2M, private=not shared)
    guest.add_slot(1, SLOT, SIZE_2M, hva=hva)
    asked: list[UserfaultMessage] = []

    def supply(message: UserfaultMessage) -> None:
        asked.append(message)
        host.userfault_copy(message.address, b"supplied".ljust(SIZE_4K))

    host.userfault_register(hva, SIZE_2M, supply)
    assert isinstance(guest.run(access(SLOT + 0x18)), Intr)
    assert asked == [UserfaultMessage(hva, write, minor=False)]
    assert guest.machine.memory.read(pte_to_phys(leaf(guest)), 8) == b"supplied"
    guest.run(access(SLOT))
    assert len(asked) == 1


@pytest.mark.kvm_row(45)
def test_vcpu_waits_for_a_page_that_is_not_supplied_yet_and_others_run_on() -> None:
    guest = make_guest(pe_count=2)
    host = guest.vm.host
    hva = private(guest)
    host.userfault_register(hva, SIZE_4K, lambda _message: None)
    exit_ = guest.run(store(SLOT))
    assert isinstance(exit_, Intr)
    assert exit_.cause is IntrCause.USERFAULT
    assert resolutions(guest) == [Resolution.BLOCKED]
    assert guest.vcpu.pc == 0
    other = guest.vm.create_vcpu(1)
    other.init()
    guest.machine.pes[1].guest.append(store(SLOT + SIZE_4K))
    other.run(1000)
    assert prot(guest, SLOT + SIZE_4K) == Prot.R | Prot.W
    host.userfault_zeropage(hva)
    guest.run(store(SLOT))
    assert prot(guest) == Prot.R | Prot.W


@pytest.mark.kvm_row(45)
def test_page_that_the_file_has_is_let_in_when_it_is_missed(guest: Guest) -> None:
    host = guest.vm.host
    file = host.memfd(SIZE_4K)
    host.write(host.mmap(SIZE_4K, file=file), b"filled")
    hva = host.mmap(SIZE_4K, file=file)
    guest.add_slot(1, SLOT, SIZE_4K, hva=hva)
    host.userfault_register(
        hva, SIZE_4K, lambda message: host.userfault_continue(message.address), UserfaultMode.MINOR
    )
    guest.run(load(SLOT))
    assert guest.machine.memory.read(pte_to_phys(leaf(guest)), 6) == b"filled"
    assert prot(guest) == Prot.R | Prot.W
