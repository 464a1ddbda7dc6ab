"""The stage-1 walk of EL1&0: VA to IPA (Arm ARM D8.2, D8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA, PAGE_SHIFT, VA
from emu.arch.descriptors import Descriptor, Stage1Leaf, Stage1Table
from emu.arch.esr.fsc import FaultType
from emu.arch.granule import LAST_LEVEL
from emu.mmu.fault import Fault
from emu.mmu.permissions import ALL, stage1_permissions

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.mmu.regime import Stage1, Stage1Half

STAGE: Final = 1
VALID: Final = Descriptor.VALID.in_place
TYPE: Final = Descriptor.TYPE.in_place
AF: Final = Stage1Leaf.AF.in_place

UPPER_HALF: Final = 1 << 55
"""VA bit 55 chooses between TTBR0_EL1 and TTBR1_EL1."""
ADDRESS_BITS: Final = (1 << 56) - 1
TAG: Final = 0xFF << 56


class Stage1Mapping(NamedTuple):
    """What stage 1 says of one block or page of VA space."""

    offset: int
    """IPA minus VA, the same for all of the block."""
    shift: int
    """log2 of the block's size in bytes."""
    level: int
    el0: int
    """Permissions for EL0, of :mod:`emu.mmu.permissions`."""
    el1: int
    is_global: bool
    """Valid for all ASIDs: nG is 0."""
    attr_index: int
    """AttrIndx: the field of MAIR_EL1."""
    descriptor: int


FLAT: Final = Stage1Mapping(
    0, PAGE_SHIFT, LAST_LEVEL, ALL, ALL, is_global=False, attr_index=0, descriptor=0
)
"""Stage 1 switched off: the VA is the IPA, and the TLB holds it page by page."""


def walk(stage1: Stage1, va: VA, fetch: Callable[[IPA, int], int | Fault]) -> Stage1Mapping | Fault:
    """Translate ``va`` through the stage-1 tables, without looking at permissions.

    Parameters
    ----------
    stage1
        The controls, decoded from SCTLR_EL1, TCR_EL1 and the TTBRs.
    va
        The address, to the byte, tag included.
    fetch
        Reads a descriptor at an IPA for a level: through stage 2, and with its faults.

    Returns
    -------
    Stage1Mapping or Fault
        A fault of either stage: stage 2 may refuse the walk's own accesses (S1PTW).
    """
    half = stage1.upper if va & UPPER_HALF else stage1.lower
    if not half.walks or not _in_range(va, half):
        return Fault(FaultType.TRANSLATION, 0, STAGE)
    granule = half.granule
    if half.base >> stage1.output_bits:
        return Fault(FaultType.ADDRESS_SIZE, 0, STAGE)
    level = half.start_level
    shift = granule.level_shift(level)
    table = half.base
    index = (va & ((1 << half.input_bits) - 1)) >> shift
    ap_table = uxn_table = pxn_table = 0
    while True:
        word = fetch(IPA(table + (index << 3)), level)
        if isinstance(word, Fault):
            return word
        if not word & VALID:
            return Fault(FaultType.TRANSLATION, level, STAGE)
        output = word & granule.address_mask
        if level == LAST_LEVEL:
            if not word & TYPE:
                return Fault(FaultType.TRANSLATION, level, STAGE)
            break
        if not word & TYPE:
            if level not in granule.block_levels:
                return Fault(FaultType.TRANSLATION, level, STAGE)
            output &= -(1 << shift)
            break
        if output >> stage1.output_bits:
            return Fault(FaultType.ADDRESS_SIZE, level, STAGE)
        ap_table |= Stage1Table.APTable.decode(word)
        uxn_table |= Stage1Table.UXNTable.decode(word)
        pxn_table |= Stage1Table.PXNTable.decode(word)
        table = IPA(output)
        level += 1
        shift -= granule.stride
        index = va >> shift & ((1 << granule.stride) - 1)
    if output >> stage1.output_bits:
        return Fault(FaultType.ADDRESS_SIZE, level, STAGE)
    if not word & AF:
        return Fault(FaultType.ACCESS_FLAG, level, STAGE)
    # APTable[1] removes writes, APTable[0] removes EL0; both only ever restrict (D8.4.1).
    ap = Stage1Leaf.AP.decode(word) & ~(ap_table & 1) | ap_table & 2
    el0, el1 = stage1_permissions(
        ap,
        Stage1Leaf.UXN.decode(word) | uxn_table,
        Stage1Leaf.PXN.decode(word) | pxn_table,
        stage1.wxn,
    )
    base = va & -(1 << shift)
    return Stage1Mapping(
        output - base,
        shift,
        level,
        el0,
        el1,
        is_global=not Stage1Leaf.nG.decode(word),
        attr_index=Stage1Leaf.AttrIndx.decode(word),
        descriptor=word,
    )


def _in_range(va: VA, half: Stage1Half) -> bool:
    """Whether the bits above the input address are all equal to bit 55 (tag aside)."""
    top = (va & ADDRESS_BITS if half.tbi else va) >> half.input_bits
    width = (56 if half.tbi else 64) - half.input_bits
    return top == ((1 << width) - 1 if va & UPPER_HALF else 0)
