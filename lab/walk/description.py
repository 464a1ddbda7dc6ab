"""Tables and controls in a TOML file: what a walk needs to be done again elsewhere.

.. code-block:: toml

    profile = "cortex-a72"

    [registers]
    SCTLR_EL1 = 0x30d00981
    TTBR0_EL1 = 0x40085000

    [memory] # descriptors, by physical address
    0x800000008 = 0x800034003
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from emu.arch.address import PA
from emu.arch.profiles import ProfileError, profile
from emu.mmu.regime import ControlRegisters, decode_regime
from lab.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from emu.arch.features import CpuFeatures
    from emu.mmu.regime import TranslationRegime

DEFAULT_PROFILE: Final = "max"
REGISTERS: Final = {
    "SCTLR_EL1": "sctlr",
    "TCR_EL1": "tcr",
    "TTBR0_EL1": "ttbr0",
    "TTBR1_EL1": "ttbr1",
    "MAIR_EL1": "mair",
    "HCR_EL2": "hcr",
    "VTCR_EL2": "vtcr",
    "VTTBR_EL2": "vttbr",
    "SCTLR_EL2": "sctlr_el2",
}
"""The registers that a translation depends on, and their names in ``ControlRegisters``."""

_KEYS: Final = ("profile", "registers", "memory")
_LIMIT: Final = 1 << 64
_WORD: Final = 8


@dataclass(slots=True)
class Description:
    """Tables, the controls that make a regime of them, and the CPU.

    Attributes
    ----------
    profile
        Name or path of the CPU's profile.
    registers
        The control registers.
    words
        Descriptors by address. What is not listed reads as zero: an invalid descriptor.
    """

    profile: str
    registers: ControlRegisters
    words: dict[PA, int] = field(default_factory=dict)

    @property
    def features(self) -> CpuFeatures:
        """The CPU."""
        return profile(self.profile)

    @property
    def regime(self) -> TranslationRegime:
        """The regime that the registers make on this CPU."""
        return decode_regime(self.registers, self.features)

    def fetch_u64(self, pa: PA) -> int | None:
        """Read a descriptor; None beyond the CPU's physical addresses."""
        return self.words.get(pa, 0) if self.contains(pa) else None

    def contains(self, pa: PA, size: int = 1) -> bool:
        """Whether the CPU has such addresses."""
        return 0 <= pa <= (1 << self.features.pa_bits) - size

    def text(self) -> str:
        """Return the file that :func:`read` reads."""
        values = self.registers._asdict()
        lines = [f'profile = "{self.profile}"', "", "[registers]"]
        lines += [f"{name} = {values[key]:#x}" for name, key in REGISTERS.items()]
        lines += ["", "[memory] # descriptors, by physical address"]
        lines += [f"{pa:#x} = {word:#018x}" for pa, word in sorted(self.words.items())]
        return "".join(f"{line}\n" for line in lines)


def read(path: Path) -> Description:
    """Read a description.

    Raises
    ------
    UserError
        If the file is not one; the text names the key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    for key in content:
        if key not in _KEYS:
            raise UserError(f"{path}: unknown key {key!r}; the keys are {', '.join(_KEYS)}")
    name = content.get("profile", DEFAULT_PROFILE)
    try:
        profile(name)
    except (ProfileError, TypeError) as error:
        raise UserError(f"{path}: profile: {error}") from error
    registers = _table(path, content, "registers")
    for key in registers:
        if key not in REGISTERS:
            raise UserError(
                f"{path}: registers: {key!r} does not take part in a translation; "
                f"there are {', '.join(REGISTERS)}"
            )
    values = {key: _number(path, name, registers.get(name, 0)) for name, key in REGISTERS.items()}
    words = {
        _address(path, key): _number(path, f"memory: {key}", word)
        for key, word in _table(path, content, "memory").items()
    }
    return Description(name, ControlRegisters(**values), words)


def _table(path: Path, content: dict[str, Any], key: str) -> dict[str, Any]:
    table = content.get(key, {})
    if not isinstance(table, dict):
        raise UserError(f"{path}: {key} is a table: write [{key}] and its entries below")
    return table


def _number(path: Path, what: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        raise UserError(f"{path}: {what} is a number of 64 bits such as 0x40085003, not {value!r}")
    return value


def _address(path: Path, key: str) -> PA:
    try:
        address = int(key, 0)
    except ValueError:
        address = -1
    if address < 0 or address % _WORD:
        raise UserError(
            f"{path}: memory: an address is a multiple of 8 such as 0x40085008, not {key!r}"
        )
    return PA(address)
