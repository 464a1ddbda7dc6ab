from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from emu.arch.address import PA
from emu.arch.profiles import profile
from lab.conformance.compare import FINAL, Difference, compare
from lab.conformance.execute import Run
from lab.conformance.parse import parse
from tests.lab.conformance.conftest import CODE, DATA, UNMAPPED

if TYPE_CHECKING:
    from lab.conformance.cases import Case, StepResult

A72 = profile("cortex-a72")
PAGE_END = 0x8000_0FFC
NEXT_PAGE = 0x8000_1000
LDP_X0_X3 = "0xa9400c20"
LDLAR_X0 = "0xc8df7c20"
DC_ZVA_X1 = "0xd50b7421"


def _case(content: dict[str, Any], instruction: str | None = None, **recorded: object) -> Case:
    """Return the case with other recorded fields and another instruction."""
    content["expect"][0]["steps"][0] |= recorded
    if instruction is not None:
        content["code"][0]["words"][0] = content["insn"]["encoding"] = instruction
    return parse(content, "")


def _compare(
    case: Case,
    *steps: StepResult,
    descriptors: dict[PA, int] | None = None,
    memory: dict[PA, int] | None = None,
    seen: str | None = None,
    **here: Any,  # noqa: ANN401  # fields of StepResult
) -> list[Difference]:
    """Compare with a machine that answers as recorded but for the fields in ``here``."""
    expectation = case.expectations[0]
    first = replace(expectation.steps[0], **here)
    if memory is None:
        memory = {pa: case.memory[pa] for pa in case.data}
    run = Run((first, *steps), descriptors or {}, memory)
    return compare(case, expectation, run, seen, A72)


def _fields(differences: list[Difference]) -> list[str]:
    return [each.field for each in differences]


def test_equal_answers_have_no_differences(faulting: dict[str, Any]) -> None:
    assert _compare(_case(faulting)) == []


@pytest.mark.parametrize("name", ["taken_to", "elr", "spsr", "esr", "far", "hpfar"])
def test_each_register_of_an_exception_counts(faulting: dict[str, Any], name: str) -> None:
    case = _case(faulting)
    recorded = getattr(case.expectations[0].steps[0], name)
    for value in (recorded ^ 0x1_0000, None):
        here: dict[str, Any] = {name: value}
        assert _compare(case, **here) == [Difference(0, name, "", recorded, value)]


@pytest.mark.parametrize(
    ("name", "value"), [("imm", 1), ("via", "svc->hvc"), ("elr", 0), ("par", 1)]
)
def test_each_value_of_a_good_end_counts(content: dict[str, Any], name: str, value: Any) -> None:  # noqa: ANN401  # of any field
    assert _fields(_compare(_case(content, par="0x0"), **{name: value})) == [name]


def test_another_outcome_hides_what_follows_from_it(faulting: dict[str, Any]) -> None:
    faulting["steps"] = [{"kind": "resume", "ops": []}]
    faulting["expect"][0] |= {"steps": faulting["expect"][0]["steps"] * 2, "mem_after": []}
    case = _case(faulting)
    second = replace(case.expectations[0].steps[1], far=0)
    differences = _compare(case, second, outcome="ok", elr=1, memory={PA(DATA): 0})
    assert differences == [Difference(0, "outcome", "", "exception", "ok")]


def test_later_steps_are_compared(faulting: dict[str, Any]) -> None:
    faulting["steps"] = [{"kind": "resume", "ops": []}]
    faulting["expect"][0]["steps"] *= 2
    case = _case(faulting)
    second = replace(case.expectations[0].steps[1], spsr=0)
    assert _compare(case, second) == [Difference(1, "spsr", "", 0x3C5, 0)]


def test_what_was_not_recorded_is_not_compared(faulting: dict[str, Any]) -> None:
    case = _case(faulting, far=None, hpfar=None)
    assert _compare(case, far=1, hpfar=2, par=3, imm=4) == []


