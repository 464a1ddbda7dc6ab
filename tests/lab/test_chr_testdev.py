"""The host's end of the test device of kvm-unit-tests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyp.devices.virtio import VirtioConsole
from hyp.devices.virtio.registers import Register
from lab.chr_testdev import ChrTestdev
from tests.hyp.devices.virtio.driver import BUFFERS, PAGE, Driver


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"0q", 0),
        (b"1q", 1),
        (b"127q", 127),
        (b"q", 0),
        (b" 12 q", 12),
        (b"\n12\n q\n", 12),
        (b"3x4q", 4),
        (b"1 2q", 0),
        (b"1q2q", 1),
        (b"12", None),
        (b"12 ", None),
        (b"", None),
        (b"xyz\xff", None),
        (b"-1q", 1),
    ],
)
def test_the_first_quit_gives_the_code_however_it_is_cut(sent: bytes, code: int | None) -> None:
    whole, piecewise = ChrTestdev(), ChrTestdev()
    whole(sent)
    for byte in sent:
        piecewise(bytes([byte]))
    assert whole.code == piecewise.code == code


@given(st.lists(st.binary(max_size=40)))
def test_nothing_that_is_sent_raises_or_piles_up(pieces: list[bytes]) -> None:
    device = ChrTestdev()
    for piece in pieces:
        device(piece)
        assert len(device._pending) <= 32


def test_many_digits_are_no_command_and_do_not_hide_the_next_one() -> None:
    device = ChrTestdev()
    device(b"9" * 10_000)
    assert device.code is None
    device(b"x5q")
    assert device.code == 5


def test_the_test_device_of_kvm_unit_tests_is_behind_the_output() -> None:
    """A legacy driver that writes no status and waits for the used ring."""
    host = ChrTestdev()
    driver = Driver.of(VirtioConsole(host))
    driver.write(Register.GUEST_PAGE_SIZE, PAGE)
    for queue in (0, 1):
        driver.set_up(queue, 128)
    driver.put(BUFFERS, b"38q")
    assert driver.send(1, (BUFFERS, 3, 0)) == (0, 0)
    assert host.code == 38
