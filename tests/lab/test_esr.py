"""Showing the explanation of a syndrome."""

import io
import json

import pytest
from rich.console import Console

from lab.esr import as_json, parse_register_value, render


def shown(esr: int, far: int | None = None, hpfar: int | None = None, width: int = 80) -> str:
    """Return what is printed on a terminal without colours, without trailing spaces."""
    out = io.StringIO()
    render(esr, far, hpfar, Console(file=out, width=width, color_system=None))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


DESCRIBED_STORE = """\
ESR_EL2 0x0000_0000_9383_0047 ──────────────────────────────────────────────────
EC       [31:26]  0x24        DABT_LOW: data abort, lower EL
IL          [25]  1           32-bit instruction
ISS       [24:0]  0x183_0047
  ISV       [24]  1           SAS, SSE, SRT, SF and AR are valid
  SAS    [23:22]  0x2         word, 4 bytes
  SSE       [21]  0           not sign-extended
  SRT    [20:16]  0x3         register 3
  SF        [15]  0           32-bit register
  AR        [14]  0           no acquire or release
  VNCR      [13]  0           not by VNCR_EL2
  LST    [12:11]  0x0         not an LS64 instruction
  FnV       [10]  0           FAR is valid
  EA         [9]  0
  CM         [8]  0           not cache maintenance
  S1PTW      [7]  0           not on a stage 1 walk
  WnR        [6]  1           write
  DFSC     [5:0]  0x7         translation fault at level 3

FAR_EL2 0xffff_8000_1234_5678 ──────────────────────────────────────────────────

HPFAR_EL2 0x0000_0000_0040_0010 ────────────────────────────────────────────────
NS          [63]  0
FIPA      [47:4]  0x4_0001    page at IPA 0x4000_1000

A guest at EL1 or EL0 tried to store 4 bytes from W3: stage 2 translation fault
at level 3; VA 0xffff_8000_1234_5678, IPA 0x4000_1678."""


def test_abort_with_all_its_registers() -> None:
    assert shown(0x9383_0047, 0xFFFF_8000_1234_5678, 0x40_0010) == DESCRIBED_STORE


def test_notes_and_warnings_follow_the_sentence_and_wrap_under_themselves() -> None:
    assert shown(0x92C0_0007).splitlines()[-5:] == [
        "A guest at EL1 or EL0 tried to read from memory: stage 2 translation fault at",
        "level 3.",
        "note: Stage 2 is assumed. With HCR_EL2.TGE = 1, a stage 1 fault of EL0 gives the",
        "      same ESR_EL2.",
        "warning: bits that are RES0 for this class when ISV is 0 are set: [23:22]",
    ]


def test_values_are_not_taken_for_markup() -> None:
    assert "[24:0]" in shown(0)


@pytest.mark.parametrize("ec", range(64))
def test_every_class_keeps_its_columns_at_80(ec: int) -> None:
    for iss in (0, 0x155_5555, 0x1FF_FFFF, 1 << 24 | 0x11):
        table, _, _ = shown(0xFFF << 32 | ec << 26 | iss).partition("\n\n")
        title, *rows = table.splitlines()
        assert title.startswith("ESR_EL2 0x")
        meaning_column = rows[0].index("[55:32]") + len("[55:32]") + 2 + len("0x000_0000") + 2
        for row in rows:
            assert len(row) <= 80
            name, span, value, *_ = row[:meaning_column].split() or ("", "[]", "0x0")
            assert name.isidentifier() or not row[:meaning_column].strip()
            assert span.startswith("[")
            assert int(value, 0) >= 0


def test_json_has_the_same_content_and_survives_json() -> None:
    value = as_json(0x9383_0047, None, 0x40_0010)
    assert json.loads(json.dumps(value)) == value
    esr, hpfar = value["registers"]
    assert (esr["name"], esr["value"], hpfar["name"]) == ("ESR_EL2", 0x9383_0047, "HPFAR_EL2")
    iss = esr["fields"][2]
    assert iss["name"] == "ISS"
    assert iss["fields"][-1] == {
        "name": "DFSC",
        "msb": 5,
        "lsb": 0,
        "value": 7,
        "meaning": "translation fault at level 3",
    }
    assert value["sentence"].endswith("IPA 0x4000_1000.")
    assert (value["notes"], value["warnings"]) == ([], [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x93830047", 0x9383_0047),
        ("0X9383_0047", 0x9383_0047),
        (" 0x0 ", 0),
        ("0", 0),
        ("2474836039", 0x9383_0047),
        ("1_000", 1000),
        ("0xffff_ffff_ffff_ffff", (1 << 64) - 1),
    ],
)
def test_register_values_are_read(text: str, value: int) -> None:
    assert parse_register_value(text) == value


@pytest.mark.parametrize("text", ["", "0x", "esr", "-1", "0o17", "1K", "0x1__0", "0x10_", "٣"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"a number such as 0x93830047, not '{text}'$"):
        parse_register_value(text)


@pytest.mark.parametrize("text", ["9383004f", "0093830047", "deadbeef"])
def test_hexadecimal_without_its_prefix_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ValueError, match=rf"not '{text}'; did you mean 0x{text}\?$"):
        parse_register_value(text)


@pytest.mark.parametrize("text", ["0x1_0000_0000_0000_0000", "18446744073709551616"])
def test_value_beyond_64_bits_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"fits 64 bits .*, {text} does not$"):
        parse_register_value(text)
