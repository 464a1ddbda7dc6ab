"""Access permissions as small masks, one for each privilege.

The values are those of the execution engine's page permissions. Plain integers: they are
combined on every TLB refill.
"""

from __future__ import annotations

from itertools import product
from typing import Final

READ: Final = 1
WRITE: Final = 2
EXECUTE: Final = 4
ALL: Final = READ | WRITE | EXECUTE

EL0: Final = 0
EL1: Final = 1
EL1_PAN: Final = 2
"""The privileges: EL0, EL1, and EL1 while PSTATE.PAN keeps it off what EL0 can access."""

Permissions = tuple[int, ...]
"""What is allowed, by privilege: three masks."""

EVERYTHING: Final[Permissions] = (ALL, ALL, ALL)


def combined(first: Permissions, second: Permissions, mask: int) -> Permissions:
    """Return what both stages allow and ``mask`` holds."""
    return (
        first[EL0] & second[EL0] & mask,
        first[EL1] & second[EL1] & mask,
        first[EL1_PAN] & second[EL1_PAN] & mask,
    )


AP_READ_ONLY: Final = 2
"""AP[2]: no writes at any level."""
AP_EL0: Final = 1
"""AP[1]: accessible from EL0."""


def rights(allowed: int) -> str:
    """Return a mask as people write it: ``r-x``."""
    letters = ((READ, "r"), (WRITE, "w"), (EXECUTE, "x"))
    return "".join(letter if allowed & bit else "-" for bit, letter in letters)


def stage1_permissions(ap: int, uxn: int, pxn: int, wxn: int, epan: int) -> Permissions:
    """Return the permissions of a stage-1 leaf (Arm ARM D8.4.1).

    Parameters
    ----------
    ap
        AP[2:1] of the descriptor, hierarchical restrictions applied.
    uxn, pxn
        Execute-never for EL0 and for EL1, hierarchical restrictions applied.
    wxn
        SCTLR_EL1.WXN: writable regions are not executable.
    epan
        SCTLR_EL1.EPAN: PAN covers what EL0 may execute, too.
    """
    return _STAGE1[ap << 4 | uxn << 3 | pxn << 2 | wxn << 1 | epan]


def _stage1(ap: int, uxn: int, pxn: int, wxn: int, epan: int) -> Permissions:
    write = 0 if ap & AP_READ_ONLY else WRITE
    el1 = READ | write
    el0 = READ | write if ap & AP_EL0 else 0
    # A region that EL0 can write is never executable at EL1.
    if not (pxn or el0 & WRITE or (wxn and write)):
        el1 |= EXECUTE
    # UXN alone decides for EL0: execute-only memory has no AP_EL0.
    if not (uxn or (wxn and el0 & WRITE)):
        el0 |= EXECUTE
    kept_off = el0 & READ or (epan and not uxn)
    return el0, el1, el1 & EXECUTE if kept_off else el1


_STAGE1: Final = tuple(_stage1(*bits) for bits in product(range(4), *[range(2)] * 4))

_STAGE2_EXECUTE: Final = {
    0b00: (EXECUTE, EXECUTE),
    0b01: (EXECUTE, 0),
    0b10: (0, 0),
    0b11: (0, EXECUTE),
}
"""XN[1:0] with FEAT_XNX, as (EL0, EL1) (Arm ARM D8.4.2)."""


def stage2_permissions(s2ap: int, xn: int, *, xnx: bool) -> Permissions:
    """Return the permissions of a stage-2 leaf.

    Parameters
    ----------
    s2ap
        S2AP[1:0]: bit 0 read, bit 1 write.
    xn
        Descriptor bits [54:53].
    xnx
        Whether FEAT_XNX gives bit [53] a meaning.
    """
    return _STAGE2[s2ap << 2 | (xn if xnx else xn & 0b10)]


def _stage2(s2ap: int, xn: int) -> Permissions:
    execute0, execute1 = _STAGE2_EXECUTE[xn]
    return s2ap | execute0, s2ap | execute1, s2ap | execute1


_STAGE2: Final = tuple(_stage2(*bits) for bits in product(range(4), range(4)))
