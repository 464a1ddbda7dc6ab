"""``stage2 run`` with snapshots."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lab.cli import cli
from lab.console import Console

if TYPE_CHECKING:
    from click.testing import Result


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["run", *arguments], catch_exceptions=False)


def refusal(*arguments: str) -> str:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_restored_run_ends_as_the_first_one_did() -> None:
    first = json.loads(run("timer_irq", "--json", "--snapshot-at", "3K,1000").stdout)
    assert sorted(path.name for path in Path().iterdir()) == [
        "timer_irq-1000.snapshot",
        "timer_irq-3000.snapshot",
    ]
    for moment in (1000, 3000):
        name = f"timer_irq-{moment}.snapshot"
        second = json.loads(run("timer_irq", "--json", "--restore", name).stdout)
        assert second["console"] == first["console"]
        assert second["instructions"] == first["instructions"]
        assert second["end"] == first["end"]
        assert second["traps"] == first["traps"]


def test_the_console_of_before_comes_first() -> None:
    whole = run("el0", "-q").stdout
    run("el0", "-q", "--snapshot-at", "5000", "--snapshot-file", "half")
    assert run("el0", "-q", "--restore", "half").stdout == whole


def test_one_moment_has_the_name_of_the_file_several_add_theirs() -> None:
    run("hello", "-q", "--snapshot-at", "30", "--snapshot-file", "a.b")
    run("hello", "-q", "--snapshot-at", "30,40", "--snapshot-file", "c.d")
    assert sorted(path.name for path in Path().iterdir()) == ["a.b", "c-30.d", "c-40.d"]


def test_a_restored_run_is_snapshot_again() -> None:
    run("hello", "-q", "--snapshot-at", "30,400")
    first = Path("hello-400.snapshot").read_bytes()
    run("hello", "-q", "--restore", "hello-30.snapshot", "--snapshot-at", "400")
    assert Path("hello-400.snapshot").read_bytes()[:18] == first[:18]
    assert run("hello", "-q", "--restore", "hello-400.snapshot").exit_code == 0


def test_a_moment_that_does_not_come_is_said() -> None:
    result = run("hello", "-q", "--snapshot-at", "9K")
    assert result.stderr == "stage2: no snapshot at 9000: the guest ended before that\n"
    assert not list(Path().iterdir())


def test_a_run_with_a_disk_that_it_writes_has_no_snapshots() -> None:
    Path("disk").write_bytes(bytes(512))
    words = refusal("hello", "--drive", "file=disk", "--snapshot-at", "9")
    assert "add cow or ro to --drive" in words
    result = run("hello", "-q", "--drive", "file=disk,cow", "--snapshot-at", "9")
    assert result.exit_code == 0
    Path("disk").write_bytes(bytes(1024))
    words = refusal("hello", "--drive", "file=disk,cow", "--restore", "hello-9.snapshot")
    assert "the file had 512 bytes" in words or "another" in words


def test_mistakes_are_one_line() -> None:
    run("hello", "-q", "--snapshot-at", "300")
    name = "hello-300.snapshot"
    assert "has passed: hello-300.snapshot begins at 300" in refusal(
        "hello", "--restore", name, "--snapshot-at", "10"
    )
    assert "say when with --snapshot-at" in refusal("hello", "--snapshot-file", "x")
    assert "another --seed: 0, not 5" in refusal("hello", "--restore", name, "--seed", "5")
    assert "of another guest" in refusal("el0", "--restore", name)
    assert "No such file" in refusal("hello", "--restore", "none")
    assert "not 'x'" in refusal("hello", "--snapshot-at", "5,x")
    Path(name).write_bytes(Path(name).read_bytes()[:-1])
    assert "damaged or cut off" in refusal("hello", "--restore", name)


def test_a_console_that_nobody_watches_repeats_nothing() -> None:
    console = Console()
    console.write(b"x")
    console.repeat()
    assert console.text == "x"
