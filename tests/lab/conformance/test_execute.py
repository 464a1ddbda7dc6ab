from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from emu.arch.address import PA, VA
from emu.arch.profiles import profile
from emu.arch.registers.identification import ID_AA64ISAR0_EL1
from lab.conformance.cases import StepResult
from lab.conformance.execute import Tables, execute, knows_instruction, second_seen
from lab.conformance.parse import parse
from lab.conformance.setup import Bench
from tests.lab.conformance.conftest import CODE, DATA, HVC_0, STR_X2_X1, UNMAPPED

if TYPE_CHECKING:
    from lab.conformance.cases import Case

LDADD: int = 0xF8220020  # ldadd x2, x0, [x1]
LDG: int = 0xD9600020  # ldg x0, [x1]
SVC_0 = "0xd4000001"
L1_ENTRY_2 = "0x48000010"
BLOCK = "0x400007fd"


def _code(content: dict[str, Any], *words: str) -> None:
    content["code"][0]["words"] = list(words)


def test_a_load_changes_its_register_and_ends_at_the_hvc(bench: Bench, case: Case) -> None:
    (first,) = execute(bench, case).steps
    assert first.outcome == "ok"
    assert (first.imm, first.via, first.elr) == (0, "hvc", CODE + 8)
    assert first.gpr_changed == {"x0": 0x1122_3344_5566_7788}
    assert first.q_changed == {}


def test_an_abort_is_described_by_the_registers_of_el2(
    bench: Bench, faulting: dict[str, Any]
) -> None:
    (first,) = execute(bench, parse(faulting, "")).steps
    assert first == StepResult(
        "exception",
        taken_to=2,
        esr=0x93C0_8005,
        far=UNMAPPED,
        hpfar=0x80_0000,
        elr=CODE,
        spsr=0x3C5,
        par=0,
        gpr_changed={},
        q_changed={},
    )


def test_an_exception_to_el1_is_described_by_the_registers_of_el1(
    bench: Bench, content: dict[str, Any]
) -> None:
    _code(content, "0x00000000")
    (first,) = execute(bench, parse(content, "")).steps
    assert (first.outcome, first.taken_to, first.el1_vector) == ("exception", 1, 0x200)
    assert first.esr == 0x0200_0000
    assert (first.elr, first.spsr) == (CODE, 0x3C5)


def test_a_guest_at_el0_ends_with_svc(bench: Bench, content: dict[str, Any]) -> None:
    _code(content, "0xd2800000", SVC_0)
    content["entry"]["spsr"] = "0x3c0"
    (first,) = execute(bench, parse(content, "")).steps
    assert (first.outcome, first.via, first.imm) == ("ok", "svc->hvc", 0)
    assert first.elr == CODE + 8


def test_a_guest_without_end_is_stopped(bench: Bench, content: dict[str, Any]) -> None:
    _code(content, "0x14000000")
    (first,) = execute(bench, parse(content, "")).steps
    assert first.outcome not in ("ok", "exception")


def test_simd_registers_are_compared_by_halves(bench: Bench, content: dict[str, Any]) -> None:
    content["sys"]["hcr_el2"] = "0x80001001"  # DC: Normal memory, which need not be aligned
    _code(content, "0x3dc00021", HVC_0)  # ldr q1, [x1]
    (first,) = execute(bench, parse(content, "")).steps
    assert first.q_changed == {"q1[0]": 0x1122_3344_5566_7788, "q1[1]": 0x99AA_BBCC_DDEE_FF00}
    assert first.gpr_changed == {}


def test_simd_lanes_start_with_values_of_their_own(bench: Bench, content: dict[str, Any]) -> None:
    content["sys"]["hcr_el2"] = "0x80001001"
    _code(content, "0x3d800023", HVC_0)  # str q3, [x1]
    run = execute(bench, parse(content, ""))
    assert run.memory[PA(DATA)] == 0xF0F0_F0F0_F0F0_F006
    assert run.memory[PA(DATA + 8)] == 0xF0F0_F0F0_F0F0_F007


def test_steps_change_the_machine_and_go_on(bench: Bench, faulting: dict[str, Any]) -> None:
    faulting["steps"] = [
        {"kind": "resume", "ops": [["wr", L1_ENTRY_2, BLOCK], ["gpr", "0x5", "0x1"]]},
    ]
    faulting["mem"] = [["0x40000128", ["0x77"]]]
    faulting["s2"]["descs"].append([1, 2, L1_ENTRY_2, "0x0"])
    faulting["expect"][0]["steps"] *= 2
    first, second = execute(bench, parse(faulting, "")).steps
    assert first.outcome == "exception"
    assert second.outcome == "ok"
    assert second.gpr_changed == {"x0": 0x77}


def test_resume_at_goes_elsewhere(bench: Bench, faulting: dict[str, Any]) -> None:
    faulting["steps"] = [{"kind": "resume_at", "p0": hex(CODE + 4), "ops": []}]
    faulting["expect"][0]["steps"] *= 2
    _, second = execute(bench, parse(faulting, "")).steps
    assert (second.outcome, second.elr) == ("ok", CODE + 8)


