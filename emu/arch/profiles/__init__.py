"""CPU profiles: the ID registers of a CPU as a TOML file.

A profile names the CPU and lists its ID registers, whole or field by field::

    name = "my-cpu"
    base = "neoverse-n1"        # optional: what is not listed comes from there

    [id_registers]
    CTR_EL0 = 0x8444_c004
    ID_AA64MMFR1_EL1 = { HAFDBS = 0, XNX = 0 }

A table of fields changes the base's register, or an all-zero one. Without a base, registers
that are not listed are zero: the feature is absent, or has its oldest form.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from emu.arch.features import CpuFeatures
from emu.arch.profiles.allowed import check
from emu.arch.registers import identification

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emu.arch.fields import SystemRegister

NAMES: Final = ("max", "cortex-a72", "neoverse-n1")
"""The profiles that come with the machine."""

ID_REGISTERS: Final[dict[str, type[SystemRegister]]] = {
    register.__name__: register
    for register in (
        identification.MIDR_EL1,
        identification.REVIDR_EL1,
        identification.CTR_EL0,
        identification.DCZID_EL0,
        identification.CLIDR_EL1,
        identification.ID_AA64PFR0_EL1,
        identification.ID_AA64PFR1_EL1,
        identification.ID_AA64DFR0_EL1,
        identification.ID_AA64DFR1_EL1,
        identification.ID_AA64ISAR0_EL1,
        identification.ID_AA64ISAR1_EL1,
        identification.ID_AA64ISAR2_EL1,
        identification.ID_AA64MMFR0_EL1,
        identification.ID_AA64MMFR1_EL1,
        identification.ID_AA64MMFR2_EL1,
    )
}
"""What a profile may list, by Arm ARM name."""

_KEYS: Final = ("name", "base", "id_registers")
_REGISTER_LIMIT: Final = 1 << 64


class ProfileError(ValueError):
    """A profile cannot be used. The text is one line: file, key, value, what is allowed."""


def profile(name_or_path: str | Path) -> CpuFeatures:
    """Return a CPU by the name of its profile, or by the path of a profile of one's own.

    Parameters
    ----------
    name_or_path
        One of :data:`NAMES`; anything else is the path of a TOML file.

    Raises
    ------
    ProfileError
        If there is no such profile, or its file does not describe a CPU.
    """
    if str(name_or_path) in NAMES:
        return _bundled(str(name_or_path))
    return _load(Path(name_or_path))


@cache
def _bundled(name: str) -> CpuFeatures:
    return _load(Path(__file__).with_name(f"{name}.toml"))


def _load(path: Path) -> CpuFeatures:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProfileError(
            f"no profile and no file is called {str(path)!r}; the profiles are {_list(NAMES)}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: cannot be read as text: {error}") from None
    try:
        return _features(path, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path}: not TOML: {error}") from None


def _features(path: Path, content: dict[str, Any]) -> CpuFeatures:
    for key in content:
        if key not in _KEYS:
            raise ProfileError(f"{path}: unknown key {key!r}; the keys are {_list(_KEYS)}")
    name = content.get("name")
    if not isinstance(name, str) or not name:
        raise ProfileError(f'{path}: name is missing or no text, such as name = "my-cpu"')
    base = content.get("base")
    if base is not None and base not in NAMES:
        raise ProfileError(f"{path}: base is one of {_list(NAMES)}, not {base!r}")
    listed = content.get("id_registers", {})
    if not isinstance(listed, dict) or not (listed or base):
        raise ProfileError(f"{path}: id_registers is a table of registers, at least one")
    features = CpuFeatures(name, () if base is None else _bundled(base).id_registers)
    values = [_register(path, features, key, value) for key, value in listed.items()]
    return features.replace(*values)


def _register(path: Path, features: CpuFeatures, key: str, given: object) -> SystemRegister:
    """Return one ID register from its value or its fields."""
    register = ID_REGISTERS.get(key)
    if register is None:
        raise ProfileError(
            f"{path}: id_registers: no ID register is called {key!r}; "
            f"a profile lists {_list(ID_REGISTERS)}"
        )
    if isinstance(given, dict):
        value = features.read(register)
        for field, bits in given.items():
            value = value.replace(**{field: _field(path, register, field, bits)})
    elif isinstance(given, int) and not isinstance(given, bool) and 0 <= given < _REGISTER_LIMIT:
        value = register(given)
    else:
        raise ProfileError(
            f"{path}: {key} is a number of 64 bits or a table of fields, not {given!r}"
        )
    for refusal in check(value):
        raise ProfileError(f"{path}: {refusal}")
    return value


def _field(path: Path, register: type[SystemRegister], name: str, given: object) -> int:
    field = register.FIELDS.get(name)
    if field is None:
        raise ProfileError(
            f"{path}: {register.__name__} has no field {name!r}; it has {_list(register.FIELDS)}"
        )
    if not isinstance(given, int) or isinstance(given, bool) or not 0 <= given <= field.mask:
        raise ProfileError(
            f"{path}: {register.__name__}.{name} is a number from 0 to {field.mask:#x}, "
            f"not {given!r}"
        )
    return given


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
