import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emu.arch.address import IPA
from guests.catalogue import find
from lab.errors import UserError
from lab.loader import ImageKind, Region, load

BASE = 0x4000_0000
RAM = [Region(IPA(BASE), 64 << 20)]
CODE = bytes.fromhex("1f2003d5") * 4

MakeElf = Callable[..., bytes]
GuestFile = Callable[[bytes], Path]


def arm64_image(
    text_offset: int = 0, image_size: int | None = None, flags: int = 0xA, length: int = 256
) -> bytes:
    size = length if image_size is None else image_size
    header = struct.pack("<IIQQQ", 0x1400_0010, 0, text_offset, size, flags) + bytes(24)
    return (header + b"ARM\x64" + bytes(4)).ljust(length, b"\0")


def refusal(path: Path, memory: list[Region] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load(path, RAM if memory is None else memory)
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(path), "GUEST")


# -- what loads ---------------------------------------------------------------------------------


def test_an_elf_file_goes_to_its_physical_addresses(
    make_elf: MakeElf, guest_file: GuestFile
) -> None:
    image = load(
        guest_file(
            make_elf(
                segments=[(BASE + 0x9_0000, b"data", 0x2000), (BASE + 0x8_0000, CODE, len(CODE))],
                entry=BASE + 0x8_0004,
            )
        ),
        RAM,
    )
    assert image.kind is ImageKind.ELF
    assert image.entry == BASE + 0x8_0004
    assert [(s.address, s.data, s.memory_size) for s in image.segments] == [
        (BASE + 0x8_0000, CODE, 16),
        (BASE + 0x9_0000, b"data", 0x2000),
    ]
    assert image.size == 0x2010
    assert image.end == BASE + 0x9_2000


def test_an_entry_in_virtual_addresses_is_brought_to_the_segments_physical_address(
    make_elf: MakeElf, guest_file: GuestFile
) -> None:
    high = 0xFFFF_8000_0000_0000
    elf = make_elf(vaddr_offset=high, entry=high + BASE + 0x8_0008)
    assert load(guest_file(elf), RAM).entry == BASE + 0x8_0008


def test_a_position_independent_elf_linked_at_zero_is_moved_into_ram(
    make_elf: MakeElf, guest_file: GuestFile
) -> None:
    elf = make_elf(type=3, segments=[(0, CODE, 16), (0x1000, b"d", 8)], entry=4, align=0x1_0000)
    image = load(guest_file(elf), RAM)
    assert [s.address for s in image.segments] == [BASE + 0x8_0000, BASE + 0x8_1000]
    assert image.entry == BASE + 0x8_0004


def test_a_moved_elf_keeps_the_alignment_of_its_segments(
    make_elf: MakeElf, guest_file: GuestFile
) -> None:
    elf = make_elf(type=3, segments=[(0, CODE, 16)], entry=0, align=0x20_0000)
    assert load(guest_file(elf), RAM).entry == BASE + 0x20_0000


def test_a_segment_may_lie_in_an_additional_slot(make_elf: MakeElf, guest_file: GuestFile) -> None:
    elf = make_elf(segments=[(BASE + 0x8_0000, CODE, 16), (0x5000_0000, b"rom", 0x1000)])
    memory = [*RAM, Region(IPA(0x5000_0000), 0x1000)]
    assert load(guest_file(elf), memory).segments[1].address == 0x5000_0000


@pytest.mark.parametrize(
    ("text_offset", "image_size", "address"),
    [
        (0, 0x1_0000, BASE + 0x20_0000),
        (0x800, 0x1_0000, BASE + 0x20_0800),
        (0x8_0000, 0x1_0000, BASE + 0x8_0000),
        (0x1234, 0, BASE + 0x8_0000),  # before Linux 3.17: text_offset is not to be trusted
    ],
)
def test_an_arm64_image_goes_where_its_header_asks(
    guest_file: GuestFile, text_offset: int, image_size: int, address: int
) -> None:
    image = load(guest_file(arm64_image(text_offset, image_size)), RAM)
    assert image.kind is ImageKind.ARM64
    assert image.entry == image.segments[0].address == address
    assert image.size == (image_size or 256)


@pytest.mark.parametrize(
    ("flags", "page_size"), [(0x0, 0), (0xA, 0x1000), (0xC, 0x4000), (0xE, 0x1_0000)]
)
def test_an_arm64_image_says_which_pages_its_kernel_has(
    guest_file: GuestFile, flags: int, page_size: int
) -> None:
    assert load(guest_file(arm64_image(flags=flags)), RAM).page_size == page_size


def test_a_kernel_larger_in_memory_than_ram_is_refused(guest_file: GuestFile) -> None:
    assert refusal(guest_file(arm64_image(image_size=80 << 20))) == (
        "GUEST needs 80M of memory, the guest has 64M; give it more with --mem"
    )


