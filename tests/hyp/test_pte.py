"""Stage-2 descriptors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyp.pte import (
    PTE_LOCKED,
    PTE_VALID,
    ExecuteNever,
    InvalidPteType,
    MemAttr,
    MemAttrFWB,
    Prot,
    Stage2Pte,
    pte_counted,
    pte_executable,
    pte_prot,
    pte_table,
    pte_valid,
    stage2_attr,
)

RW = Prot.R | Prot.W


@pytest.mark.parametrize(
    ("prot", "fwb", "memattr"),
    [
        (RW, False, MemAttr.NORMAL),
        (RW, True, MemAttrFWB.NORMAL),
        (RW | Prot.DEVICE, False, MemAttr.DEVICE_nGnRE),
        (RW | Prot.DEVICE, True, MemAttrFWB.DEVICE_nGnRE),
        (RW | Prot.NORMAL_NC, False, MemAttr.NORMAL_NC),
        (RW | Prot.NORMAL_NC, True, MemAttrFWB.NORMAL_NC),
    ],
)
@pytest.mark.kvm_row(52)
def test_memory_type_by_kind_and_fwb(prot: Prot, fwb: bool, memattr: int) -> None:
    attr = stage2_attr(prot, fwb=fwb)
    assert attr is not None
    pte = Stage2Pte(attr)
    assert pte.MemAttr == memattr
    assert pte.AF == 1
    assert pte.SH == 3


@pytest.mark.parametrize("prot", [Prot.X | Prot.DEVICE, Prot.DEVICE | Prot.NORMAL_NC])
def test_impossible_combinations_have_no_attributes(prot: Prot) -> None:
    assert stage2_attr(prot, fwb=False) is None


@given(st.sampled_from([Prot(n) for n in range(8)]))
def test_permissions_survive_the_descriptor(prot: Prot) -> None:
    attr = stage2_attr(prot, fwb=False)
    assert attr is not None
    assert pte_prot(attr) == prot
    assert pte_executable(attr) == bool(prot & Prot.X)
    xn = Stage2Pte(attr).XN
    assert xn == (ExecuteNever.EXECUTABLE if prot & Prot.X else ExecuteNever.NEVER)


def test_locked_entry_is_invalid_but_counted() -> None:
    assert not pte_valid(PTE_LOCKED)
    assert pte_counted(PTE_LOCKED)
    assert Stage2Pte(PTE_LOCKED).INVALID_TYPE is InvalidPteType.LOCKED


@pytest.mark.parametrize(
    ("pte", "level", "is_table"),
    [(0b11, 2, True), (0b11, 3, False), (0b01, 2, False), (0b10, 2, False), (0, 1, False)],
)
def test_table_is_told_by_type_and_level(pte: int, level: int, is_table: bool) -> None:
    assert pte_table(pte, level) is is_table
    assert pte_valid(pte) == bool(pte & PTE_VALID)
