"""``stage2 ptdump``: on guests, on files, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from lab.cli import cli
from lab.commands.run import after_run
from lab.ptdump import FORMS, jsonfile

if TYPE_CHECKING:
    from pathlib import Path


def ptdump(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(cli, ["ptdump", *map(str, arguments)])


def dump(*arguments: object) -> Any:  # noqa: ANN401  # JSON
    result = ptdump(*arguments, "--json")
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_guest_is_printed_as_debugfs_has_it() -> None:
    result = ptdump("hello")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "---[ Guest IPA ]---",
        "0x0000000000000000-0x0000000040000000           1G 1",
        "0x0000000040000000-0x0000000040080000         512K 3",
        "0x0000000040080000-0x0000000040082000           8K 3   R W px ux  AF    ",
    ]
    assert result.stderr == ""


def test_blocks_of_the_backing_are_blocks() -> None:
    result = ptdump("hello", "--backing", "2M", "--linux", "6.18")
    assert "0x0000000040000000-0x0000000040200000           2M 2   R W x  AF BLK" in result.stdout


def test_read_only_slot_is_mapped_without_w() -> None:
    content = dump("rom_write")
    assert [slot["read_only"] for slot in content["slots"]] == [False, True]
    rom = [entry for entry in content["entries"] if entry.get("prot") and entry["ipa"] >= 1 << 28]
    assert {entry["prot"] for entry in rom if entry["ipa"] >= 0x5000_0000} == {"r--"}


@pytest.mark.parametrize("options", [(), ("--dirty-ring", 256)], ids=["bitmap", "ring"])
def test_what_is_dirty_is_writable_because_nothing_was_harvested(
    options: tuple[object, ...],
) -> None:
    content = dump("dirty_pattern", *options)
    (slot,) = (slot for slot in content["slots"] if slot["dirty"])
    written = {
        page
        for part in slot["dirty"]
        for page in range(part["ipa"], part["ipa"] + part["size"], 4096)
    }
    writable = {
        page
        for entry in content["entries"]
        if entry.get("prot") == "rw-" and entry["ipa"] >= slot["ipa"]
        for page in range(entry["ipa"], entry["ipa"] + entry["size"], 4096)
    }
    assert written == writable
    assert len(written) == 46


def test_guest_that_is_stopped_has_run_no_further() -> None:
    assert dump("dirty_pattern", "--max-insns", 500)["instructions"] == 500
    ended = after_run("dirty_pattern", ("--max-insns", "500"))
    assert (ended.instructions, ended.vmm.pe.retired) == (500, 500)


def test_every_form_is_offered() -> None:
    for linux in FORMS:
        assert ptdump("hello", "--linux", linux).exit_code == 0
    assert ptdump("hello", "--linux", "6.1").exit_code == 2


def test_tree_is_not_cut_at_the_edge() -> None:
    result = ptdump("hello", "--tree")
    assert result.stdout.startswith("hello, power_off, ")
    assert "2 x 4K page -> " in result.stdout
    assert "…" not in result.stdout
    assert all(line == line.rstrip() for line in result.stdout.splitlines())


def test_saved_dump_is_shown_like_the_guest(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    saved = ptdump("hello", "--save", file)
    assert (saved.exit_code, saved.stdout) == (0, "")
    for options in ((), ("--tree",), ("--json",)):
        assert ptdump(file, *options).stdout == ptdump("hello", *options).stdout
    assert file.read_text() == jsonfile.text(jsonfile.read(file))


def test_page_is_written(tmp_path: Path) -> None:
    file = tmp_path / "map.html"
    result = ptdump("hello", "--html", file)
    assert (result.exit_code, result.stdout) == (0, "")
    assert file.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_diff_has_status_1_if_tables_differ(tmp_path: Path) -> None:
    old, new = tmp_path / "a.json", tmp_path / "b.json"
    ptdump("dirty_pattern", "--max-insns", 1500, "--save", old)
    ptdump("dirty_pattern", "--save", new)
    same = ptdump("--diff", old, old)
    assert (same.exit_code, same.stdout) == (0, "")
    result = ptdump("--diff", old, new)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"--- {old}  dirty_pattern, budget, 1,500 instructions: ")
    assert lines[1].startswith(f"+++ {new}  dirty_pattern, power_off, ")
    assert lines[2].startswith("+ 0x5006_d000-0x5006_f000     8K  4K rw- pa 0x8_")
    assert lines[-1] == "76K mapped, 0 bytes unmapped, 0 bytes changed"
    found = json.loads(ptdump("--diff", old, new, "--json").stdout)
    assert [(one["change"], one["ipa"], one["size"]) for one in found] == [
        ("mapped", 0x5006_D000, 0x2000),
        ("mapped", 0x5006_F000, 0x11000),
    ]


def test_bad_input_has_one_line(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("{}")
    dump_file = tmp_path / "a.json"
    ptdump("hello", "--save", dump_file)
    for arguments, said in (
        (("nobody",), "no guest is called 'nobody'"),
        ((), "name a guest or a dump, or give --diff two dumps"),
        ((other,), "is no dump of page tables"),
        ((tmp_path / "no.json",), "cannot be read"),
        ((dump_file, "--mem", "1M"), "--mem is for a guest"),
        (("hello", "--mme", "1M"), "No such option"),
        (("--diff", dump_file, other), "is no dump of page tables"),
        (("hello", "--diff", dump_file, dump_file), "hello is one too many"),
        (("hello", "--save", tmp_path), "--save"),
        (("hello", "--html", tmp_path / "no" / "map.html"), "--html: cannot write"),
    ):
        result = ptdump(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.startswith("stage2: error: ")
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
