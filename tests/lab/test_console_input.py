"""Runs with input: scripts, files, and a terminal."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from emu.arch.address import IPA
from lab.cli import cli
from lab.commands.run import configuration
from lab.config import RunConfig
from lab.errors import UserError
from lab.loader import Image, ImageKind, Segment
from lab.monitor import EndReason
from lab.script import Script, Verb, parse_script
from lab.target import Target
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[..., Path]

START = IPA(0x4008_0000)
ECHO = (
    0xD2A12001,  # mov x1, #0x09000000
    0xB9401823,  # ldr w3, [x1, #0x18]
    0x3727FFE3,  # tbnz w3, #4, .-4
    0xB9400022,  # ldr w2, [x1]
    0x39000022,  # strb w2, [x1]
    0x7101C45F,  # cmp w2, #'q'
    0x54FFFF61,  # b.ne .-20
    0xD2800100,  # mov x0, #8
    0xF2B08000,  # movk x0, #0x8400, lsl #16
    0xD4000002,  # hvc #0
)
"""Sends back what it is sent, until that is a q."""

X = (0xD2A12001, 0x52800F02, 0x39000022)
"""Prints x: mov x1, #0x09000000; mov w2, #'x'; strb w2, [x1]."""

PROMPT_AND_ECHO = (*X, *ECHO[1:])
X_AND_LOOP = (*X, 0x14000000)
X_AND_WAIT = (*X, 0xD503207F, 0x17FFFFFF)

WAIT_FIRST = (0xD503207F, *ECHO)
"""The same behind a WFI."""


def image(words: tuple[int, ...]) -> Image:
    code = struct.pack(f"<{len(words)}I", *words)
    return Image((Segment(START, code, len(code)),), START, ImageKind.FLAT)


def run(text: str, words: tuple[int, ...] = ECHO, max_insns: int = 100_000) -> Vmm:
    script = Script(parse_script(text, "s"))
    return Vmm(RunConfig(max_insns=max_insns), image(words), inputs=[script])


