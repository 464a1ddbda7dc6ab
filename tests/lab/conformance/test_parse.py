from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from emu.arch.a64.maintenance import AT
from emu.arch.a64.tlbi import TLBI
from emu.arch.address import PA, VA
from emu.arch.registers.virtualization import HCR_EL2, VTTBR_EL2
from lab.conformance.cases import Invalidate, SetGeneral, SetRegister, StepKind, Write
from lab.conformance.parse import parse
from lab.conformance.values import MalformedCaseError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_registers_are_those_of_the_names(content: dict[str, Any]) -> None:
    registers = {type(each): int(each) for each in parse(content, "").registers}
    assert registers[HCR_EL2] == 0x8000_0001
    assert registers[VTTBR_EL2] == 0x1_0000_4800_0000


def test_memory_holds_descriptors_code_vectors_and_data(content: dict[str, Any]) -> None:
    memory = parse(content, "").memory
    assert memory[PA(0x4800_0008)] == 0x4000_07FD
    assert memory[PA(0x4E00_0000)] == 0xD400_0002_F940_0020
    assert memory[PA(0x4E01_0000)] == 0xD400_2002
    assert memory[PA(0x4E01_0780)] == 0xD400_21E2
    assert memory[PA(0x4E20_0130)] == 0x99AA_BBCC_DDEE_FF00


@pytest.mark.parametrize(
    ("pa", "cell"), [("0x4e300000", 0xD503201F), ("0x4e300004", 0xD503201F << 32)]
)
def test_a_lone_instruction_shares_its_cell_with_zero(
    content: dict[str, Any], pa: str, cell: int
) -> None:
    content["code"].append({"what": "target", "va": "0x0", "pa": pa, "words": ["0xd503201f"]})
    assert parse(content, "").memory[PA(0x4E30_0000)] == cell


def test_stage1_descriptors_keep_their_ipa_and_their_pa(content: dict[str, Any]) -> None:
    entry = [2, 3, "0x4c000018", "0x4d000018", "0x701"]
    content["s1"] = {"granule": "4k", "ttbr0": [entry], "ttbr1": []}
    found = parse(content, "").descriptors[-1]
    assert (found.stage, found.address, found.pa) == ("s1-ttbr0", 0x4C00_0018, 0x4D00_0018)


def test_steps_carry_their_operations_without_barriers(content: dict[str, Any]) -> None:
    content["steps"] = [
        {
            "kind": "resume_at",
            "p0": "0x4e000004",
            "p1": "0x0",
            "ops": [
                ["wr", "0x48000010", "0x1"],
                ["tlbi", "dsb"],
                ["isb"],
                ["sys", "hcr_el2", "0x3"],
                ["gpr", "0x1e", "0x5"],
                ["tlbi", "ipas2e1is", "0x40"],
                ["tlbi", "vmalle1", "0x0"],
            ],
        },
        {"kind": "at_el2", "p0": "0x3", "p1": "0x1000", "ops": []},
        {"kind": "resume", "ops": []},
    ]
    content["expect"][0]["steps"] *= 4
    first, second, third = parse(content, "").steps
    assert first.pc == 0x4E00_0004
    assert first.operations == (
        Write(PA(0x4800_0010), 1),
        SetRegister(HCR_EL2(3)),
        SetGeneral(30, 5),
        Invalidate(TLBI.IPAS2E1IS, 0x40),
        Invalidate(TLBI.VMALLE1, 0),
    )
    assert second.translation == (AT.S12E0W, VA(0x1000))
    assert third.kind is StepKind.RESUME


def test_the_answer_is_that_of_the_profile(content: dict[str, Any]) -> None:
    content["expect"].append({"profiles": ["max"], "steps": [{"outcome": "ok"}], "mem_after": []})
    case = parse(content, "")
    ours, other = case.expectation("cortex-a72"), case.expectation("max")
    assert ours is not None
    assert ours.memory is None
    assert other is not None
    assert other.memory == {}
    assert case.expectation("neoverse-n1") is None


@pytest.mark.parametrize("vector", [4, "0x200"])
def test_an_el1_vector_is_an_index_or_an_offset(content: dict[str, Any], vector: object) -> None:
    content["expect"][0]["steps"][0] = {"outcome": "ok", "el1_vector": vector}
    assert parse(content, "").expectations[0].steps[0].el1_vector == 0x200


def test_changed_descriptors_are_found_by_ipa_or_pa(content: dict[str, Any]) -> None:
    entry = [2, 3, "0x4c000018", "0x4d000018", "0x701"]
    content["s1"] = {"granule": "4k", "ttbr0": [], "ttbr1": [entry]}
    for address in ("0x4c000018", "0x4d000018"):
        content["expect"][0]["descs_after"] = [["s1-ttbr1", 2, 3, address, "0x401"]]
        assert parse(content, "").expectations[0].descriptors == {PA(0x4D00_0018): 0x401}


