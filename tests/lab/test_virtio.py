"""``stage2 run`` with virtio devices: disks, entropy, the test device of kvm-unit-tests."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from emu.arch.address import IPA
from hyp.devices.virtio.registers import Register
from hyp.vm import VM
from lab.cli import cli
from lab.config import RunConfig
from lab.disk import FileImage
from lab.loader import Image, ImageKind, Segment
from lab.monitor import EndReason
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[..., Path]

TRANSPORT, STRIDE, TEST_DEVICE = 0x0A00_0000, 0x200, 0x0B00_0000
CONFIG, EMERG_WR = 0x100, 0x108
SYSTEM_OFF = (0xD2800100, 0xF2B08000, 0xD4000002)  # mov x0, #8; movk x0, #0x8400, lsl 16; hvc #0
UNDEFINED = 0x00000000
NOP = 0xD503201F
LOOP = 0x14000000  # b .

QUEUE, PAGES = 0x5000_0000, 512
"""A slot that holds a queue of 8 and its buffers; the guest need not write it."""
HEADER, STATUS, DATA = QUEUE + 0x2000, QUEUE + 0x3000, QUEUE + 0x10_0000
IN, OUT = 0, 1


def stage2(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments)], catch_exceptions=False)


def outcome(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    result = stage2(*arguments, "--json")
    assert result.exit_code == status, result.stderr
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def x1(address: int) -> int:
    """Return ``mov x1, #address``, whose lower half is zero."""
    return 0xD2A00001 | address >> 16 << 5