def stage2(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


# -- scripts


def test_a_script_talks_with_the_guest() -> None:
    result = run('send "ab"\nexpect "b"\nsend "cq"').run("t")
    assert (result.console, result.exit_code, result.unmet) == ("abcq", 0, "")


def test_what_is_expected_is_answered_before_the_guest_runs_on() -> None:
    polled = run('at 1000\nsend "a"\nexpect "a"\nsend "q"').run("t").instructions
    at_once = run('at 1000\nsend "aq"').run("t").instructions
    assert polled == at_once


def test_a_time_is_met_to_the_instruction() -> None:
    lengths = {n: run(f'at {n}\nsend "q"').run("t").instructions for n in (1000, 1001, 1002, 1003)}
    assert sorted(lengths.values()) == list(lengths.values())
    assert lengths[1003] - lengths[1000] in {2, 3, 4}


def test_a_look_is_met_to_the_instruction() -> None:
    lengths = [run(f'look {n}\nsend "q"').run("t").instructions for n in (1, 2, 100)]
    assert [length - lengths[0] for length in lengths] == [0, 1, 99]


def test_equal_scripts_make_equal_runs() -> None:
    text = 'at 777\nsend "hello"\nexpect "llo"\nat 1333\nsend "q"'
    first, second = run(text).run("t"), run(text).run("t")
    assert first == second
    assert 1333 < first.instructions < 1350


def test_a_guest_that_ends_before_the_script_makes_the_run_fail() -> None:
    result = run('send "q"\nexpect "more"').run("t")
    assert result.end.reason is EndReason.POWER_OFF
    assert result.unmet == 's line 2: the guest has not come to expect "more"'
    assert result.exit_code == 3


def test_a_script_can_end_a_run_that_would_not_end() -> None:
    result = run('send "a"\nexpect "a"\nend').run("t")
    assert result.end.reason is EndReason.LEFT
    assert result.end.detail == "s line 3: the script ends the run"
    assert (result.exit_code, result.crash, result.instructions < 20) == (0, None, True)


def test_a_run_can_be_over_before_it_begins() -> None:
    result = run("end").run("t")
    assert (result.end.reason, result.instructions) == (EndReason.LEFT, 0)


def test_what_was_sent_is_sent_again_for_the_report_of_a_crash() -> None:
    udf = (*ECHO[:7], 0)
    result = run('send "ab"\nat 1500\nsend "q"', udf).run("t")
    assert result.console == "abq"
    assert result.crash is not None
    assert result.crash.pc == START + 4 * 7
    assert result.crash.steps[-2].pc == START + 4 * 6


def test_a_guest_that_waits_for_ever_is_waited_with_for_input_if_some_comes() -> None:
    assert run('send "q"', WAIT_FIRST).run("t").end.reason is EndReason.IDLE
    assert run('expect "x"', WAIT_FIRST).run("t").unmet.endswith('expect "x"')


# -- the command line


def test_options_for_scripts_and_files(program: Program, tmp_path: Path) -> None:
    script, contents = tmp_path / "script", tmp_path / "contents"
    script.write_text('expect "b"\nsend "q"\n')
    contents.write_bytes(b"ab")
    arguments = ("run", program(*ECHO), "--script", script, "--input", contents, "--json")
    outcome = json.loads(stage2(*arguments).stdout)
    assert (outcome["console"], outcome["exit_code"], outcome["unmet"]) == ("abq", 0, "")


def test_traces_of_equal_sessions_are_equal(program: Program, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('at 123\nsend "ab"\nexpect "b"\nsend "q"\n')
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for file in files:
        path = program(*ECHO)
        assert stage2("run", path, "--script", script, "--trace-file", file, "-q").exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_a_script_waited_for_in_vain_is_said(program: Program, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('send "q"\nexpect "login: "\n')
    text = f'{script} line 2: the guest has not come to expect "login: "'
    quiet = stage2("run", program(*ECHO), "--script", script, "--quiet")
    assert (quiet.exit_code, quiet.stderr) == (3, f"stage2: {text}\n")
    summary = stage2("run", program(*ECHO), "--script", script).stderr
    assert " ".join(text.split()[1:]) in " ".join(summary.split())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--script", "/no/file"), "--script: cannot read /no/file: No such file or directory"),
        (("--input", "/no/file"), "--input: cannot read /no/file: No such file or directory"),
        (("--record", "x"), "--record writes down what is typed; add --console"),
        (("--console", "--record", "/no/dir/x"), "--record: cannot write /no/dir/x: No such file"),
    ],
)
def test_impossible_input_is_refused_in_one_line(
    program: Program, options: tuple[str, ...], text: str
) -> None:
    command = [sys.executable, "-m", "lab.cli", "run", str(program(*ECHO)), *options]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"stage2: error: {text}")
    assert done.stderr.count("\n") == 1


def test_tables_can_be_dumped_after_a_script(program: Program, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('send "abcq"\n')
    result = stage2("ptdump", program(*ECHO), "--script", script, "--max-insns", "10K")
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("option", ["--console", "--script", "--input"])
def test_a_comparison_with_kvm_refuses_input(tmp_path: Path, option: str) -> None:
    target = Target("hello", tmp_path / "hello")
    given = (option,) if option == "--console" else (option, str(tmp_path))
    with pytest.raises(UserError) as caught:
        configuration(target, given)
    assert str(caught.value) == f"{option} is for a run here alone; leave it out"


# -- a terminal


class Session:
    """``stage2 run`` with standard input and output on a pseudo-terminal."""

    def __init__(self, *arguments: str | Path) -> None:
        self.keys, screen = pty.openpty()
        self.screen = screen
        self.before = termios.tcgetattr(screen)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lab.cli", "run", *map(str, arguments), "--quiet"],
            stdin=screen,
            stdout=screen,
            stderr=subprocess.PIPE,
        )
        self.seen = b""

    def read_until(self, text: bytes) -> None:
        while text not in self.seen:
            assert select.select([self.keys], [], [], 60)[0], self.seen
            self.seen += os.read(self.keys, 1000)

    def type(self, keys: bytes) -> None:
        os.write(self.keys, keys)

    def end(self) -> tuple[int, bytes]:
        """Return the exit status and what stood on standard error; check the terminal."""
        _, errors = self.process.communicate(timeout=60)
        assert termios.tcgetattr(self.screen) == self.before
        os.close(self.keys)
        os.close(self.screen)
        return self.process.returncode, errors


