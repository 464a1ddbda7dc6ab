from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emu.arch.profiles import profile
from lab.conformance.compare import Difference
from lab.conformance.details import Row, field_rows, rows, step_title
from lab.conformance.parse import parse
from lab.conformance.run import run_profile
from tests.lab.conformance.conftest import UNMAPPED

if TYPE_CHECKING:
    from lab.conformance.run import CaseResult


def _result(content: dict[str, Any]) -> CaseResult:
    return run_profile([parse(content, "")], profile("cortex-a72"), ()).cases[0]


def test_two_syndromes_differ_field_by_field() -> None:
    found = list(field_rows(Difference(0, "esr", "", 0x93C0_8007, 0x93C1_8047)))
    assert found == [
        Row("SRT [20:16]", "0x0 register 0", "0x1 register 1", 1),
        Row("WnR [6]", "0 read", "1 write", 1),
    ]


def test_two_par_values_differ_field_by_field() -> None:
    found = list(field_rows(Difference(1, "par", "", 0x81F, 0x80F)))
    assert found == [Row("FST [6:1]", "0xf", "0x7", 1)]


def test_two_program_states_differ_field_by_field() -> None:
    found = list(field_rows(Difference(0, "spsr", "", 0x7C5, 0x3C5)))
    assert found == [Row("BTYPE [11:10]", "0x1", "0x0", 1)]


def test_a_lone_syndrome_shows_what_is_set_in_it() -> None:
    names = [row.name for row in field_rows(Difference(0, "esr", "", 0x9200_0007, None))]
    assert names == ["EC [31:26]", "IL [25]", "DFSC [5:0]"]


def test_bits_that_belong_to_no_field_are_shown() -> None:
    found = list(field_rows(Difference(0, "esr", "", 0x8200_008F, 0x8200_00CF)))
    assert found == [Row("bits of no field", "0x0", "0x40", 1)]


def test_other_values_have_no_fields() -> None:
    assert not list(field_rows(Difference(0, "far", "", 1, 2)))
    assert not list(field_rows(Difference(0, "outcome", "", "ok", "exception")))
    assert not list(field_rows(Difference(0, "spsr", "", 0x3C5, None)))


def test_registers_are_named_for_the_level_that_took_the_exception(
    faulting: dict[str, Any],
) -> None:
    faulting["expect"][0]["steps"][0] |= {"far": "0x0", "hpfar": "0x0"}
    assert [row for _, row in rows(_result(faulting))] == [
        Row("FAR_EL2", "0x0", hex(UNMAPPED)),
        Row("HPFAR_EL2", "0x0", "0x800000"),
    ]


def test_another_outcome_is_shown_with_all_that_came_of_it(faulting: dict[str, Any]) -> None:
    faulting["expect"][0]["steps"] = [
        {"outcome": "ok", "elr": "0x4e000008", "imm": 0, "via": "hvc"}
    ]
    shown = {row.name: (row.recorded, row.here) for _, row in rows(_result(faulting))}
    assert shown["outcome"] == ("ok", "exception")
    assert shown["taken_to"] == ("-", "EL2")
    assert shown["ESR_EL2"] == ("-", "0x93c08005")
    assert shown["DFSC [5:0]"] == ("-", "0x5 translation fault at level 1")
    assert shown["via"] == ("hvc", "-")


def test_steps_have_titles() -> None:
    assert [step_title(n) for n in (0, 2, -1)] == ["first run", "step 2", "at the end"]
