"""Exception entry to EL1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.exceptions import (
    ExceptionKind,
    PstateFeatures,
    VectorGroup,
    entry_to_el1,
    vector_group,
)
from emu.arch.registers.exceptions import PSTATE, VBAR_EL1, Mode
from emu.arch.registers.translation import SCTLR_EL1

VBAR = VBAR_EL1(0xFFFF_8000_0801_0800)
SPAN_SET = SCTLR_EL1.build(SPAN=1)
NO_FEATURES = PstateFeatures(PAN=False, DIT=False, SSBS=False, MTE=False)
MASKED_EL1H = 0x3C5

EL0, EL1T, EL1H = PSTATE.build(M=Mode.EL0t), PSTATE.build(M=Mode.EL1t), PSTATE.build(M=Mode.EL1h)
AARCH32_USER = PSTATE.build(nRW=1)


def enter(
    pstate: PSTATE, sctlr: SCTLR_EL1 = SPAN_SET, features: PstateFeatures = NO_FEATURES
) -> PSTATE:
    return entry_to_el1(pstate, sctlr, VBAR, ExceptionKind.SYNCHRONOUS, features).pstate


@pytest.mark.parametrize(
    ("pstate", "group"),
    [(EL1T, 0x000), (EL1H, 0x200), (EL0, 0x400), (AARCH32_USER, 0x600)],
)
@pytest.mark.parametrize(
    ("kind", "offset"),
    [
        (ExceptionKind.SYNCHRONOUS, 0x000),
        (ExceptionKind.IRQ, 0x080),
        (ExceptionKind.FIQ, 0x100),
        (ExceptionKind.SERROR, 0x180),
    ],
)
def test_vector_is_the_group_of_the_origin_plus_the_kind(
    pstate: PSTATE, group: int, kind: ExceptionKind, offset: int
) -> None:
    assert entry_to_el1(pstate, SPAN_SET, VBAR, kind).pc == VBAR + group + offset


def test_reserved_low_bits_of_vbar_are_ignored() -> None:
    vbar = VBAR_EL1(VBAR | 0x7FF)
    assert entry_to_el1(EL1H, SPAN_SET, vbar, ExceptionKind.IRQ).pc == VBAR + 0x280


def test_handler_runs_at_el1h_with_everything_masked() -> None:
    assert enter(EL0) == MASKED_EL1H
    assert enter(EL1T) == MASKED_EL1H


def test_flags_survive() -> None:
    assert enter(EL0.replace(N=1, Z=1, C=1, V=1)) == 0xF << 28 | MASKED_EL1H


def test_single_step_illegal_state_branch_type_and_user_override_are_cleared() -> None:
    assert enter(EL1H.replace(SS=1, IL=1, BTYPE=3, UAO=1)) == MASKED_EL1H


@pytest.mark.parametrize(("before", "span", "after"), [(0, 1, 0), (1, 1, 1), (0, 0, 1), (1, 0, 1)])
def test_pan_is_kept_or_set_when_span_is_0(before: int, span: int, after: int) -> None:
    features = NO_FEATURES._replace(PAN=True)
    entered = enter(EL0.replace(PAN=before), SCTLR_EL1.build(SPAN=span), features)
    assert entered == MASKED_EL1H | after << 22


@pytest.mark.parametrize("dssbs", [0, 1])
def test_ssbs_takes_its_default_from_sctlr(dssbs: int) -> None:
    features = NO_FEATURES._replace(SSBS=True)
    sctlr = SCTLR_EL1.build(SPAN=1, DSSBS=dssbs)
    entered = enter(EL0.replace(SSBS=1 - dssbs), sctlr, features)
    assert entered == MASKED_EL1H | dssbs << 12


@pytest.mark.parametrize("dit", [0, 1])
def test_dit_survives(dit: int) -> None:
    features = NO_FEATURES._replace(DIT=True)
    assert enter(EL0.replace(DIT=dit), features=features) == MASKED_EL1H | dit << 24


def test_tag_checks_are_overridden_with_mte() -> None:
    assert enter(EL0, features=NO_FEATURES._replace(MTE=True)) == MASKED_EL1H | 1 << 25


@pytest.mark.parametrize("spintmask", [0, 1])
def test_allint_is_the_inverse_of_spintmask_with_nmi(spintmask: int) -> None:
    features = NO_FEATURES._replace(NMI=True)
    sctlr = SCTLR_EL1.build(SPAN=1, SPINTMASK=spintmask)
    assert enter(EL0, sctlr, features) == MASKED_EL1H | (1 - spintmask) << 13


@given(
    word=st.integers(0, (1 << 32) - 1),
    sctlr=st.integers(0, (1 << 64) - 1),
    mode=st.sampled_from([Mode.EL0t, Mode.EL1t, Mode.EL1h]),
)
def test_bits_of_missing_features_stay_clear(word: int, sctlr: int, mode: Mode) -> None:
    pstate = PSTATE(word).replace(M=mode, nRW=0)
    entered = enter(pstate, SCTLR_EL1(sctlr))
    assert entered & ~(0xF << 28) == MASKED_EL1H


@pytest.mark.parametrize("word", [0x9, 0xD, 0x8, 0x13, 0x1A, 0x2, 0xF])
def test_states_that_cannot_enter_el1_are_refused(word: int) -> None:
    with pytest.raises(ValueError, match=rf"not with M\[4:0\] {word:#x}$"):
        vector_group(PSTATE(word))


def test_vector_group_is_named() -> None:
    assert vector_group(EL0) is VectorGroup.LOWER_AARCH64