def _set(*path: object, value: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        target: Any = content
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


def _drop(*path: object) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        target: Any = content
        for key in path[:-1]:
            target = target[key]
        del target[path[-1]]

    return change


def _step(**fields: object) -> Callable[[dict[str, Any]], None]:
    return _set("steps", value=[{"kind": "resume", "ops": [], **fields}])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("colour", value=1), "the case has the unknown field 'colour'"),
        (_drop("s2"), "the case lacks the field 's2'"),
        (_set("name", value=7), "name is a string, not 7"),
        (_set("sys", "foo_el1", value="0x0"), "there is no system register 'foo_el1'"),
        (_drop("sys", "hcr_el2"), "sys lacks the field 'hcr_el2'"),
        (_set("sys", "hcr_el2", value="0x1_0"), "sys.hcr_el2 is a 64-bit number"),
        (_set("sys", "hcr_el2", value="0x1" + "0" * 16), "sys.hcr_el2 is a 64-bit number"),
        (_set("sys", "hcr_el2", value=-1), "sys.hcr_el2 is a 64-bit number"),
        (_set("sys", "hcr_el2", value=True), "sys.hcr_el2 is a 64-bit number"),
        (_set("s2", "granule", value="8k"), "s2.granule is one of 4k, 16k, 64k, not '8k'"),
        (_set("s2", "descs", 0, 0, value=4), "s2.descs[0]: level 4 does not exist"),
        (_set("s2", "descs", 0, 0, value=-2), "levels are -1 to 3"),
        (_set("s2", "descs", 0, 0, value="1"), "level '1' does not exist"),
        (_set("s2", "descs", 0, 0, value=True), "level True does not exist"),
        (
            _set("s2", value={"granule": "16k", "descs": [[-1, 0, "0x48000000", "0x0"]]}),
            "with the 16K granule levels are 0 to 3",
        ),
        (_set("s2", "descs", 0, 1, value=-1), "the index is a number from 0 to 8191, not -1"),
        (_set("s2", "descs", 0, 1, value=8192), "the index is a number from 0 to 8191"),
        (_set("s2", "descs", 0, value=[1, 1, "0x0"]), "s2.descs[0] is an array of 4 elements"),
        (_set("s2", "descs", 0, 2, value="0x48000004"), "8-byte aligned, not '0x48000004'"),
        (_set("s2", "descs", 0, 2, value="0x70000000"), "is a PA in RAM"),
        (_set("s1", value=[]), "s1 is an object, not []"),
        (_set("mem", value=[["0x5ffffff8", ["0x1", "0x2"]]]), "mem[0] is a PA in RAM"),
        (_set("code", 0, "words", 0, value="0x1ffffffff"), "is a 32-bit instruction"),
        (_drop("code", 0, "words"), "code[0] ('test') lacks the field 'words'"),
        (_set("code", 0, "pa", value="0x4e000002"), "code[0].pa is a multiple of 4"),
        (_set("insn", "speed", value=1), "insn has the unknown field 'speed'"),
        (_set("entry", "pc", value=None), "entry.pc is a 64-bit number"),
        (_set("regs", "x31", value="0x0"), "regs has the unknown field 'x31'"),
        (_step(kind="jump"), "steps[0].kind is one of resume, resume_at, at_el2"),
        (_step(kind="resume_at"), "steps[0].p0 is a 64-bit number"),
        (_step(kind="at_el2", p0="0x8", p1="0x0"), "steps[0].p0 is a number from 0 to 7"),
        (_step(ops=[["xor", "0x0", "0x0"]]), "one of wr, sys, tlbi, gpr, not 'xor'"),
        (_step(ops=[["tlbi", "vmalle9", "0x0"]]), "there is no TLBI operation 'vmalle9'"),
        (_step(ops=[["gpr", "0x1f", "0x0"]]), "a number from 0 to 30"),
        (_step(ops=[[]]), "steps[0].ops[0]"),
        (_step(), "expect[0].steps is an array of 2 elements"),
        (_set("expect", 0, "steps", 0, "outcome", value="fine"), "one of ok, exception, par"),
        (_set("expect", 0, "steps", 0, "eax", value="0x0"), "has the unknown field 'eax'"),
        (
            _set("expect", 0, "steps", 0, value={"outcome": "exception"}),
            "expect[0].steps[0] lacks the field 'taken_to'",
        ),
        (_set("expect", 0, "steps", 0, "taken_to", value=3), "a number from 1 to 2"),
        (_set("expect", 0, "steps", 0, "gpr_changed", "x31", value="0x0"), "no register 'x31'"),
        (_set("expect", 0, "second_seen", value="maybe"), "is one of new, old, both, neither"),
        (
            _set("expect", 0, "descs_after", value=[["s2", 3, 1, "0x48000008", "0x0"]]),
            "the case has no descriptor s2 L3[1] at '0x48000008'",
        ),
        (_set("second", value=[1]), "second is an object"),
    ],
)
def test_what_is_malformed_is_named(
    content: dict[str, Any], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    change(content)
    with pytest.raises(MalformedCaseError) as refusal:
        parse(content, "")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content_", [None, 3, [], "case"])
def test_what_is_no_object_is_no_case(content_: object) -> None:
    with pytest.raises(MalformedCaseError, match="the case is an object"):
        parse(content_, "")


def test_the_case_is_named_once_its_name_is_known(content: dict[str, Any]) -> None:
    content["mem"] = 5
    with pytest.raises(MalformedCaseError, match=r"^case made/load: mem is an array, not 5"):
        parse(content, "")