# HPFAR_EL2


@pytest.mark.parametrize(
    ("esr", "compared"),
    [
        (0x9200_0005, True),  # translation
        (0x9200_000A, True),  # access flag
        (0x9200_0001, True),  # address size
        (0x9200_002B, True),  # translation, level -1
        (0x8200_0007, True),  # of a fetch
        (0x9200_000F, False),  # permission
        (0x9200_008F, True),  # permission, of a walk of stage 1
        (0x8200_008D, True),
        (0x9200_0010, False),  # external
        (0x9200_0021, False),  # alignment
        (0x6232_DC28, False),  # a trapped instruction
    ],
)
def test_hpfar_counts_where_it_is_architected(
    faulting: dict[str, Any], esr: int, compared: bool
) -> None:
    case = _case(faulting, esr=hex(esr))
    assert bool(_compare(case, hpfar=0)) is compared


# ESR free bits


def test_wnr_is_free_in_a_fault_of_a_stage1_walk(faulting: dict[str, Any]) -> None:
    assert _compare(_case(faulting, esr="0x92000085"), esr=0x9200_00C5) == []


def test_wnr_counts_elsewhere(faulting: dict[str, Any]) -> None:
    assert _fields(_compare(_case(faulting), esr=0x93C0_8045)) == ["esr"]


def test_bit_6_of_a_fetch_is_not_wnr(faulting: dict[str, Any]) -> None:
    assert _fields(_compare(_case(faulting, esr="0x82000085"), esr=0x8200_00C5)) == ["esr"]


@pytest.mark.parametrize(
    ("here", "equal"),
    [
        (0x93C0_8016, True),
        (0x93C0_9816, True),  # SET
        (0x9200_0016, True),  # no syndrome, as FEAT_RAS has it
        (0x9200_1016, True),
        (0x93C1_8016, False),  # another register
        (0x9200_0017, False),
        (0x9200_0216, False),  # EA
    ],
)
def test_an_external_abort_may_have_no_instruction_syndrome(
    faulting: dict[str, Any], here: int, equal: bool
) -> None:
    assert (_compare(_case(faulting, esr="0x93c08016"), esr=here) == []) is equal


def test_set_counts_in_an_external_abort_without_syndrome(faulting: dict[str, Any]) -> None:
    assert _fields(_compare(_case(faulting, esr="0x92000010"), esr=0x9200_1010)) == ["esr"]


def test_ar_is_free_for_limited_order_only(faulting: dict[str, Any]) -> None:
    here = 0x93C0_C005
    assert _compare(_case(faulting, LDLAR_X0), esr=here) == []
    assert _fields(_compare(_case(faulting, "0xf9400020"), esr=here)) == ["esr"]


# FAR of DC ZVA


def test_far_may_lie_anywhere_in_the_block_of_dc_zva(faulting: dict[str, Any]) -> None:
    case = _case(faulting, DC_ZVA_X1, esr="0x92000045")
    assert _compare(case, far=UNMAPPED & -64) == []
    assert _fields(_compare(case, far=UNMAPPED & -64 | 64)) == ["far"]


# Registers


def test_registers_must_change_as_recorded_and_no_others(content: dict[str, Any]) -> None:
    case = _case(content)
    assert _compare(case, gpr_changed={"x0": 0x1122_3344_5566_7788, "x9": 1}) == [
        Difference(0, "gpr_changed", "x9", None, 1)
    ]
    assert _compare(case, gpr_changed={}) == [
        Difference(0, "gpr_changed", "x0", 0x1122_3344_5566_7788, None)
    ]


def test_simd_registers_must_not_change_where_none_is_recorded(content: dict[str, Any]) -> None:
    assert _compare(_case(content), q_changed={"q9[1]": 3}) == [
        Difference(0, "q_changed", "q9[1]", None, 3)
    ]


