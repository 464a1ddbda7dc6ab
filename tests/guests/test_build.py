"""The build: every committed image is what its source gives, everywhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from elftools.elf.elffile import ELFFile

from firmware import build
from firmware.build import BuildError, check_guest, compile_guest, flatten
from guests.catalogue import GUESTS, all_guests, find

if TYPE_CHECKING:
    from pathlib import Path

needs_ziglang = pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed")
GUEST = '/* Pass.\n * Watch: nothing. */\n#include "firmware.h"\nint main(void) { pass(); }\n'
ELF_GUESTS = [guest.name for guest in all_guests() if guest.image.suffix == ".elf"]


def source(folder: Path, text: str, name: str = "mine.c") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@needs_ziglang
@pytest.mark.parametrize("name", [guest.name for guest in all_guests()])
def test_the_committed_image_is_what_the_source_gives(name: str, tmp_path: Path) -> None:
    assert check_guest(find(name), tmp_path) is None


@needs_ziglang
def test_the_image_does_not_depend_on_the_folder_it_is_built_in(tmp_path: Path) -> None:
    for package in ("firmware", "guests"):
        shutil.copytree(GUESTS.parent / package, tmp_path / "elsewhere" / package)
    done = subprocess.run(
        [sys.executable, "-m", "firmware.build", "--check", "hello", "image_boot"],
        cwd=tmp_path / "elsewhere",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@needs_ziglang
def test_a_changed_image_is_named_and_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = find("hello")
    wrong = tmp_path / "hello.elf"
    wrong.write_bytes(guest.image.read_bytes() + b"\0")
    changed = type(guest)("hello", "", "", (), guest.source, wrong)
    monkeypatch.setattr(build, "find", lambda _name: changed)
    result = CliRunner().invoke(build.main, ["--check", "hello"])
    assert result.exit_code == 1
    assert "hello.elf is not what hello.c and the firmware build now" in result.output


@needs_ziglang
def test_a_missing_image_fails_the_check(tmp_path: Path) -> None:
    guest = find("hello")
    missing = type(guest)("hello", "", "", (), guest.source, tmp_path / "gone.elf")
    (tmp_path / "new").mkdir()
    assert check_guest(missing, tmp_path / "new") == f"{tmp_path / 'gone.elf'} is missing"


@needs_ziglang
@pytest.mark.parametrize("suffix", [".c", ".S"])
def test_a_users_own_file_becomes_an_elf_file(suffix: str, tmp_path: Path) -> None:
    assembler = '#include "firmware.h"\n.global main\nmain: mov w0, #0\nret\n'
    mine = source(tmp_path, GUEST if suffix == ".c" else assembler, f"mine{suffix}")
    compile_guest(mine, tmp_path / "out" / "mine.elf")
    with (tmp_path / "out" / "mine.elf").open("rb") as file:
        assert ELFFile(file).header["e_machine"] == "EM_AARCH64"


@needs_ziglang
def test_a_guest_may_bring_its_own_reset_code(tmp_path: Path) -> None:
    text = ".global _start\n_start: wfi\nb _start\n"
    compile_guest(source(tmp_path, text, "mine.S"), tmp_path / "mine.bin")
    assert (tmp_path / "mine.bin").read_bytes()[:4] == bytes.fromhex("7f2003d5")


@needs_ziglang
def test_a_compiler_error_is_a_build_error_with_the_compilers_words(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"mine\.c does not compile") as caught:
        compile_guest(source(tmp_path, "int main(void) { return x; }\n"), tmp_path / "mine.elf")
    assert "undeclared identifier 'x'" in str(caught.value)
    assert not (tmp_path / "mine.elf").exists()


@needs_ziglang
def test_a_guest_without_main_is_a_build_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        compile_guest(source(tmp_path, "int other;\n"), tmp_path / "mine.elf")
    assert "undefined symbol: main" in str(caught.value)


@needs_ziglang
@pytest.mark.parametrize("suffix", [".img", ".bin"])
def test_a_flat_format_refuses_absolute_addresses(suffix: str, tmp_path: Path) -> None:
    text = GUEST.replace("int main", "int x; int *volatile p = &x;\nint main").replace(
        "pass();", "*p = 1; pass();"
    )
    with pytest.raises(BuildError, match="holds an absolute address"):
        compile_guest(source(tmp_path, text), tmp_path / f"mine{suffix}")


@needs_ziglang
def test_a_warning_is_an_error_only_when_asked_for(tmp_path: Path) -> None:
    mine = source(tmp_path, GUEST.replace("pass();", "int unused; pass();"))
    compile_guest(mine, tmp_path / "mine.elf")
    with pytest.raises(BuildError):
        compile_guest(mine, tmp_path / "mine.elf", strict=True)


def test_without_ziglang_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(BuildError, match=r'pip install "stage2\[guests\]"'):
        compile_guest(source(tmp_path, GUEST), tmp_path / "mine.elf")


@needs_ziglang
def test_a_file_that_is_no_source_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"mine.txt: a guest's source is a .c or .S file"):
        compile_guest(source(tmp_path, "", "mine.txt"), tmp_path / "mine.elf")
    with pytest.raises(BuildError, match=r"gone.c: there is no such file"):
        compile_guest(tmp_path / "gone.c", tmp_path / "mine.elf")


def test_an_unknown_guest_is_an_error_that_lists_the_known() -> None:
    result = CliRunner().invoke(build.main, ["helo"])
    assert result.exit_code == 1
    assert "no guest is called 'helo'; there are" in result.output


@pytest.mark.parametrize("name", ELF_GUESTS)
def test_segments_share_no_page_and_start_at_the_load_address(name: str) -> None:
    with find(name).image.open("rb") as file:
        elf = ELFFile(file)
        segments = [s.header for s in elf.iter_segments("PT_LOAD")]
        assert elf.header["e_entry"] == segments[0]["p_paddr"] == build.LOAD_ADDRESS
    ends = [s["p_paddr"] + s["p_memsz"] for s in segments]
    for end, following in zip(ends, segments[1:], strict=False):
        assert following["p_paddr"] % 4096 == 0
        assert end <= following["p_paddr"]


@pytest.mark.parametrize("name", [guest.name for guest in all_guests()])
def test_images_carry_no_path(name: str) -> None:
    data = find(name).image.read_bytes()
    assert str(GUESTS.parent).encode() not in data
    assert b"firmware/" not in data


def test_the_image_header_has_the_magic_and_covers_bss_and_stack() -> None:
    data = find("image_boot").image.read_bytes()
    assert data[56:60] == b"ARMd"
    text_offset, size, flags = (int.from_bytes(data[n : n + 8], "little") for n in (8, 16, 24))
    assert (text_offset, flags) == (0, 0xA)
    assert size >= len(data) + 16384


def test_flatten_fills_the_gaps_between_segments_with_zeros() -> None:
    image = find("hello").image.read_bytes()
    with find("hello").image.open("rb") as file:
        segments = [(s.header, s.data()) for s in ELFFile(file).iter_segments("PT_LOAD")]
    flat = flatten(image)
    for header, data in segments:
        start = header["p_paddr"] - build.LOAD_ADDRESS
        assert flat[start : start + len(data)] == data
