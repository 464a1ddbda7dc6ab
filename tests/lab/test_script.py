"""Scripts: reading them, and doing them in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lab.errors import UserError
from lab.inputs import Inputs, Port
from lab.script import Script, Step, Verb, parse_script, quoted, read_script

if TYPE_CHECKING:
    from pathlib import Path

    from lab.monitor import End


class Console:
    """A UART and a run, as a script sees them."""

    def __init__(self, text: str) -> None:
        self.now = 0
        self.got = bytearray()
        self.breaks = 0
        self.ends: list[End] = []
        self.script = Script(parse_script(text, "s"))
        self.inputs = Inputs([self.script])
        port = Port(self, lambda: self.now, self.ends.append, lambda: bool(self.ends))
        self.inputs.connect(port)

    def receive(self, data: bytes) -> None:
        self.got += data

    def receive_break(self) -> None:
        self.breaks += 1


def refusal(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_script(text, "s")
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- reading


def test_a_script_is_steps_with_their_places() -> None:
    assert parse_script('# log in\n\nexpect "login: "\n  send "root\\n"  \nat 1_000\nend', "s") == (
        Step(Verb.EXPECT, text=b"login: ", place="s line 3"),
        Step(Verb.SEND, text=b"root\n", place="s line 4"),
        Step(Verb.AT, number=1000, place="s line 5"),
        Step(Verb.END, place="s line 6"),
    )


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r'"\n\r\t\0\e\\\""', b'\n\r\t\0\x1b\\"'),
        (r'"\x00\xfFx"', b"\x00\xffx"),
        ('"ä"', "ä".encode()),
        ('"# no comment"', b"# no comment"),
    ],
)
def test_text_has_escapes(text: str, content: bytes) -> None:
    (step,) = parse_script(f"send {text}", "s")
    assert step.text == content


def test_every_step_is_written_as_it_is_read() -> None:
    text = 'expect "a\\\\b"\nevery 9\nat 5\nlook 7\nidle\nsend "\\x80\\"\\e"\nbreak\nend'
    steps = parse_script(text, "s")
    assert "\n".join(map(str, steps)) == text
    assert all(
        parse_script(f"send {quoted(bytes([n]))}", "s")[0].text == bytes([n]) for n in range(256)
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("sned x", 's line 1: \'sned\' is no step; a step is expect "TEXT", send "TEXT", at N,'),
        ("send root", 's line 1: write it as send "TEXT"'),
        ('send "a', 's line 1: write it as send "TEXT"'),
        ('expect ""', 's line 1: write it as expect "TEXT"'),
        (r'send "\q"', 's line 1: write it as send "TEXT"'),
        (r'send "\x1"', 's line 1: write it as send "TEXT"'),
        ('send "a" "b"', 's line 1: write it as send "TEXT"'),
        ("at noon", "s line 1: write it as at N, a number of instructions"),
        ("every 0", "s line 1: write it as every N, a number of instructions"),
        ("look", "s line 1: write it as look N, a number of looks"),
        ("end now", "s line 1: nothing follows end, not 'now'"),
        ("expect", 's line 1: write it as expect "TEXT"'),
    ],
)
def test_a_line_that_is_no_step_is_refused(line: str, text: str) -> None:
    assert refusal(line).startswith(text)


def test_a_script_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--script: cannot read .*: No such file"):
        read_script(tmp_path / "none")
    path = tmp_path / "binary"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        read_script(path)
    path.write_text('send "a"')
    assert read_script(path)[0].place == f"{path} line 1"


# -- doing


def test_what_waits_for_nothing_is_sent_before_the_guest_starts() -> None:
    console = Console('send "a"\nbreak\nsend "b"\nexpect "x"\nsend "c"')
    assert (bytes(console.got), console.breaks) == (b"ab", 1)


def test_an_expectation_is_met_at_its_last_byte() -> None:
    console = Console('expect "login: "\nsend "root"')
    for byte in b"login:":
        console.inputs.printed(bytes([byte]))
    assert console.got == b""
    console.inputs.printed(b" ")
    assert console.got == b"root"


def test_an_expectation_is_met_by_what_comes_behind_the_last_one() -> None:
    console = Console('expect "aa"\nsend "1"\nexpect "ab"\nsend "2"')
    console.inputs.printed(b"xaa")
    assert console.got == b"1"
    console.inputs.printed(b"b")
    assert console.got == b"1"
    console.inputs.printed(b"aab")
    assert console.got == b"12"


def test_an_expectation_that_begins_like_itself_is_found() -> None:
    console = Console('expect "aab"\nsend "1"')
    console.inputs.printed(b"aaab")
    assert console.got == b"1"


def test_several_expectations_can_be_met_by_one_output() -> None:
    console = Console('expect "a"\nsend "1"\nexpect "b"\nsend "2"')
    console.inputs.printed(b"ab")
    assert console.got == b"12"


def test_a_time_is_waited_for() -> None:
    console = Console('at 500\nsend "a"\nat 700\nsend "b"')
    assert console.inputs.due == 500
    console.now = 500
    console.inputs.act()
    assert (bytes(console.got), console.inputs.due) == (b"a", 700)
    console.now = 700
    console.inputs.act()
    assert console.got == b"ab"
    assert console.inputs.due is None


def test_a_time_behind_an_expectation_is_stopped_at_even_before_that_is_met() -> None:
    console = Console('expect "x"\nat 500\nsend "a"\nat 100\nsend "b"')
    assert console.inputs.due == 100
    console.now = 100
    console.inputs.act()
    assert (bytes(console.got), console.inputs.due) == (b"", 500)
    console.now = 200
    console.inputs.printed(b"x")
    assert console.got == b""
    console.now = 500
    console.inputs.act()
    assert console.got == b"ab"
    assert console.inputs.due is None


def test_a_time_that_has_passed_is_not_waited_for() -> None:
    console = Console('expect "x"\nat 500\nsend "a"')
    console.now = 500
    console.inputs.act()
    console.now = 600
    console.inputs.printed(b"x")
    assert console.got == b"a"


def test_the_run_can_be_cut_at_multiples_too() -> None:
    console = Console('every 200\nat 500\nsend "a"')
    cuts: list[int] = []
    while len(cuts) < 5:
        assert console.inputs.due is not None
        console.now = console.inputs.due
        cuts.append(console.now)
        console.inputs.act()
    assert cuts == [200, 400, 500, 600, 800]
    assert console.got == b"a"


def test_a_number_of_looks_is_waited_for() -> None:
    console = Console('look 2\nsend "a"\nlook 2\nsend "b"\nlook 9\nsend "c"')
    console.inputs.looked()
    assert console.got == b""
    console.inputs.looked()
    assert console.got == b"a"
    console.inputs.looked()
    assert console.got == b"ab"


def test_idle_waits_for_the_guest_to_wait() -> None:
    console = Console('idle\nsend "a"\nidle\nsend "b"')
    assert console.inputs.wait()
    assert console.got == b"a"
    assert console.inputs.wait()
    assert not console.inputs.wait()
    assert console.got == b"ab"


def test_a_script_that_waits_for_output_ends_no_wait_of_the_guest() -> None:
    assert not Console('expect "x"').inputs.wait()


def test_a_script_can_end_the_run() -> None:
    console = Console('expect "x"\nend')
    console.inputs.printed(b"x")
    assert [end.detail for end in console.ends] == ["s line 2: the script ends the run"]


def test_what_the_guest_has_not_come_to_is_named() -> None:
    console = Console('expect "a"\nexpect "b"')
    assert console.inputs.unfinished() == 's line 1: the guest has not come to expect "a"'
    console.inputs.printed(b"a")
    assert console.inputs.unfinished() == 's line 2: the guest has not come to expect "b"'
    console.inputs.printed(b"b")
    assert console.inputs.unfinished() == ""


def test_again_it_starts_at_the_beginning() -> None:
    console = Console('expect "a"\nsend "1"')
    console.inputs.printed(b"a")
    (again,) = console.inputs.again()
    again.connect(Port(console, lambda: 0, console.ends.append, lambda: False))
    again.printed(b"a")
    assert console.got == b"11"


def test_two_scripts_are_done_side_by_side() -> None:
    console = Console('expect "a"\nsend "1"\nat 5\nsend "3"')
    second = Script(parse_script('expect "a"\nsend "2"\nat 4\nsend "4"', "t"))
    inputs = Inputs([console.script, second])
    second.connect(Port(console, lambda: console.now, console.ends.append, lambda: False))
    inputs.printed(b"a")
    assert inputs.due == 4
    console.now = 4
    inputs.act()
    assert inputs.due == 5
    console.now = 5
    inputs.act()
    assert console.got == b"1243"


def test_nothing_is_sent_any_more_once_the_console_is_closed() -> None:
    console = Console('expect "a"\nsend "1"')
    console.inputs.close()
    console.inputs.printed(b"a")
    assert console.got == b""
    assert console.inputs.due is None
    assert not console.inputs.wait()
