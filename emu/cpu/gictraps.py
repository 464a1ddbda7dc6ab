"""Accesses to the GICv3's CPU interface that trap to EL2 (IHI 0069, 12.1 and ICH_HCR_EL2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.gic import (
    ICC_ASGI1R_EL1,
    ICC_CTLR_EL1,
    ICC_DIR_EL1,
    ICC_PMR_EL1,
    ICC_RPR_EL1,
    ICC_SGI0R_EL1,
    ICC_SGI1R_EL1,
    ICC_SRE_EL1,
    ICH_HCR_EL2,
)
from emu.arch.registers.virtualization import HCR_EL2

if TYPE_CHECKING:
    from emu.arch.fields import Encoding

_TC: Final = ICH_HCR_EL2.TC.in_place
_IRQS_TO_EL2: Final = HCR_EL2.IMO.in_place | HCR_EL2.FMO.in_place
_GENERATES_SGI: Final = frozenset(
    register.encoding for register in (ICC_SGI0R_EL1, ICC_SGI1R_EL1, ICC_ASGI1R_EL1)
)

COMMON: Final[dict[Encoding, int]] = {
    ICC_PMR_EL1.encoding: _TC,
    ICC_DIR_EL1.encoding: _TC | ICH_HCR_EL2.TDIR.in_place,
    ICC_RPR_EL1.encoding: _TC,
    ICC_CTLR_EL1.encoding: _TC,
    ICC_SRE_EL1.encoding: _TC,
    **dict.fromkeys(_GENERATES_SGI, _TC),
}
"""The ICH_HCR_EL2 bits that trap a register of both groups.

ICC_SRE_EL1 is trapped by ICC_SRE_EL2.Enable, which is taken to be the opposite of TC.
"""


def gic_traps(encoding: Encoding) -> tuple[int, int]:
    """Return the bits of ICH_HCR_EL2 and of HCR_EL2 of which each traps a register."""
    hcr = _IRQS_TO_EL2 if encoding in _GENERATES_SGI else 0
    return COMMON.get(encoding, 0) | _group_trap(encoding), hcr


def _group_trap(encoding: Encoding) -> int:
    """Return the bit that traps what is of one group: IAR, EOIR, HPPIR, BPR, APR, IGRPEN."""
    op0, op1, crn, crm, op2 = encoding
    if (op0, op1, crn) != (3, 0, 12):
        return 0
    if crm == 8 or (crm, op2) == (12, 6):
        return ICH_HCR_EL2.TALL0.in_place
    if (crm == 9 and op2 < 4) or (crm == 12 and (op2 < 4 or op2 == 7)):
        return ICH_HCR_EL2.TALL1.in_place
    return 0
