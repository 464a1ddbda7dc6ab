"""When an access must be aligned (Arm ARM B2.8, D7.4).

Three rules: exclusive, atomic and ordered accesses always; every access while SCTLR_EL1.A is
set; every access to Device memory, which only the MMU knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.arch.a64.access import MemoryAccess
    from emu.arch.address import VA


def is_unaligned(access: MemoryAccess, address: VA) -> bool:
    """Whether an element of ``access`` is not aligned to its own size."""
    return bool(address & access.unit - 1)


def must_fault(access: MemoryAccess, *, checked: bool, lse2: bool, nAA: bool) -> bool:
    """Whether an access that is not aligned is refused, whatever memory it goes to.

    Exclusive and atomic accesses are left out: the engine checks them when they are made.

    Parameters
    ----------
    access
        The decoded instruction.
    checked
        SCTLR_EL1.A.
    lse2
        FEAT_LSE2.
    nAA
        SCTLR_EL1.nAA: ordered accesses need no alignment (FEAT_LSE2).
    """
    return checked or (access.ordered and not (lse2 and nAA))
