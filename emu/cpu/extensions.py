"""Operations that came after Armv8.0: which feature brings each (Arm ARM C5.3 to C5.5).

The engine lacks most of them. What it lacks must not be hooked, because it would execute the
hook for ever; it arrives as an undefined instruction, and is carried out if the CPU has the
feature.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.a64.maintenance import AT, DC, CachePoint
from emu.arch.a64.operations import Shareability
from emu.arch.a64.tlbi import TLBI
from emu.arch.registers.identification import (
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64PFR1_EL1,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.a64.system import Operation
    from emu.arch.features import CpuFeatures


class Extension(NamedTuple):
    """One feature and the operations that it brings."""

    name: str
    in_engine: bool
    """Whether the engine's newest model has them; its model of Armv8.0 has none."""
    brings: Callable[[Operation], bool]
    present: Callable[[CpuFeatures], bool]


EXTENSIONS: Final = (
    Extension(
        "FEAT_TLBIOS",
        False,
        lambda o: isinstance(o, TLBI) and o.shareability is Shareability.OUTER,
        lambda f: f.read(ID_AA64ISAR0_EL1).TLB >= 1,
    ),
    Extension(
        "FEAT_TLBIRANGE",
        False,
        lambda o: isinstance(o, TLBI) and o.is_range,
        lambda f: f.read(ID_AA64ISAR0_EL1).TLB >= 2,
    ),
    Extension(
        "FEAT_DPB",
        True,
        lambda o: isinstance(o, DC) and o.point is CachePoint.POP,
        lambda f: f.read(ID_AA64ISAR1_EL1).DPB >= 1,
    ),
    Extension(
        "FEAT_DPB2",
        True,
        lambda o: isinstance(o, DC) and o.point is CachePoint.PODP,
        lambda f: f.read(ID_AA64ISAR1_EL1).DPB >= 2,
    ),
    Extension(
        "FEAT_MTE2",
        False,
        lambda o: isinstance(o, DC) and o.tags,
        lambda f: f.read(ID_AA64PFR1_EL1).MTE >= 2,
    ),
    Extension(
        "FEAT_PAN2",
        True,
        lambda o: isinstance(o, AT) and o.pan,
        lambda f: f.read(ID_AA64MMFR1_EL1).PAN >= 2,
    ),
)


@lru_cache(maxsize=256)
def extensions(operation: Operation) -> tuple[Extension, ...]:
    """Return all that ``operation`` needs beyond Armv8.0."""
    return tuple(extension for extension in EXTENSIONS if extension.brings(operation))


def in_engine(operation: Operation, features: CpuFeatures) -> bool:
    """Whether the engine for a CPU knows ``operation``, whether or not the CPU has it."""
    return all(not features.armv8_0 and e.in_engine for e in extensions(operation))


def is_implemented(operation: Operation, features: CpuFeatures) -> bool:
    """Whether a CPU has ``operation``."""
    return all(extension.present(features) for extension in extensions(operation))
