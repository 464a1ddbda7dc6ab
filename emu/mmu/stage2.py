"""The stage-2 walk: IPA to PA (Arm ARM D8.2, D8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA, PA
from emu.arch.descriptors import Descriptor, Stage2Leaf
from emu.arch.esr.fsc import FaultType
from emu.arch.granule import LAST_LEVEL
from emu.mmu.fault import Fault
from emu.mmu.permissions import ALL, stage2_permissions

if TYPE_CHECKING:
    from emu.memory import PhysicalMemory
    from emu.mmu.regime import Stage2

STAGE: Final = 2
VALID: Final = Descriptor.VALID.in_place
TYPE: Final = Descriptor.TYPE.in_place
AF: Final = Stage2Leaf.AF.in_place
XN_SHIFT: Final = Stage2Leaf.XN.lsb
S2AP_SHIFT: Final = Stage2Leaf.S2AP.lsb


class Stage2Mapping(NamedTuple):
    """What stage 2 says of one block or page of IPA space."""

    offset: int
    """PA minus IPA, the same for all of the block."""
    shift: int
    """log2 of the block's size in bytes."""
    level: int
    el0: int
    """Permissions for EL0, of :mod:`emu.mmu.permissions`."""
    el1: int
    memattr: int
    """MemAttr[3:0] of the leaf."""
    descriptor: int

    @property
    def is_device(self) -> bool:
        """Whether stage 2 makes this Device memory (MemAttr[3:2] is 0)."""
        return not self.memattr >> 2


NORMAL_WRITE_BACK: Final = 0b1111

IDENTITY: Final = Stage2Mapping(0, 48, 0, ALL, ALL, NORMAL_WRITE_BACK, 0)
"""Stage 2 switched off: the IPA is the PA."""


def walk(memory: PhysicalMemory, stage2: Stage2, ipa: IPA) -> Stage2Mapping | Fault:
    """Translate ``ipa`` through the stage-2 tables, without looking at permissions.

    Parameters
    ----------
    memory
        Where the tables are.
    stage2
        The controls, decoded from VTCR_EL2 and VTTBR_EL2.
    ipa
        The address, to the byte.

    Returns
    -------
    Stage2Mapping or Fault
        A translation, access flag or address size fault, or an external abort on the walk,
        each with the level at which it was found.
    """
    if not stage2.consistent or ipa >> stage2.input_bits:
        return Fault(FaultType.TRANSLATION, 0, STAGE, ipa)
    if stage2.base >> stage2.output_bits:
        return Fault(FaultType.ADDRESS_SIZE, 0, STAGE, ipa)
    granule = stage2.granule
    _, _, stride, block_levels, address_mask = granule
    fetch, output_bits = memory.fetch_u64, stage2.output_bits
    level = stage2.start_level
    shift = granule.level_shift(level)
    table = stage2.base
    index = ipa >> shift  # at the start level this runs over all concatenated tables
    while True:
        word = fetch(PA(table + (index << 3)))
        if word is None:
            return Fault(FaultType.EXTERNAL_ON_WALK, level, STAGE, ipa)
        if not word & VALID:
            return Fault(FaultType.TRANSLATION, level, STAGE, ipa)
        output = word & address_mask
        if level == LAST_LEVEL:
            if not word & TYPE:
                return Fault(FaultType.TRANSLATION, level, STAGE, ipa)
            break
        if not word & TYPE:
            if level not in block_levels:
                return Fault(FaultType.TRANSLATION, level, STAGE, ipa)
            output &= -(1 << shift)
            break
        if output >> output_bits:
            return Fault(FaultType.ADDRESS_SIZE, level, STAGE, ipa)
        table = PA(output)
        level += 1
        shift -= stride
        index = ipa >> shift & (1 << stride) - 1
    if output >> output_bits:
        return Fault(FaultType.ADDRESS_SIZE, level, STAGE, ipa)
    if not word & AF:
        return Fault(FaultType.ACCESS_FLAG, level, STAGE, ipa)
    el0, el1 = stage2_permissions(word >> S2AP_SHIFT & 3, word >> XN_SHIFT & 3, xnx=stage2.xnx)
    base = ipa & -(1 << shift)
    return Stage2Mapping(output - base, shift, level, el0, el1, word >> 2 & 0xF, word)
