"""Which system instructions of EL0 and EL1 are trapped to EL2, as a table (Arm ARM, HCR_EL2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.a64.maintenance import DC, IC, CachePoint
from emu.arch.a64.operations import Shareability
from emu.arch.a64.system import Operation, SystemInstruction, SystemKind
from emu.arch.a64.tlbi import TLBI
from emu.arch.fields import Encoding
from emu.arch.registers.exceptions import AFSR0_EL1, AFSR1_EL1, ESR_EL1, FAR_EL1
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
from emu.arch.registers.identification import (
    CCSIDR_EL1,
    CLIDR_EL1,
    CSSELR_EL1,
    CTR_EL0,
    REVIDR_EL1,
)
from emu.arch.registers.translation import (
    AMAIR_EL1,
    CONTEXTIDR_EL1,
    MAIR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
)
from emu.arch.registers.virtualization import HCR_EL2

if TYPE_CHECKING:
    from collections.abc import Callable


class TrapRule(NamedTuple):
    """One HCR_EL2 bit and what it traps."""

    bit: int
    matches: Callable[[SystemInstruction], bool]


_VIRTUAL_MEMORY_CONTROLS: Final = frozenset(
    register.encoding
    for register in (
        SCTLR_EL1,
        TTBR0_EL1,
        TTBR1_EL1,
        TCR_EL1,
        ESR_EL1,
        FAR_EL1,
        AFSR0_EL1,
        AFSR1_EL1,
        MAIR_EL1,
        AMAIR_EL1,
        CONTEXTIDR_EL1,
    )
)
_CACHE_IDENTIFICATION: Final = frozenset(
    register.encoding for register in (CTR_EL0, CCSIDR_EL1, CLIDR_EL1, CSSELR_EL1)
)

_REVISION: Final = frozenset({REVIDR_EL1.encoding, Encoding(3, 1, 0, 0, 7)})
"""REVIDR_EL1 and AIDR_EL1."""
_COHERENCY_OR_BEYOND: Final = frozenset({CachePoint.POC, CachePoint.POP, CachePoint.PODP})


def is_id_group_3(encoding: Encoding) -> bool:
    """Whether a register is in ID group 3: op0 3, op1 0, CRn 0, CRm 1 to 7."""
    return encoding[:3] == (3, 0, 0) and 1 <= encoding.CRm <= 7


def _reads(instruction: SystemInstruction) -> bool:
    return instruction.kind is SystemKind.MRS


def _writes(instruction: SystemInstruction) -> bool:
    return instruction.kind is SystemKind.MSR


def _reaches(operation: Operation | None, shareability: Shareability) -> bool:
    return isinstance(operation, TLBI) and operation.shareability is shareability


RULES: Final = (
    TrapRule(HCR_EL2.TID3.in_place, lambda i: _reads(i) and is_id_group_3(i.encoding)),
    TrapRule(
        HCR_EL2.TID2.in_place,
        lambda i: i.encoding in _CACHE_IDENTIFICATION,
    ),
    TrapRule(HCR_EL2.TID1.in_place, lambda i: _reads(i) and i.encoding in _REVISION),
    TrapRule(HCR_EL2.TVM.in_place, lambda i: _writes(i) and i.encoding in _VIRTUAL_MEMORY_CONTROLS),
    TrapRule(HCR_EL2.TRVM.in_place, lambda i: _reads(i) and i.encoding in _VIRTUAL_MEMORY_CONTROLS),
    TrapRule(
        HCR_EL2.TID4.in_place,
        lambda i: i.encoding in _CACHE_IDENTIFICATION and i.encoding != CTR_EL0.encoding,
    ),
    TrapRule(HCR_EL2.TTLB.in_place, lambda i: isinstance(i.operation, TLBI)),
    TrapRule(HCR_EL2.TTLBIS.in_place, lambda i: _reaches(i.operation, Shareability.INNER)),
    TrapRule(HCR_EL2.TTLBOS.in_place, lambda i: _reaches(i.operation, Shareability.OUTER)),
    TrapRule(HCR_EL2.TDZ.in_place, lambda i: i.operation is DC.ZVA),
    TrapRule(HCR_EL2.TICAB.in_place, lambda i: i.operation is IC.IALLUIS),
    TrapRule(HCR_EL2.TOCU.in_place, lambda i: i.operation in {DC.CVAU, IC.IVAU, IC.IALLU}),
    TrapRule(
        HCR_EL2.TSW.in_place,
        lambda i: isinstance(i.operation, DC) and i.operation.point is CachePoint.SET_WAY,
    ),
    TrapRule(
        HCR_EL2.TPCP.in_place,
        lambda i: isinstance(i.operation, DC) and i.operation.point in _COHERENCY_OR_BEYOND,
    ),
    TrapRule(
        HCR_EL2.TPU.in_place,
        lambda i: (
            isinstance(i.operation, IC)
            or (isinstance(i.operation, DC) and i.operation.point is CachePoint.POU)
        ),
    ),
)


_GIC_COMMON: Final = frozenset(
    register.encoding
    for register in (
        ICC_PMR_EL1,
        ICC_DIR_EL1,
        ICC_RPR_EL1,
        ICC_CTLR_EL1,
        ICC_SGI0R_EL1,
        ICC_SGI1R_EL1,
        ICC_ASGI1R_EL1,
    )
)
_GENERATES_SGI: Final = frozenset(
    register.encoding for register in (ICC_SGI0R_EL1, ICC_SGI1R_EL1, ICC_ASGI1R_EL1)
)
_ROUTED_TO_EL2: Final = HCR_EL2.IMO.in_place | HCR_EL2.FMO.in_place


def is_gic_group(encoding: Encoding, group: int) -> bool:
    """Whether a register of the GIC's CPU interface is of Group 0 or of Group 1."""
    op0, op1, crn, crm, op2 = encoding
    if (op0, op1, crn) != (3, 0, 12):
        return False
    if crm == 12:
        return (op2 <= 3 and group == 1) or op2 == 6 + group
    return group == 0 if crm == 8 else crm == 9 and op2 <= 3 and group == 1


def is_gic_trapped(encoding: Encoding, ich_hcr: int, hcr: int) -> bool:
    """Whether an access of EL1 to the GIC's CPU interface traps to EL2.

    ICC_SRE_EL2.Enable is 0 as far as this machine goes, so ICC_SRE_EL1 always does.
    """
    return bool(
        encoding == ICC_SRE_EL1.encoding
        or (encoding in _GENERATES_SGI and hcr & _ROUTED_TO_EL2)
        or (encoding in _GIC_COMMON and ich_hcr & ICH_HCR_EL2.TC.in_place)
        or (encoding == ICC_DIR_EL1.encoding and ich_hcr & ICH_HCR_EL2.TDIR.in_place)
        or (ich_hcr & ICH_HCR_EL2.TALL0.in_place and is_gic_group(encoding, 0))
        or (ich_hcr & ICH_HCR_EL2.TALL1.in_place and is_gic_group(encoding, 1))
    )


def is_trapped(instruction: SystemInstruction, hcr: int) -> bool:
    """Whether HCR_EL2 traps ``instruction``, executed at EL1 or EL0, to EL2."""
    return any(hcr & rule.bit and rule.matches(instruction) for rule in RULES)
