"""Values of ID register fields that no CPU has, or that contradict each other.

Only fields that the machine acts on are listed. Any other value of any other field is the
user's affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.identification import (
    DCZID_EL0,
    ID_AA64ISAR0_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emu.arch.fields import SystemRegister

ALLOWED: Final[dict[type[SystemRegister], dict[str, tuple[int, ...]]]] = {
    ID_AA64MMFR0_EL1: {
        "PARange": (0, 1, 2, 3, 4, 5, 6),
        "ASIDBits": (0, 2),
        "TGran4": (0, 1, 15),
        "TGran16": (0, 1, 2),
        "TGran64": (0, 15),
        "TGran4_2": (0, 1, 2, 3),
        "TGran16_2": (0, 1, 2, 3),
        "TGran64_2": (0, 1, 2),
    },
    ID_AA64MMFR1_EL1: {
        "HAFDBS": (0, 1, 2),
        "VMIDBits": (0, 2),
        "HPDS": (0, 1, 2),
        "PAN": (0, 1, 2, 3),
        "XNX": (0, 1),
    },
    ID_AA64MMFR2_EL1: {
        "VARange": (0, 1),
        "ST": (0, 1),
        "AT": (0, 1),
        "FWB": (0, 1),
        "E0PD": (0, 1),
        "EVT": (0, 1, 2),
    },
    ID_AA64ISAR0_EL1: {"Atomic": (0, 2)},
    DCZID_EL0: {"BS": tuple(range(10))},
}
"""The values of a field that the machine knows (Arm ARM D24.2, the ID registers)."""


def check(value: SystemRegister) -> Iterator[str]:
    """Yield what is wrong with an ID register, naming the field and its allowed values."""
    for name, allowed in ALLOWED.get(type(value), {}).items():
        found = type(value).FIELDS[name].decode(value)
        if found not in allowed:
            yield (
                f"{type(value).__name__}.{name} is one of {', '.join(map(str, allowed))}, "
                f"not {int(found)}"
            )
