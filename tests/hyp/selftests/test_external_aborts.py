"""External aborts that user space gives the guest, as in the kernel's external_aborts."""

from __future__ import annotations

import pytest

from bench import tables
from emu.arch.address import IPA
from emu.arch.registers.exceptions import ELR_EL1, FAR_EL1, ISR_EL1, SPSR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from hyp.capabilities import Cap
from hyp.errors import Errno
from hyp.exits import ArmNisv, Error, Mmio
from tests.emu.cpu import a64
from tests.hyp.selftests.guest import CODE, EXCEPTION, TABLES, SelftestGuest

MMIO = IPA(0x0800_0000)
BEFORE = 0x1122_3344_5566_7788
EL1H_MASKED = 0x3C5
DABT_CUR = 0x25 << 26 | 1 << 25
SEA = DABT_CUR | 0x10
SERROR = 0x2F << 26 | 1 << 25

SINGLE = {
    "ldr": (a64.ldr(4, 2), 8, False),
    "ldr w": (a64.ldr(4, 2, 4, 4), 4, False),
    "ldrsh": (a64.ldrs(4, 2, 6, 2), 2, False),
    "ldrb": (a64.ldr(4, 2, 3, 1), 1, False),
    "str": (a64.str_(4, 2, 16), 8, True),
    "strb": (a64.str_(4, 2, 1, 1), 1, True),
}
"""Instruction, length, and whether it writes; their offsets are their own."""
OFFSETS = {"ldr": 0, "ldr w": 4, "ldrsh": 6, "ldrb": 3, "str": 16, "strb": 1}

NOT_DESCRIBED = {
    "ldr post": (a64.ldr_post(4, 2, 8), False),
    "ldr pre": (a64.ldr_pre(4, 2, 8), False),
    "str post": (a64.str_post(4, 2, 8), True),
    "ldp": (a64.ldp(4, 5, 2), False),
    "stp": (a64.stp(4, 5, 2), True),
}


def mmio_guest(word: int) -> SelftestGuest:
    guest = SelftestGuest()
    guest.load(word, a64.str_(31, 19), devices=[MMIO])
    guest.set_x(guest.vcpu, x2=MMIO, x4=BEFORE, x5=BEFORE)
    return guest


def taken(guest: SelftestGuest) -> tuple[int, int, int, int]:
    """Run, and return ESR, FAR, ELR and SPSR of the exception that the guest takes."""
    exit_ = guest.vcpu.run(100)
    assert isinstance(exit_, Mmio)
    assert exit_.phys_addr == EXCEPTION
    read = guest.vcpu.pe.read
    far, elr, spsr = int(read(FAR_EL1)), int(read(ELR_EL1)), int(read(SPSR_EL1))
    return exit_.value, far, elr, spsr & 0x3CF


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.kvm_row(24, 27, 74, 75)
def test_pending_abort_replaces_the_mmio_access(name: str) -> None:
    word, length, is_write = SINGLE[name]
    address = IPA(MMIO + OFFSETS[name])
    guest = mmio_guest(word)
    data = (BEFORE & (1 << 8 * length) - 1 if is_write else 0).to_bytes(length, "little")
    assert guest.vcpu.run(100) == Mmio(address, data, length, is_write)
    if not is_write:
        guest.vcpu.set_mmio_data(bytes(range(1, length + 1)))
    guest.vcpu.set_vcpu_events(ext_dabt_pending=True)
    assert taken(guest) == (SEA, address, CODE, EL1H_MASKED)
    assert guest.x(guest.vcpu, 4) == BEFORE


@pytest.mark.parametrize("name", NOT_DESCRIBED)
@pytest.mark.kvm_row(26)
def test_access_without_syndrome_fails_the_run_and_can_be_repeated(name: str) -> None:
    guest = mmio_guest(NOT_DESCRIBED[name][0])
    for _ in range(2):
        exit_ = guest.vcpu.run(100)
        assert isinstance(exit_, Error)
        assert exit_.errno is Errno.ENOSYS
        assert int(guest.vcpu.pc) == CODE
        assert [guest.x(guest.vcpu, n) for n in (2, 4, 5)] == [MMIO, BEFORE, BEFORE]


@pytest.mark.parametrize("name", NOT_DESCRIBED)
@pytest.mark.kvm_row(26, 27)
def test_access_without_syndrome_is_an_exit_and_then_an_abort(name: str) -> None:
    word, is_write = NOT_DESCRIBED[name]
    offset = 8 if name == "ldr pre" else 0
    guest = mmio_guest(word)
    guest.vm.enable_cap(Cap.ARM_NISV_TO_USER)
    # A translation fault of level 1: nothing of this GiB is mapped.
    assert guest.vcpu.run(100) == ArmNisv(0x05 | is_write << 6, IPA(MMIO + offset))
    guest.vcpu.set_vcpu_events(ext_dabt_pending=True)
    assert taken(guest) == (SEA, MMIO + offset, CODE, EL1H_MASKED)
    assert [guest.x(guest.vcpu, n) for n in (2, 4, 5)] == [MMIO, BEFORE, BEFORE]


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("word", [a64.ldr(4, 2), a64.str_(4, 2)], ids=["ldr", "str"])
@pytest.mark.kvm_row(30)
def test_table_in_no_slot_is_an_abort_of_the_walk(word: int, level: int) -> None:
    guest = mmio_guest(word)
    # Entry 300 of the table before it leads to where nothing is.
    va = 300 << 12 + 9 * (4 - level)
    table = {1: 0, 2: 1, 3: 5}[level]
    guest.write_u64(TABLES + 0x1000 * table + 8 * 300, MMIO | tables.TABLE)
    guest.set_x(guest.vcpu, x2=va)
    assert taken(guest) == (DABT_CUR | 0x14 + level, va, CODE, EL1H_MASKED)


UNMASK_A = 0xD503_44FF
"""MSR DAIFClr, #4."""


def test_serror_that_is_masked_does_not_disturb_the_guest_and_is_seen_in_isr() -> None:
    guest = mmio_guest(a64.mrs(4, ISR_EL1))
    guest.vcpu.set_vcpu_events(serror_pending=True)
    guest.sync()
    assert guest.x(guest.vcpu, 4) == ISR_EL1.build(A=1)
    assert guest.vcpu.pe.read(HCR_EL2).VSE == 1


def test_serror_is_taken_once_it_is_unmasked() -> None:
    guest = mmio_guest(UNMASK_A)
    guest.vcpu.set_vcpu_events(serror_pending=True)
    esr, _, elr, spsr = taken(guest)
    assert (esr, elr, spsr) == (SERROR, CODE + 4, EL1H_MASKED & ~ISR_EL1.build(A=1))
    assert guest.vcpu.pe.read(HCR_EL2).VSE == 0
