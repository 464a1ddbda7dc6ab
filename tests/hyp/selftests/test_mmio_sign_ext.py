"""Loads and stores at a device, extended and swapped, as in the kernel's mmio_sign_ext."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest

from bench import tables
from emu.arch.address import IPA
from emu.arch.registers.exceptions import SPSR_EL2
from emu.arch.registers.identification import ID_AA64MMFR0_EL1
from emu.arch.registers.translation import SCTLR_EL1
from hyp import one_reg
from hyp.exits import Mmio
from tests.emu.cpu import a64
from tests.hyp.selftests.guest import ATOMIC_CPU, CODE, TABLES, UCALL, SelftestGuest

MMIO = IPA(0x0800_0000)
MIXED_CPU = ATOMIC_CPU.replace(ATOMIC_CPU.read(ID_AA64MMFR0_EL1).replace(BigEnd=1))
USER, READ_ONLY, UXN = 1 << 6, 1 << 7, 1 << 54
EL0T = 0x3C0


class Load(NamedTuple):
    """A load of X4 from X2."""

    name: str
    word: int
    len: int
    data: int
    expected: int


def loads() -> list[Load]:
    """Return every width, sign and size of the register, for a high and a low sign bit."""
    found = []
    for size, values in {
        1: (0xFF, 0x7F, 0x80),
        2: (0x8001, 0x7FFF, 0x1234),
        4: (0x8000_0001, 0x7FFF_FFFF, 0x1234_5678),
        8: (0x8000_0000_0000_0001, 0x0123_4567_89AB_CDEF),
    }.items():
        for value in values:
            shown = f"{value:#x}"
            name = {1: "B", 2: "H", 4: " W", 8: " X"}[size]
            found.append(Load(f"LDR{name} {shown}", a64.ldr(4, 2, 0, size), size, value, value))
            negative = value >> 8 * size - 1
            if size < 8:
                wide = value | -negative << 8 * size & (1 << 64) - 1
                word = a64.ldrs(4, 2, 0, size)
                found.append(Load(f"LDRS{name} X {shown}", word, size, value, wide))
            if size < 4:
                narrow = value | -negative << 8 * size & (1 << 32) - 1
                word = a64.ldrs(4, 2, 0, size, wide=False)
                found.append(Load(f"LDRS{name} W {shown}", word, size, value, narrow))
    return found


LOADS = loads()


def device_guest(word: int, order: str, *, el0: bool) -> SelftestGuest:
    """Return a guest whose data accesses are in this byte order, at EL1 or at EL0."""
    guest = SelftestGuest(features=MIXED_CPU)
    guest.load(word, a64.str_(31, 19), devices=[MMIO])
    image = bytearray(guest.image)
    if el0:
        for page, bits in ((CODE, USER | READ_ONLY), (MMIO, USER), (UCALL, USER)):
            at = guest.pte(page) - TABLES
            (entry,) = struct.unpack_from("<Q", image, at)
            struct.pack_into("<Q", image, at, (entry | bits) & ~(UXN if page == CODE else 0))
        guest.vcpu.write(SPSR_EL2(EL0T))
    sctlr = tables.SCTLR
    if order == "big":
        # EE turns the order of the guest's tables around as well.
        sctlr = sctlr.replace(E0E=1) if el0 else sctlr.replace(EE=1)
        if not el0:
            image = bytearray(b"".join(image[i : i + 8][::-1] for i in range(0, len(image), 8)))
    guest.vm.host.write(guest.hva(TABLES), bytes(image))
    guest.vcpu.set_one_reg(one_reg.system(SCTLR_EL1.encoding), int(sctlr))
    guest.set_x(guest.vcpu, x2=MMIO, x4=0xA5A5_A5A5_A5A5_A5A5)
    return guest


@pytest.mark.parametrize("el0", [False, True], ids=["EL1", "EL0"])
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("load", LOADS, ids=[load.name for load in LOADS])
@pytest.mark.kvm_row(24, 25, 72)
def test_load_from_a_device_is_swapped_and_then_extended(
    load: Load, order: str, *, el0: bool
) -> None:
    guest = device_guest(load.word, order, el0=el0)
    assert guest.vcpu.run(100) == Mmio(MMIO, bytes(load.len), load.len, False)
    guest.vcpu.set_mmio_data(load.data.to_bytes(load.len, "big" if order == "big" else "little"))
    assert int(guest.vcpu.pc) == CODE
    guest.sync()
    assert guest.x(guest.vcpu, 4) == load.expected


@pytest.mark.parametrize("el0", [False, True], ids=["EL1", "EL0"])
@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.kvm_row(24, 25)
def test_store_to_a_device_shows_the_bytes_in_memory_order(
    size: int, order: str, *, el0: bool
) -> None:
    guest = device_guest(a64.str_(4, 2, 0, size), order, el0=el0)
    guest.set_x(guest.vcpu, x4=0x0123_4567_89AB_CDEF)
    stored = 0x0123_4567_89AB_CDEF & (1 << 8 * size) - 1
    data = stored.to_bytes(size, "big" if order == "big" else "little")
    assert guest.vcpu.run(100) == Mmio(MMIO, data, size, True)
