"""The entropy device."""

from __future__ import annotations

import hashlib

import pytest

from hyp.devices.virtio.registers import Register
from hyp.devices.virtio.rng import MAX_REQUEST, VirtioRng
from tests.hyp.devices.virtio.driver import BASE, BUFFERS, LEGACY, MODERN, WRITE, Driver


def stream(seed: int, size: int) -> bytes:
    """Return the first bytes that a device of this seed gives, written down another way."""
    blocks = [
        hashlib.sha256(seed.to_bytes(8, "little") + n.to_bytes(8, "little")).digest()
        for n in range(size // 32 + 1)
    ]
    return b"".join(blocks)[:size]


def test_it_is_a_source_of_entropy() -> None:
    driver = Driver.of(VirtioRng())
    assert driver.read(Register.DEVICE_ID) == 4
    assert driver.offered & 0xFF_FFFF == 0
    assert driver.transport.read(0x100, 4) == 0


@pytest.mark.parametrize("version", [LEGACY, MODERN])
@pytest.mark.parametrize("sizes", [[64], [1, 63], [31, 1, 32], [33, 31], [5, 0, 59], [32, 32]])
def test_all_of_the_stream_is_given_once(version: object, sizes: list[int]) -> None:
    driver = Driver.of(VirtioRng(7), LEGACY if version is LEGACY else MODERN).begin()
    got = b""
    for size in sizes:
        assert driver.send(0, (BUFFERS, size, WRITE)) == (0, size)
        got += driver.get(BUFFERS, size)
    assert got == stream(7, 64)


@pytest.mark.parametrize("seed", [0, 1, (1 << 64) - 1])
def test_the_bytes_follow_from_the_seed(seed: int) -> None:
    driver = Driver.of(VirtioRng(seed)).begin()
    driver.send(0, (BUFFERS, 40, WRITE))
    assert driver.get(BUFFERS, 40) == stream(seed, 40)


def test_a_reset_does_not_repeat_the_stream() -> None:
    driver = Driver.of(VirtioRng()).begin()
    driver.send(0, (BUFFERS, 16, WRITE))
    driver.begin()
    driver.send(0, (BUFFERS, 16, WRITE))
    assert driver.get(BUFFERS, 16) == stream(0, 32)[16:]


def test_a_large_request_is_filled_in_part() -> None:
    driver = Driver.of(VirtioRng()).begin()
    assert driver.send(0, (BUFFERS, MAX_REQUEST + 1, WRITE)) == (0, MAX_REQUEST)
    assert driver.get(BUFFERS + MAX_REQUEST, 1) == b"\0"


def test_a_request_without_room_gets_nothing() -> None:
    driver = Driver.of(VirtioRng()).begin()
    assert driver.send(0, (BUFFERS, 16, 0)) == (0, 0)


def test_a_buffer_that_is_no_memory_ends_the_device() -> None:
    driver = Driver.of(VirtioRng()).begin()
    assert driver.send(0, (BASE - 1, 16, WRITE)) is None
    assert driver.transport.failure == f"16 bytes at {BASE - 1:#x} cannot be written"