FOR_EVER = ("--max-insns", "100G")


def test_keys_go_to_the_guest_and_ctrl_c_with_them(program: Program) -> None:
    session = Session(program(*PROMPT_AND_ECHO), "--console", *FOR_EVER)
    session.read_until(b"x")
    session.type(b"\x03z")
    session.read_until(b"\x03z")
    session.type(b"q")
    assert session.end() == (0, b"")


def test_ctrl_a_x_leaves_a_guest_that_does_not_end(program: Program) -> None:
    session = Session(program(*X_AND_LOOP), "--console", *FOR_EVER)
    session.read_until(b"x")
    session.type(b"\x01x")
    assert session.end() == (0, b"")


def test_a_guest_that_waits_is_left_with_ctrl_a_x_too(program: Program) -> None:
    session = Session(program(*X_AND_WAIT), "--console", *FOR_EVER)
    session.read_until(b"x")
    session.type(b"\x01x")
    assert session.end() == (0, b"")


def test_what_was_typed_can_be_recorded_and_done_again(program: Program, tmp_path: Path) -> None:
    record = tmp_path / "record"
    session = Session(program(*PROMPT_AND_ECHO), "--console", "--record", record, *FOR_EVER)
    session.read_until(b"x")
    session.type(b"abq")
    assert session.end() == (0, b"")
    steps = parse_script(record.read_text(), "r")
    assert b"".join(step.text for step in steps) == b"abq"
    assert steps[0].verb is Verb.EVERY
    assert steps[1].verb in {Verb.AT, Verb.LOOK}
    again = json.loads(
        stage2("run", program(*PROMPT_AND_ECHO), "--script", record, "--json").stdout
    )
    assert (again["console"], again["unmet"]) == ("xabq", "")


def test_an_external_sigint_ends_the_session_and_restores_the_terminal(program: Program) -> None:
    session = Session(program(*X_AND_LOOP), "--console", *FOR_EVER)
    session.read_until(b"x")
    session.process.send_signal(signal.SIGINT)
    status, errors = session.end()
    assert (status, errors.count(b"\n")) == (130, 1)


def test_a_terminal_that_goes_away_ends_the_session_in_one_line(program: Program) -> None:
    session = Session(program(*X_AND_LOOP), "--console", *FOR_EVER)
    session.read_until(b"x")
    os.close(session.screen)
    os.close(session.keys)
    _, errors = session.process.communicate(timeout=60)
    assert session.process.returncode == 130
    assert errors == b"stage2: program.bin interrupted: the terminal has been closed\n"


def test_ctrl_c_ends_a_guest_that_waits_for_a_pipe(program: Program) -> None:
    command = [sys.executable, "-m", "lab.cli", "run", str(program(*X_AND_WAIT)), "--console", "-q"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"x"
        process.send_signal(signal.SIGINT)
        # The pipe stays open: communicate() would close it, and so end the wait.
        assert process.wait(timeout=60) == 130


def test_a_pipe_can_be_the_console(program: Program) -> None:
    command = [sys.executable, "-m", "lab.cli", "run", str(program(*ECHO)), "--console", "-q"]
    done = subprocess.run(command, input=b"hello q", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello q", b"")


def test_ctrl_c_without_console_loses_nothing_that_was_printed(program: Program) -> None:
    # There is no line feed, so that the text is still held back when Ctrl-C comes.
    command = [sys.executable, "-m", "lab.cli", "run", str(program(*X_AND_LOOP)), *FOR_EVER]
    with subprocess.Popen(
        [*command, "--trace"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        while b"kvm_mmio: mmio write" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, b"x")
