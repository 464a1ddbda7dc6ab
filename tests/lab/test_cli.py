"""The commands other than ``run``, and what all of them have in common."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from guests.catalogue import all_guests
from lab.cli import cli


def stage2(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


@pytest.mark.parametrize("command", ["run", "guests", "esr", "ptdump"])
def test_help_has_examples_that_name_the_command(command: str) -> None:
    result = stage2(command, "--help")
    assert result.exit_code == 0
    assert f"Examples:\n    stage2 {command}" in result.output


def test_help_tells_the_exit_statuses() -> None:
    for arguments in (("--help",), ("run", "--help")):
        output = stage2(*arguments).output
        assert all(f"\n    {status} " in output for status in ("2  ", "3  ", "130"))


def test_without_a_command_the_help_is_shown_as_a_usage_error() -> None:
    result = stage2()
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: stage2 ")


def test_an_unknown_command_is_refused_in_one_line() -> None:
    result = stage2("boot")
    assert result.exit_code == 2
    assert result.stderr == "stage2: error: No such command 'boot'; see stage2 --help\n"


def test_help_loads_neither_the_machine_nor_rich() -> None:
    code = (
        "import sys; from lab.cli import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "loaded = {'unicorn', 'rich', 'elftools', 'capstone'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.stderr == b""
    assert done.returncode == 0


def test_guests_lists_every_bundled_guest_with_its_summary() -> None:
    lines = " ".join(stage2("guests").stdout.split())
    for guest in all_guests():
        assert f"{guest.name} {guest.summary}" in lines


def test_a_guest_is_described_with_what_to_watch_and_its_options() -> None:
    text = " ".join(stage2("guests", "mmio_nisv").stdout.split())
    guest = next(guest for guest in all_guests() if guest.name == "mmio_nisv")
    assert guest.watch in text
    assert "run stage2 run mmio_nisv" in text
    assert "with --nisv" in text


def test_guests_in_json_is_a_list_or_one_object() -> None:
    listed = json.loads(stage2("guests", "--json").stdout)
    assert [entry["name"] for entry in listed] == [guest.name for guest in all_guests()]
    assert json.loads(stage2("guests", "hello", "--json").stdout) in listed


def test_an_unknown_guest_is_answered_with_the_nearest_name() -> None:
    result = stage2("guests", "heloo")
    assert result.exit_code == 2
    assert result.stderr == "stage2: error: no guest is called 'heloo'; did you mean 'hello'?\n"


def test_esr_explains_a_syndrome_in_a_sentence() -> None:
    result = stage2("esr", "0x93830047", "--far", "0x9000f00", "--hpfar", "0x90000")
    assert "tried to store 4 bytes from W3" in " ".join(result.stdout.split())


def test_esr_in_json_has_the_fields_as_numbers() -> None:
    explained = json.loads(stage2("esr", "0x93830047", "--json").stdout)
    (register,) = explained["registers"]
    assert register["value"] == 0x93830047
    assert [f["value"] for f in register["fields"] if f["name"] == "EC"] == [0x24]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("zz",), "ESR: a register value is a number such as 0x93830047, not 'zz'"),
        (("0x1", "--far", "0x1ffffffffffffffff"), "--far: a register value fits 64 bits"),
        ((), "Missing argument 'ESR'; see stage2 esr --help"),
    ],
)
def test_a_bad_register_value_is_refused_in_one_line(arguments: tuple[str, ...], text: str) -> None:
    result = stage2("esr", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"stage2: error: {text}")
    assert result.stderr.count("\n") == 1
