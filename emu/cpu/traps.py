"""Which system instructions of EL0 and EL1 are trapped to EL2, as a table (Arm ARM, HCR_EL2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.a64.maintenance import DC, IC, CachePoint
from emu.arch.a64.operations import Shareability
from emu.arch.a64.system import Operation, SystemInstruction, SystemKind
from emu.arch.a64.tlbi import TLBI
from emu.arch.fields import Encoding
from emu.arch.registers.exceptions import AFSR0_EL1, AFSR1_EL1, ESR_EL1, FAR_EL1
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


def trap_bits(instruction: SystemInstruction) -> int:
    """Return the bits of HCR_EL2 of which each traps ``instruction``, at EL1 or EL0, to EL2."""
    return sum({rule.bit for rule in RULES if rule.matches(instruction)})