def test_a_kernel_that_ends_behind_ram_is_refused(guest_file: GuestFile) -> None:
    assert refusal(guest_file(arm64_image(image_size=63 << 20))) == (
        "GUEST: the segment at 0x4020_0000 to 0x440f_ffff lies outside the guest's memory "
        "(0x4000_0000 to 0x43ff_ffff); give it more with --mem"
    )


def test_a_vmlinux_with_virtual_addresses_alone_is_refused(
    make_elf: MakeElf, guest_file: GuestFile
) -> None:
    elf = make_elf(segments=[(0xFFFF_8000_0800_0000, CODE, 16)], entry=0xFFFF_8000_0800_0000)
    assert "for Linux take arch/arm64/boot/Image" in refusal(guest_file(elf))


def test_any_other_binary_is_flat_and_starts_at_its_first_byte(guest_file: GuestFile) -> None:
    image = load(guest_file(CODE), RAM)
    assert image.kind is ImageKind.FLAT
    assert image.entry == BASE + 0x8_0000
    assert image.segments[0].data == CODE


# -- what does not ------------------------------------------------------------------------------


def test_firmware_goes_to_flash_whatever_its_bytes_are(guest_file: GuestFile) -> None:
    flash = Region(IPA(0), 1 << 20)
    for content in (b"\x14\0\0\x14" * 4, arm64_image()):
        loaded = load(guest_file(content), [*RAM, flash], flash)
        assert (loaded.kind, loaded.entry) == (ImageKind.FLAT, 0)


def test_firmware_larger_than_flash_is_refused(guest_file: GuestFile) -> None:
    flash = Region(IPA(0), 4096)
    with pytest.raises(UserError, match="4097 bytes, the flash has 4K; build smaller firmware"):
        load(guest_file(bytes(4096) + b"\x14"), [*RAM, flash], flash)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == "there is no file GUEST; check the path"


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "GUEST is a directory; give the path of a guest"


def test_a_device_is_refused_without_reading_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "GUEST is not a regular file; give the path of a guest"


def test_a_path_that_no_file_can_have_is_refused() -> None:
    assert "cannot read" in refusal(Path("a\0b"))


def test_a_file_in_place_of_a_directory_is_refused(guest_file: GuestFile) -> None:
    assert "Not a directory" in refusal(guest_file(CODE) / "kernel")


def test_an_empty_file_is_refused(guest_file: GuestFile) -> None:
    assert refusal(guest_file(b"")) == (
        "GUEST is empty; a guest is an ELF file, an arm64 Image or a flat binary"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"machine": 62},
            "GUEST is an ELF file for X86_64, not for AArch64; build it with -target aarch64",
        ),
        (
            {"machine": 0x4242},
            "GUEST is an ELF file for 16962, not for AArch64; build it with -target aarch64",
        ),
        (
            {"elf_class": 1},
            "GUEST is a 32-bit ELF file; the machine runs AArch64: build it with -target aarch64",
        ),
        ({"data": 2}, "GUEST is a big-endian ELF file; build it little-endian (aarch64)"),
        ({"type": 1}, "GUEST is an object file; link it first, or give its source"),
        ({"type": 4}, "GUEST is a core dump; give the program itself"),
        ({"type": 0}, "GUEST has ELF type ET_NONE; link it as ET_EXEC or ET_DYN"),
        ({"segments": []}, "GUEST has nothing to load: it needs at least one PT_LOAD segment"),
        (
            {"segments": [(BASE, CODE, 8)]},
            (
                "GUEST is a damaged ELF file: a segment has 0x10 bytes in the file but 0x8 in "
                "memory; build it again"
            ),
        ),
        (
            {"segments": [(BASE, CODE, 0x2000), (BASE + 0x1000, CODE, 16)]},
            (
                "GUEST: segments 0x4000_0000 to 0x4000_1fff and 0x4000_1000 to 0x4000_100f "
                "overlap; give them distinct addresses in the linker script"
            ),
        ),
        (
            {"segments": [(BASE, CODE, 128 << 20)]},
            "GUEST needs 128M of memory, the guest has 64M; give it more with --mem",
        ),
        (
            {"segments": [(BASE + (63 << 20), CODE, 2 << 20)]},
            (
                "GUEST: the segment at 0x43f0_0000 to 0x440f_ffff lies outside the guest's memory "
                "(0x4000_0000 to 0x43ff_ffff); give it more with --mem"
            ),
        ),
        (
            {"segments": [(0x1000, CODE, 16)]},
            (
                "GUEST: the segment at 0x0000_1000 to 0x0000_100f lies outside the guest's memory "
                "(0x4000_0000 to 0x43ff_ffff); relink the guest"
            ),
        ),
        (
            {"segments": [((1 << 64) - 16, CODE, 32)]},
            (
                "GUEST: the segment at 0xffff_ffff_ffff_fff0 with 0x20 bytes goes beyond 64-bit "
                "addresses; relink the guest"
            ),
        ),
        (
            {"entry": 0x1000},
            (
                "GUEST: the entry point 0x0000_1000 lies outside the guest's memory "
                "(0x4000_0000 to 0x43ff_ffff); relink the guest for RAM"
            ),
        ),
    ],
)
def test_an_elf_file_that_cannot_start_is_refused(
    make_elf: MakeElf, guest_file: GuestFile, fields: dict[str, object], text: str
) -> None:
    assert refusal(guest_file(make_elf(**fields))) == text


