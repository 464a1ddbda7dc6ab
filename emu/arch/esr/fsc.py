"""Fault status codes: DFSC and IFSC of an abort, FST of PAR_EL1 (Arm ARM D24.2, ESR_ELx).

Most codes are a type of fault at a level of the walk. ``fsc`` makes the code from
the two; ``FaultStatusCode.fault`` and ``.level`` give them back.
"""

from __future__ import annotations

from enum import Enum, IntEnum


class FaultType(Enum):
    """What went wrong; the value is the wording of the Arm ARM."""

    ADDRESS_SIZE = "address size fault"
    TRANSLATION = "translation fault"
    ACCESS_FLAG = "access flag fault"
    PERMISSION = "permission fault"
    EXTERNAL = "synchronous external abort"
    EXTERNAL_ON_WALK = "synchronous external abort on a translation table walk"
    TAG_CHECK = "synchronous tag check fault"
    PARITY = "synchronous parity or ECC error"
    PARITY_ON_WALK = "synchronous parity or ECC error on a translation table walk"
    ALIGNMENT = "alignment fault"
    GRANULE_PROTECTION = "granule protection fault"
    GRANULE_PROTECTION_ON_WALK = "granule protection fault on a translation table walk"
    TLB_CONFLICT = "TLB conflict abort"
    UNSUPPORTED_ATOMIC_UPDATE = "unsupported atomic hardware update fault"
    LOCKDOWN = "implementation defined fault (lockdown)"
    UNSUPPORTED_EXCLUSIVE = "implementation defined fault (unsupported exclusive or atomic access)"

    # Members are singletons. Enum's own hash is Python code, and this one is on the abort path.
    __hash__ = object.__hash__


class FaultStatusCode(IntEnum):
    """Every allocated code. ``L3`` is level 3, ``LM1`` level -1 (FEAT_LPA2), ``LM2`` level -2."""

    ADDRESS_SIZE_L0 = 0x00
    ADDRESS_SIZE_L1 = 0x01
    ADDRESS_SIZE_L2 = 0x02
    ADDRESS_SIZE_L3 = 0x03
    TRANSLATION_L0 = 0x04
    TRANSLATION_L1 = 0x05
    TRANSLATION_L2 = 0x06
    TRANSLATION_L3 = 0x07
    ACCESS_FLAG_L0 = 0x08
    ACCESS_FLAG_L1 = 0x09
    ACCESS_FLAG_L2 = 0x0A
    ACCESS_FLAG_L3 = 0x0B
    PERMISSION_L0 = 0x0C
    PERMISSION_L1 = 0x0D
    PERMISSION_L2 = 0x0E
    PERMISSION_L3 = 0x0F
    EXTERNAL = 0x10
    TAG_CHECK = 0x11
    EXTERNAL_ON_WALK_LM2 = 0x12
    EXTERNAL_ON_WALK_LM1 = 0x13
    EXTERNAL_ON_WALK_L0 = 0x14
    EXTERNAL_ON_WALK_L1 = 0x15
    EXTERNAL_ON_WALK_L2 = 0x16
    EXTERNAL_ON_WALK_L3 = 0x17
    PARITY = 0x18
    PARITY_ON_WALK_LM1 = 0x1B
    PARITY_ON_WALK_L0 = 0x1C
    PARITY_ON_WALK_L1 = 0x1D
    PARITY_ON_WALK_L2 = 0x1E
    PARITY_ON_WALK_L3 = 0x1F
    ALIGNMENT = 0x21
    GRANULE_PROTECTION_ON_WALK_LM2 = 0x22
    GRANULE_PROTECTION_ON_WALK_LM1 = 0x23
    GRANULE_PROTECTION_ON_WALK_L0 = 0x24
    GRANULE_PROTECTION_ON_WALK_L1 = 0x25
    GRANULE_PROTECTION_ON_WALK_L2 = 0x26
    GRANULE_PROTECTION_ON_WALK_L3 = 0x27
    GRANULE_PROTECTION = 0x28
    ADDRESS_SIZE_LM1 = 0x29
    TRANSLATION_LM2 = 0x2A
    TRANSLATION_LM1 = 0x2B
    ADDRESS_SIZE_LM2 = 0x2C
    TLB_CONFLICT = 0x30
    UNSUPPORTED_ATOMIC_UPDATE = 0x31
    LOCKDOWN = 0x34
    UNSUPPORTED_EXCLUSIVE = 0x35

    @property
    def fault(self) -> FaultType:
        """The type of fault, without its level."""
        return _TYPE_AND_LEVEL[self][0]

    @property
    def level(self) -> int | None:
        """The level of the walk, -2 to 3; None where the code carries none."""
        return _TYPE_AND_LEVEL[self][1]

    @property
    def description(self) -> str:
        """The fault and its level in words: ``translation fault at level 3``."""
        level = "" if self.level is None else f" at level {self.level}"
        return f"{self.fault.value}{level}"