def store(offset: int, value: int) -> tuple[int, ...]:
    """Return what stores a word to ``[x1, #offset]``."""
    low, high = value & 0xFFFF, value >> 16
    return (0x52800002 | low << 5, 0x72A00002 | high << 5, 0xB9000022 | offset // 4 << 10)


def send(text: bytes) -> tuple[int, ...]:
    """Return what stores characters to the console's ``emerg_wr``."""
    strb = 0x39000022 | EMERG_WR << 10
    return tuple(word for char in text for word in (0x52800002 | char << 5, strb))


def request(transport: int = TRANSPORT) -> tuple[int, ...]:
    """Return what sets the queue of the slot up, and notifies the device."""
    rest = transport & 0xFFFF
    return (
        x1(transport & ~0xFFFF),
        0x91000021 | rest << 10,  # add x1, x1, #rest
        *store(Register.GUEST_PAGE_SIZE, 4096),
        *store(Register.QUEUE_NUM, 8),
        *store(Register.QUEUE_ALIGN, 4096),
        *store(Register.QUEUE_PFN, QUEUE >> 12),
        *store(Register.QUEUE_NOTIFY, 0),
    )


@pytest.fixture
def queue(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Return the options for a slot with one request of a disk: type, bytes, chains."""

    def options(type_: int, size: int, *, available: int = 1) -> tuple[str, ...]:
        memory = bytearray(PAGES << 12)
        flags = 1 if type_ == OUT else 3
        for number, entry in enumerate(
            [(HEADER, 16, 1, 1), (DATA, size, flags, 2), (STATUS, 1, 2, 0)]
        ):
            struct.pack_into("<QIHH", memory, 16 * number, *entry)
        struct.pack_into("<HHH", memory, 0x80, 0, available, 0)
        struct.pack_into("<IIQ", memory, HEADER - QUEUE, type_, 0, 1)  # from sector 1 on
        memory[DATA - QUEUE : DATA - QUEUE + size] = b"new!" * (size // 4)
        path = tmp_path / "queue"
        path.write_bytes(memory)
        return ("--slot", f"id=1,gpa={QUEUE:#x},size={PAGES * 4}K,log,file={path}")

    return options


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"old." * (512 << 10))
    return path


# -- disks --------------------------------------------------------------------------------------


def test_what_a_disk_wrote_to_memory_is_in_the_dirty_log(
    program: Program, queue: Callable[..., tuple[str, ...]], disk: Path
) -> None:
    options = queue(IN, 8192)
    facts = outcome(program(*request(), *SYSTEM_OFF), "--drive", f"file={disk},ro", *options)
    assert facts["dirty"][0]["dirty"] == [QUEUE + 0x1000, STATUS, DATA, DATA + 0x1000]
    assert facts["machine"]["virtio"] == ["disk"]
    assert facts["virtio"] == []


@pytest.mark.parametrize(("flag", "keeps"), [("", True), (",cow", False), (",ro", False)])
def test_a_file_keeps_what_the_guest_wrote_unless_told_otherwise(
    program: Program, queue: Callable[..., tuple[str, ...]], disk: Path, flag: str, keeps: bool
) -> None:
    before = disk.read_bytes()
    outcome(program(*request(), *SYSTEM_OFF), "--drive", f"file={disk}{flag}", *queue(OUT, 1024))
    written = before[:512] + b"new!" * 256 + before[1536:]
    assert disk.read_bytes() == (written if keeps else before)


def test_drives_have_places_in_their_order(
    program: Program, queue: Callable[..., tuple[str, ...]], disk: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second.img"
    second.write_bytes(bytes(4096))
    drives = ("--drive", f"file={disk},cow", "--drive", f"file={second}")
    path = program(*request(TRANSPORT + STRIDE), *SYSTEM_OFF)
    facts = outcome(path, *drives, *queue(OUT, 512), "--rng", "--testdev")
    assert second.read_bytes()[512:1024] == b"new!" * 128
    assert facts["machine"]["virtio"] == ["disk", "disk", "rng", "testdev"]


def test_the_run_that_an_autopsy_repeats_does_not_write_the_file(
    program: Program,
    queue: Callable[..., tuple[str, ...]],
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writes, machines = [], []
    write, build = FileImage.write, VM.__init__

    def count(image: FileImage, offset: int, data: bytes) -> None:
        writes.append(offset)
        write(image, offset, data)

    def note(vm: VM, *arguments: Any, **named: Any) -> None:  # noqa: ANN401  # those of VM
        machines.append(vm)
        build(vm, *arguments, **named)

    monkeypatch.setattr(FileImage, "write", count)
    monkeypatch.setattr(VM, "__init__", note)
    path = program(*request(), UNDEFINED)
    facts = outcome(path, "--drive", f"file={disk}", *queue(OUT, 512), status=3)
    assert facts["crash"] is not None
    assert len(machines) == 2
    assert writes == [512]


def test_a_queue_that_makes_no_sense_is_in_the_summary(
    program: Program, queue: Callable[..., tuple[str, ...]], disk: Path
) -> None:
    options = ("--drive", f"file={disk}", *queue(IN, 512, available=9))
    path = program(*request(), *SYSTEM_OFF)
    (failure,) = outcome(path, *options)["virtio"]
    assert failure.startswith("disk at 0x0a00_0000 needs a reset: ")
    assert failure in " ".join(stage2(path, *options).stderr.split())


# -- the dirty log ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", [(), ("--dirty-protect", "manual"), ("--dirty-ring", "256")], ids=" ".join
)
def test_no_page_that_a_device_wrote_is_lost(
    program: Program, queue: Callable[..., tuple[str, ...]], disk: Path, form: tuple[str, ...]
) -> None:
    size = 230 << 12  # more than a ring of 256 takes before it counts as full
    path = program(*request(), *store(Register.QUEUE_NOTIFY, 0), *SYSTEM_OFF)
    options = ("--drive", f"file={disk}", *queue(IN, size), "--harvest-every", "10")
    facts = outcome(path, *options, *form)
    assert facts["harvest"]["copy_is_equal"]
    pages = [QUEUE + 0x1000, STATUS, *range(DATA, DATA + size, 0x1000)]
    assert facts["dirty"][0]["dirty"] == pages
    assert sum(entry["pages"] for entry in facts["harvest"]["rounds"]) == len(pages)


# -- entropy ------------------------------------------------------------------------------------


def test_entropy_follows_from_the_seed() -> None:
    first, again, other = (
        outcome("virtio_rng", "--seed", seed)["console"] for seed in ("1", "1", "2")
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(("interface", "version"), [("legacy", 1), ("modern", 2)])
def test_the_interface_is_the_one_that_was_asked_for(
    program: Program, interface: str, version: int
) -> None:
    load = 0xB9400022 | Register.VERSION // 4 << 10  # ldr w2, [x1, #4]
    exit_ = (x1(TEST_DEVICE), 0xB9000022)  # str w2, [x1]
    path = program(x1(TRANSPORT), load, *exit_, *SYSTEM_OFF)
    assert stage2(path, "--rng", "--virtio", interface).exit_code == version


# -- the test device of kvm-unit-tests ----------------------------------------------------------


@pytest.mark.parametrize(("sent", "status"), [(b"0q", 0), (b"7q", 7), (b"300q", 255)])
def test_the_test_device_ends_the_run_with_the_guests_exit_code(
    program: Program, sent: bytes, status: int
) -> None:
    facts = outcome(program(x1(TRANSPORT), *send(sent), LOOP), "--testdev", status=status)
    assert facts["end"] == "exited"
    assert facts["instructions"] == 1 + len(sent)  # an emulated store does not retire


def test_a_trace_does_not_move_the_end(program: Program, tmp_path: Path) -> None:
    path = program(x1(TRANSPORT), *[NOP] * 1000, *send(b"0q"), LOOP)
    trace = tmp_path / "trace"
    plain, traced = (
        outcome(path, "--testdev", *options) for options in ((), ("--trace-file", trace))
    )
    assert plain["instructions"] == traced["instructions"] == 1003
    last = [json.loads(line) for line in trace.read_text().splitlines()][-1]
    assert (last["event"], last["time"]) == ("kvm_entry", 1003)


def test_what_follows_the_exit_code_does_not_count(program: Program) -> None:
    path = program(x1(TRANSPORT), *send(b"4q5q"), *SYSTEM_OFF)
    assert outcome(path, "--testdev", status=4)["end"] == "exited"


def test_a_guest_that_gives_the_test_device_no_code_ends_as_without_it(program: Program) -> None:
    path = program(x1(TRANSPORT), *send(b"7"), *SYSTEM_OFF)
    assert outcome(path, "--testdev")["end"] == "power_off"


def test_without_devices_nothing_is_there(program: Program) -> None:
    facts = outcome(program(x1(TRANSPORT), *send(b"7q"), *SYSTEM_OFF))
    assert facts["mmio"]["unclaimed"] == [{"page": TRANSPORT, "access": "write", "count": 2}]


# -- the machine --------------------------------------------------------------------------------


@pytest.mark.parametrize("gic", [0, 2, 3])
def test_the_device_tree_names_the_transports_that_have_a_device(gic: int) -> None:
    code = struct.pack("<3I", *SYSTEM_OFF)
    start = IPA(0x4008_0000)
    image = Image((Segment(start, code, len(code)),), start, ImageKind.FLAT)
    vmm = Vmm(RunConfig(rng=True, testdev=True, gic=gic), image)
    tree = vmm.boot.loads[0][1]
    assert [b"virtio_mmio@a000%03x" % (n * STRIDE) in tree for n in range(3)] == [True, True, False]
    assert vmm.run("t").end.reason is EndReason.POWER_OFF


def test_an_exit_code_in_the_machines_own_test_device_comes_first(
    program: Program,
) -> None:
    exit_ = (x1(TEST_DEVICE), *store(0, 9))
    path = program(*exit_, x1(TRANSPORT), *send(b"4q"), LOOP)
    assert stage2(path, "--testdev").exit_code == 9


# -- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--drive", "disk.img"), "--drive 'disk.img': 'disk.img' is not a key; write it as file="),
        (("--drive", "file=/nowhere/d"), "--drive 'file=/nowhere/d': there is no such file; make"),
        (("--drive", "file=/"), "--drive 'file=/': this is a directory; give a raw image"),
        (
            ("--drive", "file=/dev/null,cow") * 32 + ("--rng",),
            "--drive: there are 32 places for virtio devices, not 33; leave some out",
        ),
        (("--virtio", "2"), "Invalid value for '--virtio': '2' is not one of 'legacy', 'modern'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_devices_that_cannot_be_are_refused_in_one_line(
    options: tuple[str, ...], text: str
) -> None:
    result = stage2("hello", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"stage2: error: {text}")
    assert result.stderr.count("\n") == 1


def test_no_drive_stays_open(program: Program, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = FileImage.close

    def note(image: FileImage) -> None:
        closed.append(image)
        close(image)

    monkeypatch.setattr(FileImage, "close", note)
    missing = ("--drive", f"file={disk}", "--drive", "file=/nowhere/d")
    assert stage2("hello", *missing).exit_code == 2
    assert len(closed) == 1
    outcome(program(*SYSTEM_OFF), "--drive", f"file={disk}", "--drive", f"file={disk},ro")
    assert len(closed) == 3
