from pathlib import Path

import pytest

from guests.catalogue import find
from lab.errors import UserError
from lab.target import Target, bundled_guest, open_target


def test_a_name_is_a_bundled_guest_with_its_options() -> None:
    guest = find("rom_write")
    with open_target("rom_write") as target:
        assert target == Target("rom_write", guest.image, guest.run)
        assert target.options[0] == "--slot"


def test_a_path_is_a_file_even_if_a_guest_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hello").write_bytes(b"\0")
    with open_target("./hello") as target:
        assert target == Target("hello", Path("hello"))


def test_a_file_without_suffix_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Image").write_bytes(b"\0")
    with open_target("Image") as target:
        assert target.image == Path("Image")


def test_source_is_built_and_its_own_options_are_read(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    source = tmp_path / "tiny.c"
    source.write_text(
        "/*\n * A test.\n *\n * Watch: nothing.\n * Run: --nisv\n */\n"
        "int main(void) { return 0; }\n"
    )
    with open_target(str(source)) as target:
        assert target.name == "tiny.c"
        assert target.options == ("--nisv",)
        assert target.image.read_bytes().startswith(b"\x7fELF")
    assert not target.image.exists()


def test_a_compilers_complaint_is_the_detail_of_one_line(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    source = tmp_path / "bad.c"
    source.write_text("int main(void) { return missing; }\n")
    with pytest.raises(UserError) as caught, open_target(str(source)):
        pass
    assert "\n" not in str(caught.value)
    assert "missing" in caught.value.detail


def test_an_unknown_guest_is_a_user_error() -> None:
    with pytest.raises(UserError, match="no guest is called 'psc'; did you mean 'psci'"):
        bundled_guest("psc")