_CODES: dict[FaultType, dict[int | None, int]] = {
    FaultType.ADDRESS_SIZE: {-2: 0x2C, -1: 0x29, 0: 0x00, 1: 0x01, 2: 0x02, 3: 0x03},
    FaultType.TRANSLATION: {-2: 0x2A, -1: 0x2B, 0: 0x04, 1: 0x05, 2: 0x06, 3: 0x07},
    FaultType.ACCESS_FLAG: {0: 0x08, 1: 0x09, 2: 0x0A, 3: 0x0B},
    FaultType.PERMISSION: {0: 0x0C, 1: 0x0D, 2: 0x0E, 3: 0x0F},
    FaultType.EXTERNAL: {None: 0x10},
    FaultType.EXTERNAL_ON_WALK: {-2: 0x12, -1: 0x13, 0: 0x14, 1: 0x15, 2: 0x16, 3: 0x17},
    FaultType.TAG_CHECK: {None: 0x11},
    FaultType.PARITY: {None: 0x18},
    FaultType.PARITY_ON_WALK: {-1: 0x1B, 0: 0x1C, 1: 0x1D, 2: 0x1E, 3: 0x1F},
    FaultType.ALIGNMENT: {None: 0x21},
    FaultType.GRANULE_PROTECTION: {None: 0x28},
    FaultType.GRANULE_PROTECTION_ON_WALK: {-2: 0x22, -1: 0x23, 0: 0x24, 1: 0x25, 2: 0x26, 3: 0x27},
    FaultType.TLB_CONFLICT: {None: 0x30},
    FaultType.UNSUPPORTED_ATOMIC_UPDATE: {None: 0x31},
    FaultType.LOCKDOWN: {None: 0x34},
    FaultType.UNSUPPORTED_EXCLUSIVE: {None: 0x35},
}
"""The code of each type, by level; None for a fault that has no level."""

_TYPE_AND_LEVEL = {
    FaultStatusCode(code): (fault, level)
    for fault, levels in _CODES.items()
    for level, code in levels.items()
}

_STATUS = {fault_and_level: code for code, fault_and_level in _TYPE_AND_LEVEL.items()}

MMU_FAULTS = frozenset(
    {
        FaultType.ADDRESS_SIZE,
        FaultType.TRANSLATION,
        FaultType.ACCESS_FLAG,
        FaultType.PERMISSION,
    }
)
"""The faults that a descriptor causes, at a stage and a level of translation."""

EXTERNAL_ABORTS = frozenset({FaultType.EXTERNAL, FaultType.EXTERNAL_ON_WALK})
"""The faults that the memory system causes."""

MEMORY_ERRORS = EXTERNAL_ABORTS | {FaultType.PARITY, FaultType.PARITY_ON_WALK}
"""What HCR_EL2.TEA routes to EL2 (Arm ARM J1.3, ``IsExternalAbort``): those, and ECC errors, which
have codes of their own without FEAT_RAS."""


def fsc(fault: FaultType, level: int | None = None) -> FaultStatusCode:
    """Return the status code of a fault.

    Parameters
    ----------
    fault
        The type of fault.
    level
        The level of the walk, -2 to 3; None for a fault that has no level.

    Raises
    ------
    ValueError
        If the architecture has no code for this fault at this level.
    """
    code = _STATUS.get((fault, level))
    if code is None:
        levels = ", ".join(str(known) for known in _CODES[fault])
        raise ValueError(
            f"no status code for a {fault.value} at level {level}; levels with a code: {levels}"
        )
    return code
