"""The block device and its images."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyp.devices.virtio.block import SEG_MAX, VirtioBlock
from hyp.devices.virtio.image import SECTOR, Image, MemoryImage, Overlay
from hyp.devices.virtio.registers import Register
from tests.hyp.devices.virtio.driver import (
    BASE,
    BUFFERS,
    LEGACY,
    MODERN,
    WRITE,
    Driver,
)

IN, OUT, FLUSH, GET_ID = 0, 1, 4, 8
OK, IOERR, UNSUPP = 0, 1, 2
HEADER, STATUS, DATA = BUFFERS, BUFFERS + 0x100, BUFFERS + 0x1000
SECTORS = 16
CONTENTS = b"".join(bytes([n]) * SECTOR for n in range(SECTORS))


class Disk:
    """A disk, and a driver for it."""

    def __init__(self, image: Image | None = None, version: object = LEGACY) -> None:
        self.image = MemoryImage(CONTENTS) if image is None else image
        device = VirtioBlock(self.image, "a disk")
        self.driver = Driver.of(device, LEGACY if version is LEGACY else MODERN).begin()

    def request(
        self, kind: int, sector: int = 0, *data: tuple[int, int], flags: int = 0
    ) -> tuple[int, int] | None:
        """Make a request with buffers for data; return its status, and the used length."""
        self.driver.put(HEADER, struct.pack("<IIQ", kind, 0, sector))
        self.driver.put(STATUS, b"\xff")
        buffers = [(at, size, flags) for at, size in data]
        used = self.driver.send(0, (HEADER, 16, 0), *buffers, (STATUS, 1, WRITE))
        return None if used is None else (self.driver.get(STATUS, 1)[0], used[1])

    def read(self, sector: int, size: int = SECTOR) -> tuple[int, int] | None:
        return self.request(IN, sector, (DATA, size), flags=WRITE)

    def write(self, sector: int, data: bytes) -> tuple[int, int] | None:
        self.driver.put(DATA, data)
        return self.request(OUT, sector, (DATA, len(data)))

    def data(self, size: int = SECTOR) -> bytes:
        return self.driver.get(DATA, size)


class BrokenImage(MemoryImage):
    """An image on a host whose disk has failed."""

    def read(self, offset: int, size: int) -> bytes:
        raise OSError(5, "Input/output error", (offset, size))

    def write(self, offset: int, data: bytes) -> None:
        raise OSError(5, "Input/output error", (offset, data))

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("read_only", "features"), [(False, 0x244), (True, 0x264)])
def test_it_is_a_disk(read_only: bool, features: int) -> None:
    driver = Driver.of(VirtioBlock(MemoryImage(CONTENTS, read_only=read_only)))
    assert driver.read(Register.DEVICE_ID) == 2
    assert driver.offered & 0xFF_FFFF == features
    config = [driver.transport.read(0x100 + at, 4) for at in range(0, 28, 4)]
    assert config == [SECTORS, 0, 0, SEG_MAX, 0, 512, 0]
    assert driver.read(Register.QUEUE_NUM_MAX) == SEG_MAX + 2


@pytest.mark.parametrize("version", [LEGACY, MODERN])
def test_sectors_are_read(version: object) -> None:
    disk = Disk(version=version)
    assert disk.read(3, 2 * SECTOR) == (OK, 2 * SECTOR + 1)
    assert disk.data(2 * SECTOR) == CONTENTS[3 * SECTOR : 5 * SECTOR]


def test_the_configuration_is_read_only() -> None:
    disk = Disk()
    disk.driver.transport.write(0x100, 4, 1)
    assert disk.driver.transport.read(0x100, 4) == SECTORS


def test_sectors_are_written() -> None:
    disk = Disk()
    assert disk.write(15, b"x" * SECTOR) == (OK, 1)
    assert disk.read(15) == (OK, SECTOR + 1)
    assert disk.data() == b"x" * SECTOR
    assert disk.image.read(14 * SECTOR, SECTOR) == CONTENTS[14 * SECTOR : 15 * SECTOR]


def test_data_may_lie_in_several_buffers_of_any_size() -> None:
    disk = Disk()
    places = [(DATA, 100), (DATA + 0x200, 412), (DATA + 0x1000, 512)]
    assert disk.request(IN, 7, *places, flags=WRITE) == (OK, 1025)
    read = b"".join(disk.driver.get(at, size) for at, size in places)
    assert read == CONTENTS[7 * SECTOR : 9 * SECTOR]
    assert disk.request(OUT, 0, *places) == (OK, 1)
    assert disk.image.read(0, 2 * SECTOR) == CONTENTS[7 * SECTOR : 9 * SECTOR]


def test_header_data_and_status_may_share_buffers() -> None:
    disk = Disk()
    disk.driver.put(DATA, struct.pack("<IIQ", OUT, 0, 2) + b"y" * SECTOR)
    assert disk.driver.send(0, (DATA, 16 + SECTOR, 0), (STATUS, 1, WRITE)) == (0, 1)
    disk.driver.put(DATA, struct.pack("<IIQ", IN, 0, 2))
    used = disk.driver.send(0, (DATA, 7, 0), (DATA + 7, 9, 0), (DATA + 0x100, SECTOR + 1, WRITE))
    assert used == (0, SECTOR + 1)
    assert disk.driver.get(DATA + 0x100, SECTOR + 1) == b"y" * SECTOR + bytes([OK])


@pytest.mark.parametrize(
    ("sector", "size", "status"),
    [
        (0, 0, OK),
        (16, 0, OK),
        (15, 512, OK),
        (0, 16 * 512, OK),
        (16, 512, IOERR),
        (15, 1024, IOERR),
        (17, 0, IOERR),
        (0, 511, IOERR),
        (0, 513, IOERR),
        (1 << 55, 512, IOERR),
        ((1 << 64) - 1, 512, IOERR),
    ],
)
def test_what_is_not_whole_sectors_of_the_disk_is_an_io_error(
    sector: int, size: int, status: int
) -> None:
    disk = Disk()
    # The status is behind the data: what it says of no data, the driver knows by itself.
    length = size + 1 if status == OK or not size else 0
    assert disk.read(sector, size) == (status, length)
    expected = CONTENTS[sector * SECTOR :][:size] if status == OK else b""
    assert disk.data(512) == expected[:512].ljust(512, b"\0")
    assert disk.write(sector, b"z" * size) == (status, 1)
    if status:
        assert disk.image.read(0, len(CONTENTS)) == CONTENTS


def test_a_read_only_disk_is_not_written() -> None:
    disk = Disk(MemoryImage(CONTENTS, read_only=True))
    assert disk.write(0, b"x" * SECTOR) == (IOERR, 1)
    assert disk.image.read(0, len(CONTENTS)) == CONTENTS
    assert disk.read(1) == (OK, SECTOR + 1)


def test_an_error_of_the_host_is_an_io_error() -> None:
    disk = Disk(BrokenImage(CONTENTS))
    assert disk.read(0) == (IOERR, 0)
    assert disk.write(0, b"x" * SECTOR) == (IOERR, 1)
    assert disk.request(FLUSH) == (IOERR, 1)


def test_flush_succeeds() -> None:
    assert Disk().request(FLUSH) == (OK, 1)
    assert Disk(Overlay(MemoryImage(CONTENTS))).request(FLUSH) == (OK, 1)


@pytest.mark.parametrize(("size", "written"), [(20, 21), (4, 5), (0, 1), (32, 20)])
def test_the_id_is_20_bytes_of_text(size: int, written: int) -> None:
    disk = Disk()
    assert disk.request(GET_ID, 0, (DATA, size), flags=WRITE) == (OK, written)
    assert disk.data(min(size, 20)) == b"a disk".ljust(20, b"\0")[:size]


def test_a_long_serial_is_cut() -> None:
    driver = Driver.of(VirtioBlock(MemoryImage(CONTENTS), "x" * 30)).begin()
    driver.put(HEADER, struct.pack("<IIQ", GET_ID, 0, 0))
    assert driver.send(0, (HEADER, 16, 0), (DATA, 21, WRITE)) == (0, 21)
    assert driver.get(DATA, 21) == b"x" * 20 + b"\0"


@pytest.mark.parametrize("kind", [2, 3, 5, 10, 11, 13, 0x8000_0000, 0xFFFF_FFFF])
def test_other_requests_are_not_supported(kind: int) -> None:
    assert Disk().request(kind) == (UNSUPP, 1)
    assert Disk().request(kind, 0, (DATA, 512), flags=WRITE) == (UNSUPP, 0)


@pytest.mark.parametrize(
    "buffers",
    [
        [(HEADER, 15, 0), (STATUS, 1, WRITE)],
        [(HEADER, 16, 0)],
        [(STATUS, 1, WRITE)],
        [(HEADER, 16, 0), (STATUS, 0, WRITE)],
        [(BASE - 8, 16, 0), (STATUS, 1, WRITE)],
        [(HEADER, 16, 0), (BASE - 8, 1, WRITE)],
        [(HEADER, 16, 0), (BASE - 512, 512, WRITE), (STATUS, 1, WRITE)],
    ],
)
def test_a_request_without_header_status_or_memory_ends_the_device(
    buffers: list[tuple[int, int, int]],
) -> None:
    disk = Disk(version=MODERN)
    assert disk.driver.send(0, *buffers) is None
    assert disk.driver.read(Register.STATUS) & 0x40


@pytest.mark.parametrize(
    ("kind", "flags", "size"), [(GET_ID, WRITE, 20), (OUT, 0, 512), (IN, WRITE, 512)]
)
def test_data_that_is_no_memory_ends_the_device(kind: int, flags: int, size: int) -> None:
    disk = Disk(version=MODERN)
    assert disk.request(kind, 0, (BASE - size, size), flags=flags) is None
    assert disk.driver.read(Register.STATUS) & 0x40
    assert disk.image.read(0, len(CONTENTS)) == CONTENTS


def test_many_requests_are_served_by_one_notification() -> None:
    disk = Disk()
    for n in range(2):
        disk.driver.put(HEADER + 16 * n, struct.pack("<IIQ", IN, 0, 4 + n))
        disk.driver.chain(
            0,
            (HEADER + 16 * n, 16, 0),
            (DATA + SECTOR * n, SECTOR, WRITE),
            (STATUS + n, 1, WRITE),
            first=3 * n,
        )
    disk.driver.offer(0, 0, 3)
    disk.driver.notify(0)
    assert disk.driver.take_used(0) == [(0, 513), (3, 513)]
    assert disk.data(2 * SECTOR) == CONTENTS[4 * SECTOR : 6 * SECTOR]
    assert disk.driver.line == [True]


# --- images ------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.integers(0, SECTORS - 1), st.integers(1, 4), st.integers(0, 255)), max_size=12
    ),
    st.integers(0, SECTORS - 1),
    st.integers(0, SECTORS),
)
def test_an_overlay_reads_what_was_written_and_leaves_its_base_alone(
    writes: list[tuple[int, int, int]], first: int, count: int
) -> None:
    base = MemoryImage(CONTENTS, read_only=True)
    overlay = Overlay(base)
    expected = bytearray(CONTENTS)
    touched: set[int] = set()
    for sector, length, value in writes:
        length = min(length, SECTORS - sector)  # noqa: PLW2901  # within the disk
        data = bytes([value]) * SECTOR * length
        overlay.write(sector * SECTOR, data)
        expected[sector * SECTOR : (sector + length) * SECTOR] = data
        touched |= set(range(sector, sector + length))
    count = min(count, SECTORS - first)
    at, size = first * SECTOR, count * SECTOR
    assert overlay.read(at, size) == expected[at : at + size]
    assert overlay.read(0, overlay.size) == expected
    assert (overlay.written, overlay.size, overlay.read_only) == (len(touched), base.size, False)
    assert base.contents == CONTENTS


def test_what_an_overlay_has_whole_is_not_read_from_its_base() -> None:
    overlay = Overlay(BrokenImage(CONTENTS))
    overlay.write(SECTOR, b"x" * 2 * SECTOR)
    assert overlay.read(SECTOR, 2 * SECTOR) == b"x" * 2 * SECTOR
    with pytest.raises(OSError, match="Input/output"):
        overlay.read(0, 2 * SECTOR)