def test_translations_at_el2_answer_in_par(bench: Bench, content: dict[str, Any]) -> None:
    content["steps"] = [
        {"kind": "at_el2", "p0": "0x0", "p1": hex(DATA), "ops": []},
        {"kind": "at_el2", "p0": "0x0", "p1": hex(UNMAPPED), "ops": []},
    ]
    content["expect"][0]["steps"] *= 3
    _, mapped, unmapped = execute(bench, parse(content, "")).steps
    assert (mapped.outcome, unmapped.outcome) == ("par", "par")
    assert mapped.par is not None
    assert mapped.par & 0xF_FFFF_FFFF_F001 == DATA & ~0xFFF
    assert unmapped.par is not None
    assert unmapped.par & 0x7F == 0x05 << 1 | 1


def test_descriptors_that_change_are_told_from_those_that_el2_writes(
    bench: Bench, content: dict[str, Any]
) -> None:
    _code(content, STR_X2_X1, HVC_0)
    content["regs"]["x1"] = "0x48000010"
    content["s2"]["descs"] += [[1, 2, L1_ENTRY_2, "0x0"], [1, 3, "0x48000018", "0x0"]]
    content["regs"]["x2"] = "0x5"
    content["steps"] = [{"kind": "resume", "ops": [["wr", "0x48000018", "0x9"]]}]
    content["expect"][0]["steps"] *= 2
    run = execute(bench, parse(content, ""))
    assert run.descriptors == {PA(0x4800_0010): 5}


def test_nothing_of_one_case_is_left_for_the_next(bench: Bench, content: dict[str, Any]) -> None:
    before = execute(bench, parse(content, ""))
    _code(content, "0x4c402020", "0xc85f7c25", "0xf9000322", HVC_0)  # ld1 4 regs, ldxr x5, str x25
    content["regs"]["x25"] = hex(DATA + 0x1000)
    content["sys"]["vpidr_el2"] = "0x1234"
    content["expect"][0]["mem_after"] = []
    messy = execute(bench, parse(content, ""), frozenset({PA(DATA + 0x1000)}))
    assert messy.steps[0].outcome == "ok"
    assert messy.memory[PA(DATA + 0x1000)] != 0
    _code(content, "0xf9400020", HVC_0)
    del content["sys"]["vpidr_el2"], content["regs"]["x25"]
    after = execute(bench, parse(content, ""), frozenset({PA(DATA + 0x1000)}))
    assert after.memory.pop(PA(DATA + 0x1000)) == 0
    assert after == before


def test_code_of_the_case_before_is_not_executed(bench: Bench, content: dict[str, Any]) -> None:
    execute(bench, parse(content, ""))
    _code(content, "0xd2800540", HVC_0)  # mov x0, #42
    (first,) = execute(bench, parse(content, "")).steps
    assert first.gpr_changed == {"x0": 42}


@pytest.mark.parametrize(
    ("ops", "seen"),
    [
        ([["wr", "0x48000008", "0x800007fd"]], "old"),
        ([["wr", "0x48000008", "0x0"], ["tlbi", "vmalls12e1is", "0x0"]], "new"),
        ([["tlbi", "vmalls12e1is", "0x0"]], "both"),
    ],
)
def test_the_second_access_sees_what_the_tlb_holds(
    bench: Bench, content: dict[str, Any], ops: list[list[str]], seen: str
) -> None:
    content["steps"] = [{"kind": "resume", "ops": ops}]
    _code(content, "0xf9400020", HVC_0, "0xf9400023", HVC_0)
    content["expect"][0]["steps"] *= 2
    case = parse(content, "")
    assert second_seen(bench, case, execute(bench, case)) == seen


def test_old_and_new_tables_can_be_chosen(bench: Bench, faulting: dict[str, Any]) -> None:
    faulting["s2"]["descs"].append([1, 2, L1_ENTRY_2, "0x0"])
    faulting["steps"] = [{"kind": "resume", "ops": [["wr", L1_ENTRY_2, BLOCK]]}]
    faulting["expect"][0]["steps"] *= 2
    case = parse(faulting, "")
    assert execute(bench, case, tables=Tables.NEW).steps[1].outcome == "ok"
    assert execute(bench, case, tables=Tables.OLD).steps[1].outcome == "exception"


def test_instructions_that_the_cpu_lacks_are_unknown(case: Case) -> None:
    old, full = Bench(profile("cortex-a72")), Bench(profile("max"))
    assert not knows_instruction(old, case, LDADD)
    assert knows_instruction(full, case, LDADD)
    assert knows_instruction(old, case, 0xF940_0020)
    assert not knows_instruction(full, case, 0x0000_0000)


def test_the_engine_follows_the_features(case: Case) -> None:
    with_lse = profile("cortex-a72").replace(ID_AA64ISAR0_EL1.build(Atomic=2))
    assert knows_instruction(Bench(with_lse), case, LDADD)


def test_va_of_code_is_kept_for_the_comparison(case: Case) -> None:
    assert case.code[VA(CODE)] == 0xF940_0020
