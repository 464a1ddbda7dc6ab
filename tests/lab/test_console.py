import pytest

from lab.console import Console


def test_what_is_printed_reaches_the_sink_at_once_and_is_kept() -> None:
    seen: list[bytes] = []
    console = Console(seen.append)
    console.write(b"a")
    console.write(b"b\n")
    assert seen == [b"a", b"b\n"]
    assert console.text == "ab\n"


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    console = Console()
    console.write(b"\xff!")
    assert console.text == "\ufffd!"


@pytest.mark.parametrize(
    ("printed", "status"),
    [
        (b"PASS\n", None),
        (b"EXIT: STATUS=1\n", 0),
        (b"EXIT: STATUS=3\n", 1),
        (b"some\r\nEXIT: STATUS=127\r\n", 63),
        (b"EXIT: STATUS=3\nEXIT: STATUS=1\n", 0),
        (b"not EXIT: STATUS=3\n", None),
        (b"EXIT: STATUS=-1\n", None),
    ],
)
def test_a_status_line_is_an_exit_code_shifted_left(printed: bytes, status: int | None) -> None:
    console = Console()
    console.write(printed)
    assert console.status == status