def test_what_a_half_done_access_leaves_is_free(faulting: dict[str, Any]) -> None:
    faulting["access"]["va"] = hex(PAGE_END)
    faulting["expect"][0]["mem_after"] = []
    case = _case(faulting, LDP_X0_X3, far=hex(NEXT_PAGE))
    memory = dict.fromkeys(case.data, 0)
    assert _compare(case, gpr_changed={"x3": 1}, q_changed={"q0[0]": 1}, memory=memory) == []
    assert _fields(_compare(case, gpr_changed={"x1": 1})) == ["gpr_changed"]


def test_an_access_that_fails_at_its_first_byte_leaves_nothing(faulting: dict[str, Any]) -> None:
    faulting["expect"][0]["mem_after"] = []
    case = _case(faulting, LDP_X0_X3)
    memory = dict.fromkeys(case.data, 0)
    found = _compare(case, gpr_changed={"x3": 1}, memory=memory)
    assert _fields(found) == ["gpr_changed", "mem_after", "mem_after"]


def test_a_tag_in_far_is_no_half_done_access(faulting: dict[str, Any]) -> None:
    case = _case(faulting, LDP_X0_X3, far=hex(UNMAPPED | 0xAA << 56))
    assert _fields(_compare(case, gpr_changed={"x3": 1})) == ["gpr_changed"]


def test_the_second_access_starts_at_its_own_address(faulting: dict[str, Any]) -> None:
    faulting["steps"] = [{"kind": "resume", "ops": []}]
    faulting["expect"][0]["steps"] *= 2
    faulting["second"] = {"va": hex(UNMAPPED + 8)}
    case = _case(faulting, LDP_X0_X3)
    second = replace(case.expectations[0].steps[1], gpr_changed={"x3": 1})
    assert _compare(case, second) == []


# Memory


def test_no_other_descriptor_may_change(faulting: dict[str, Any]) -> None:
    found = _compare(_case(faulting), descriptors={PA(0x4800_0008): 5})
    assert found == [Difference(FINAL, "descs_after", "s2 L1[1] at 0x48000008", None, 5)]


def test_a_recorded_descriptor_must_change(content: dict[str, Any]) -> None:
    content["expect"][0]["descs_after"] = [["s2", 1, 1, "0x48000008", "0x5"]]
    assert _compare(_case(content), descriptors={PA(0x4800_0008): 5}) == []
    assert _fields(_compare(_case(content))) == ["descs_after"]


def test_memory_counts_where_it_was_recorded(content: dict[str, Any]) -> None:
    changed = {PA(DATA): 1, PA(DATA + 8): 0x99AA_BBCC_DDEE_FF00}
    assert _compare(_case(content), memory=changed) == []
    content["expect"][0]["mem_after"] = [[hex(DATA), "0x1"]]
    case = _case(content)
    assert _compare(case, memory=changed) == []
    assert _compare(case, memory=changed | {PA(DATA + 8): 2}) == [
        Difference(FINAL, "mem_after", hex(DATA + 8), 0x99AA_BBCC_DDEE_FF00, 2)
    ]


def test_what_the_second_access_saw_counts_where_it_must_be_new(content: dict[str, Any]) -> None:
    content["second"] = {"must_be_new": True}
    content["expect"][0]["second_seen"] = "new"
    assert _compare(_case(content), seen="new") == []
    assert _compare(_case(content), seen="old") == [Difference(1, "second_seen", "", "new", "old")]


def test_a_tlb_may_keep_what_it_need_not_drop(content: dict[str, Any]) -> None:
    content["expect"][0]["second_seen"] = "new"
    assert _compare(_case(content), seen="old") == []
    assert _compare(_case(content), seen="neither") != []


def test_code_that_no_case_laid_out_has_no_free_bits(faulting: dict[str, Any]) -> None:
    case = _case(faulting, LDLAR_X0, elr=hex(CODE + 0x100))
    assert _fields(_compare(case, esr=0x93C0_C005)) == ["esr"]
