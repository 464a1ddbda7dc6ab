"""``stage2 walk``: on a guest, on a description, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from lab.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

VA = "0x80000000"


def walk(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(cli, ["walk", *map(str, arguments)])


def test_walk_of_a_guest_shows_every_lookup_and_the_address() -> None:
    result = walk("nested_walk", VA)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "EL1: read from VA 0x8000_0000"
    steps = [line.split()[0:2] for line in lines[2:] if line.lstrip().startswith("S")]
    nested = [["S2", "L1"], ["S2", "L2"], ["S2", "L3"]]
    assert steps == [
        *nested, ["S1", "L1"], *nested, ["S1", "L2"], *nested, ["S1", "L3"], *nested,
    ]  # fmt: skip
    assert lines[-1].endswith("Normal memory, EL0 ---, EL1 rw-")


def test_refused_access_says_why_and_has_status_1() -> None:
    result = walk("nested_walk", VA, "--access", "fetch")
    assert result.exit_code == 1
    assert "stage 1 permission fault at level 3. EL1 may not fetch from it" in result.stdout


def test_guest_is_stopped_where_asked_and_stage_1_is_still_off() -> None:
    result = walk("hello", "0x40080000", "--max-insns", 10)
    assert "Stage 1 is off: the VA is the IPA." in result.stdout


def test_saved_walk_is_the_same_again(tmp_path: Path) -> None:
    file = tmp_path / "tables.toml"
    live = walk("nested_walk", VA, "--json", "--save", file)
    again = walk(file, VA, "--json")
    assert json.loads(live.stdout)["pa"] is not None
    assert again.stdout == live.stdout
    file2 = tmp_path / "again.toml"
    walk(file, VA, "--save", file2)
    assert file2.read_text() == file.read_text()


def test_json_holds_the_fault(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text("[registers]\nSCTLR_EL1 = 1\nTCR_EL1 = 25\n")
    result = walk(file, 0, "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["fault"] == {
        "stage": 1, "level": 1, "type": "translation fault", "status": 5, "s1ptw": False,
    }  # fmt: skip
    assert found["stage1"][0]["kind"] == "invalid"


def test_updates_by_hardware_are_foretold(tmp_path: Path) -> None:
    file = tmp_path / "update.toml"
    file.write_text(
        "[registers]\nSCTLR_EL1 = 1\nTCR_EL1 = 0x8000000019\nTTBR0_EL1 = 0x1000\n"
        "[memory]\n0x1000 = 0x40000001\n"
    )
    result = walk(file, 0)
    assert "Hardware would change the descriptor at PA 0x0000_1000" in result.stdout
    assert "Stage 2 is off: the IPA is the PA." in result.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "is not TOML"),
        ("cpu = 1", "unknown key 'cpu'; the keys are profile, registers, memory"),
        ('profile = "x"', "profile: no profile and no file is called 'x'"),
        ("profile = 1", "profile: "),
        ("registers = 1", "registers is a table"),
        ("[registers]\nVBAR_EL1 = 1", "'VBAR_EL1' does not take part in a translation"),
        ("[registers]\nTCR_EL1 = -1", "TCR_EL1 is a number of 64 bits"),
        ("[memory]\n0x1001 = 1", "an address is a multiple of 8 such as 0x40085008, not '0x1001'"),
        ("[memory]\nx = 1", "not 'x'"),
        ('[memory]\n0x1000 = "1"', "memory: 0x1000 is a number of 64 bits"),
    ],
)
def test_bad_description_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    result = walk(file, 0)
    assert result.exit_code == 2
    assert said in result.stderr


def test_bad_input_has_one_line(tmp_path: Path) -> None:
    for arguments, said in (
        (("hello", "here"), "VA is a number of 64 bits"),
        (("nobody", "0"), "no guest is called 'nobody'"),
        (("hello", "0", "--mme", "1M"), "No such option"),
        ((tmp_path / "no.toml", "0"), "cannot be read"),
        ((tmp_path / "no.toml", "0", "--mem", "1M"), "--mem is for a guest"),
        (("hello", "0", "--save", tmp_path), "--save"),
    ):
        result = walk(*arguments)
        assert result.exit_code == 2
        assert said in result.stderr