def test_an_arm64_image_that_contradicts_itself_is_refused(guest_file: GuestFile) -> None:
    assert refusal(guest_file(arm64_image(image_size=128))) == (
        "GUEST: image_size in the arm64 Image header is 0x80, the file has 0x100 bytes; "
        "build it again"
    )


def test_a_cut_off_arm64_header_is_refused(guest_file: GuestFile) -> None:
    assert refusal(guest_file(arm64_image()[:61])) == (
        "GUEST is a truncated arm64 Image: 61 bytes; copy it again"
    )


def test_a_big_endian_kernel_is_refused(guest_file: GuestFile) -> None:
    assert refusal(guest_file(arm64_image(flags=1))) == (
        "GUEST is a big-endian kernel; build it with CONFIG_CPU_LITTLE_ENDIAN"
    )


def test_a_file_larger_than_memory_is_refused_before_it_is_read(guest_file: GuestFile) -> None:
    path = guest_file(CODE)
    with path.open("r+b") as file:
        file.truncate(1 << 40)  # sparse
    assert refusal(path) == "GUEST has 1T, the guest has 64M; give the guest more with --mem"


def test_a_flat_binary_that_would_reach_beyond_ram_is_refused(guest_file: GuestFile) -> None:
    ram = [Region(IPA(BASE), 0x9_0000)]
    assert "lies outside the guest's memory" in refusal(guest_file(bytes(0x2_0000)), ram)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x1f\x8b\x08" + bytes(99), "GUEST is gzip-compressed; run gunzip on it first"),
        (
            b"MZ\0\0zimg" + bytes(99),
            "GUEST is a compressed EFI kernel (zboot); take arch/arm64/boot/Image instead",
        ),
        (
            b"MZ\0\0zimg" + struct.pack("<II8x32s", 0x1_0000, 500, b"zstd22"),
            (
                "GUEST is a compressed EFI kernel (zboot); take arch/arm64/boot/Image instead, or "
                "unpack it: tail -c +65537 FILE | head -c 500 | unzstd > Image"
            ),
        ),
        (
            b"MZ" + bytes(0x200) + b"HdrS",
            "GUEST is an x86 kernel (bzImage); the machine runs AArch64: give an arm64 Image",
        ),
        (
            bytes(0x24) + b"\x18\x28\x6f\x01" + bytes(99),
            "GUEST is a 32-bit Arm kernel (zImage); the machine runs AArch64: give an arm64 Image",
        ),
        (
            b"MZ" + bytes(54) + b"RSC\x05" + bytes(99),
            "GUEST is a RISC-V kernel; the machine runs AArch64: give an arm64 Image",
        ),
        (b"\x28\xb5\x2f\xfd" + bytes(99), "GUEST is zstd-compressed; run unzstd on it first"),
        (
            b"MZ" + bytes(99),
            "GUEST is a PE file (EFI program); give an ELF file or an arm64 Image",
        ),
        (
            b"# A note\n" * 9,
            "GUEST is a text file; name assembly .S and C source .c to have it built",
        ),
        (bytes(257) + b"ustar\0", "GUEST is a tar archive; unpack it first"),
    ],
)
def test_a_known_foreign_format_is_refused_with_the_way_out(
    guest_file: GuestFile, content: bytes, text: str
) -> None:
    assert refusal(guest_file(content)) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_every_truncation_of_an_elf_file_is_a_user_error(
    make_elf: MakeElf, guest_file: GuestFile, data: st.DataObject
) -> None:
    elf = make_elf(segments=[(BASE, CODE, 16), (BASE + 0x1000, bytes(range(200)), 0x1000)])
    length = data.draw(st.integers(len(b"\x7fELF"), len(elf) - 1))
    assert "truncated" in refusal(guest_file(elf[:length]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_every_truncation_of_a_linked_guest_is_a_user_error(
    guest_file: GuestFile, data: st.DataObject
) -> None:
    elf = find("hello").image.read_bytes()
    length = data.draw(st.integers(len(b"\x7fELF"), len(elf) - 1))
    assert "truncated" in refusal(guest_file(elf[:length]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(4, 64 + 2 * 56 - 1), st.integers(0, 255)), min_size=1, max_size=4
    )
)
def test_a_damaged_elf_header_is_loaded_or_refused_but_never_a_traceback(
    make_elf: MakeElf, guest_file: GuestFile, changes: list[tuple[int, int]]
) -> None:
    elf = bytearray(make_elf(segments=[(BASE, CODE, 16), (BASE + 0x1000, CODE, 0x1000)]))
    for offset, value in changes:
        elf[offset] = value
    try:
        load(guest_file(bytes(elf)), RAM)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017  # both ends are right; the text is checked
