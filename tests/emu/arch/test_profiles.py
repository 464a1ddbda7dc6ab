from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.granule import KB4, KB16, KB64
from emu.arch.profiles import ID_REGISTERS, NAMES, ProfileError, profile
from emu.arch.registers.identification import (
    CTR_EL0,
    ID_AA64ISAR0_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    MIDR_EL1,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "cpu.toml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("name", NAMES)
def test_bundled_profiles_are_called_as_their_files(name: str) -> None:
    assert profile(name).name == name
    assert profile(name).read(MIDR_EL1) != 0


def test_the_default_cpu_is_the_profile_of_that_name() -> None:
    assert profile("cortex-a72") == CORTEX_A72


@pytest.mark.parametrize(
    ("name", "pa_bits", "granules", "vmid_bits", "armv8_0"),
    [
        ("cortex-a72", 44, {KB4, KB64}, 8, True),
        ("neoverse-n1", 48, {KB4, KB16, KB64}, 16, False),
        ("max", 52, {KB4, KB16, KB64}, 16, False),
    ],
)
def test_features_follow_from_the_registers(
    name: str, pa_bits: int, granules: set[object], vmid_bits: int, armv8_0: bool
) -> None:
    cpu = profile(name)
    assert (cpu.pa_bits, set(cpu.granules), cpu.vmid_bits) == (pa_bits, granules, vmid_bits)
    assert cpu.armv8_0 is armv8_0


def test_a_bundled_profile_is_read_once() -> None:
    assert profile("max") is profile("max")


def test_a_file_lists_registers_whole_or_by_field(toml: Callable[[str], Path]) -> None:
    cpu = profile(
        toml(
            'name = "mine"\n[id_registers]\nCTR_EL0 = 0x8444_c004\n'
            "ID_AA64MMFR1_EL1 = { HAFDBS = 2, VMIDBits = 2 }\n"
        )
    )
    assert cpu.name == "mine"
    assert cpu.read(CTR_EL0) == 0x8444_C004
    assert cpu.read(ID_AA64MMFR1_EL1) == 0x22
    assert cpu.read(ID_AA64MMFR0_EL1) == 0


def test_fields_change_those_of_the_base(toml: Callable[[str], Path]) -> None:
    text = 'name = "x"\nbase = "neoverse-n1"\n[id_registers]\nID_AA64ISAR0_EL1 = { Atomic = 0 }\n'
    cpu, base = profile(toml(text)), profile("neoverse-n1")
    assert cpu.read(ID_AA64ISAR0_EL1) == base.read(ID_AA64ISAR0_EL1).replace(Atomic=0)
    assert cpu.read(ID_AA64MMFR1_EL1) == base.read(ID_AA64MMFR1_EL1)


def test_a_base_alone_is_a_cpu_under_another_name(toml: Callable[[str], Path]) -> None:
    assert profile(toml('name = "x"\nbase = "max"\n')).id_registers == profile("max").id_registers


HEAD = 'name = "x"\n[id_registers]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not TOML"),
        ("[id_registers]\nCTR_EL0 = 1\n", "name is missing"),
        ('name = ""\n[id_registers]\nCTR_EL0 = 1\n', "name is missing or no text"),
        ('name = "x"\n', "id_registers is a table of registers, at least one"),
        ('name = "x"\nid_registers = 3\n', "id_registers is a table"),
        ('name = "x"\nspeed = 3\n', "unknown key 'speed'; the keys are name, base, id_registers"),
        ('name = "x"\nbase = "a99"\n', "base is one of max, cortex-a72, neoverse-n1, not 'a99'"),
        (HEAD + "HCR_EL2 = 1\n", "no ID register is called 'HCR_EL2'; a profile lists MIDR_EL1"),
        (HEAD + "CTR_EL0 = -1\n", "CTR_EL0 is a number of 64 bits or a table of fields, not -1"),
        (HEAD + "CTR_EL0 = true\n", "CTR_EL0 is a number of 64 bits"),
        (HEAD + 'CTR_EL0 = "0x1"\n', "CTR_EL0 is a number of 64 bits"),
        (HEAD + "CTR_EL0 = { XIC = 1 }\n", "CTR_EL0 has no field 'XIC'; it has TminLine"),
        (HEAD + "CTR_EL0 = { DIC = 2 }\n", "CTR_EL0.DIC is a number from 0 to 0x1, not 2"),
        (HEAD + "CTR_EL0 = { DIC = true }\n", "CTR_EL0.DIC is a number from 0 to 0x1, not True"),
        (
            HEAD + "ID_AA64MMFR0_EL1 = { PARange = 9 }\n",
            "ID_AA64MMFR0_EL1.PARange is one of 0, 1, 2, 3, 4, 5, 6, not 9",
        ),
        (
            HEAD + "ID_AA64MMFR1_EL1 = 0x10\n",
            "ID_AA64MMFR1_EL1.VMIDBits is one of 0, 2, not 1",
        ),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    toml: Callable[[str], Path], text: str, message: str
) -> None:
    path = toml(text)
    with pytest.raises(ProfileError) as refusal:
        profile(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_name_lists_the_profiles() -> None:
    with pytest.raises(ProfileError, match="called 'a99'; the profiles are max, cortex-a72"):
        profile("a99")


def test_a_folder_is_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="cannot be read as text"):
        profile(tmp_path)


def test_bytes_that_are_no_text_are_no_profile(tmp_path: Path) -> None:
    path = tmp_path / "cpu.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match="cannot be read as text"):
        profile(path)


def test_listed_registers_are_those_that_identify() -> None:
    assert all(name.endswith(("_EL0", "_EL1")) for name in ID_REGISTERS)
    assert {"MIDR_EL1", "ID_AA64MMFR2_EL1", "DCZID_EL0"} <= ID_REGISTERS.keys()
