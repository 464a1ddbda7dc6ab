"""Exceptions given to the guest, and steps over instructions."""

from __future__ import annotations

import pytest

from emu.arch.address import VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    ESR_EL2,
    FAR_EL1,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
    VSESR_EL2,
    Mode,
)
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from hyp.errors import Errno, KvmError
from hyp.inject import (
    kvm_adjust_pc,
    kvm_incr_pc,
    kvm_inject_sea,
    kvm_inject_serror,
    kvm_inject_undefined,
    kvm_pending_sync_exception,
)
from tests.hyp.fake_machine import HOLE, Guest, Trap, fetch, load, make_guest

PC = 0x4000_0100


@pytest.fixture
def guest() -> Guest:
    guest = make_guest()
    guest.pe.write(ELR_EL2(PC))
    guest.pe.write(VBAR_EL1(0x4008_0000))
    guest.pe.write(ESR_EL2(load(HOLE).esr))
    return guest


@pytest.mark.parametrize(
    ("mode", "vector", "ec"),
    [
        (Mode.EL1t, 0x000, ExceptionClass.DABT_CUR),
        (Mode.EL1h, 0x200, ExceptionClass.DABT_CUR),
        (Mode.EL0t, 0x400, ExceptionClass.DABT_LOW),
    ],
)
@pytest.mark.kvm_row(74)
def test_abort_goes_to_the_vector_of_the_mode(
    guest: Guest, mode: Mode, vector: int, ec: ExceptionClass
) -> None:
    before = SPSR_EL2.build(M=mode, N=1, I=1)
    guest.pe.write(before)
    kvm_inject_sea(guest.vcpu, is_iabt=False, far=0x1234)
    kvm_adjust_pc(guest.vcpu)
    pe = guest.pe
    assert pe.read(ELR_EL2) == 0x4008_0000 + vector
    assert int(pe.read(SPSR_EL1)) == before
    assert pe.read(ELR_EL1) == PC
    assert pe.read(ESR_EL1).EC is ec
    assert pe.read(FAR_EL1) == 0x1234
    after = pe.read(SPSR_EL2)
    assert after.M is Mode.EL1h
    assert (after.N, after.D, after.A, after.I, after.F) == (1, 1, 1, 1, 1)


def test_span_decides_on_privileged_access_never() -> None:
    guest = make_guest()
    pan = guest.vm.features.pstate.PAN
    guest.pe.write(SCTLR_EL1(0))
    kvm_inject_undefined(guest.vcpu)
    kvm_adjust_pc(guest.vcpu)
    assert pan == guest.pe.read(SPSR_EL2).PAN


@pytest.mark.parametrize("il", [0, 1])
def test_length_is_that_of_the_trapped_instruction(guest: Guest, il: int) -> None:
    guest.pe.write(ESR_EL2(load(HOLE).esr).replace(IL=il))
    kvm_inject_sea(guest.vcpu, is_iabt=False, far=0)
    kvm_adjust_pc(guest.vcpu)
    assert il == guest.pe.read(ESR_EL1).IL


def test_undefined_leaves_far_alone(guest: Guest) -> None:
    guest.pe.write(FAR_EL1(0xABC))
    kvm_inject_undefined(guest.vcpu)
    kvm_adjust_pc(guest.vcpu)
    assert guest.pe.read(ESR_EL1).EC is ExceptionClass.UNKNOWN
    assert guest.pe.read(FAR_EL1) == 0xABC


def test_nothing_happens_until_it_is_applied(guest: Guest) -> None:
    kvm_inject_undefined(guest.vcpu)
    assert kvm_pending_sync_exception(guest.vcpu)
    assert guest.vcpu.pc == PC
    kvm_adjust_pc(guest.vcpu)
    assert not kvm_pending_sync_exception(guest.vcpu)
    kvm_adjust_pc(guest.vcpu)
    assert guest.pe.read(ELR_EL1) == PC, "once"


@pytest.mark.kvm_row(75)
def test_exception_beats_the_step(guest: Guest) -> None:
    kvm_incr_pc(guest.vcpu)
    kvm_inject_undefined(guest.vcpu)
    kvm_adjust_pc(guest.vcpu)
    assert guest.pe.read(ELR_EL1) == PC
    kvm_adjust_pc(guest.vcpu)
    assert guest.pe.read(ELR_EL2) == 0x4008_0200, "the step is forgotten"


def test_step_clears_btype_and_single_step(guest: Guest) -> None:
    guest.pe.write(SPSR_EL2.build(M=Mode.EL1h, BTYPE=2, SS=1, N=1))
    kvm_incr_pc(guest.vcpu)
    kvm_adjust_pc(guest.vcpu)
    assert guest.vcpu.pc == PC + 4
    assert guest.pe.read(SPSR_EL2) == SPSR_EL2.build(M=Mode.EL1h, N=1)


def test_step_wraps_at_the_end_of_the_address_space(guest: Guest) -> None:
    guest.pe.write(ELR_EL2((1 << 64) - 4))
    kvm_incr_pc(guest.vcpu)
    kvm_adjust_pc(guest.vcpu)
    assert guest.vcpu.pc == 0


def test_serror_is_left_to_the_hardware(guest: Guest) -> None:
    kvm_inject_serror(guest.vcpu)
    assert guest.pe.read(HCR_EL2).VSE == 1
    assert guest.pe.read(VSESR_EL2) == 0
    assert guest.vcpu.pc == PC


def test_user_space_can_make_an_serror_pending(guest: Guest) -> None:
    guest.vcpu.set_vcpu_events(serror_pending=True)
    assert guest.pe.read(HCR_EL2).VSE == 1


def test_user_space_cannot_abort_an_access_that_never_was(guest: Guest) -> None:
    with pytest.raises(KvmError, match="no access") as caught:
        guest.vcpu.set_vcpu_events(ext_dabt_pending=True)
    assert caught.value.errno is Errno.EINVAL


def test_fetch_from_el0_into_a_hole_ends_at_the_lower_el_vector(guest: Guest) -> None:
    guest.pe.write(SPSR_EL2.build(M=Mode.EL0t))
    trap = fetch(HOLE, far=0x7000)
    guest.run(Trap(trap.esr, trap.far, trap.ipa, pc=0x7000))
    assert guest.vcpu.pc == VA(0x4008_0400)
    assert guest.pe.read(ELR_EL1) == 0x7000
