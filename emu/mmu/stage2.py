"""The stage-2 walk: IPA to PA (Arm ARM D8.2, D8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA, PA
from emu.arch.descriptors import Descriptor, Stage2Leaf, swapped
from emu.arch.esr.fsc import FaultType
from emu.mmu.fault import Fault
from emu.mmu.permissions import EVERYTHING, WRITE, Permissions, stage2_permissions

if TYPE_CHECKING:
    from emu.memory import TableMemory
    from emu.mmu.regime import Stage2

STAGE: Final = 2
VALID: Final = Descriptor.VALID.in_place
NEXT: Final = Descriptor.TYPE.in_place | VALID
"""A table, or at the last level a page."""
AF: Final = Stage2Leaf.AF.in_place
DBM: Final = Stage2Leaf.DBM.in_place
XN_SHIFT: Final = Stage2Leaf.XN.lsb
S2AP_SHIFT: Final = Stage2Leaf.S2AP.lsb
S2AP_W: Final = WRITE << S2AP_SHIFT
MEMATTR_SHIFT: Final = Stage2Leaf.MemAttr.lsb


class Stage2Mapping(NamedTuple):
    """What stage 2 says of one block or page of IPA space."""

    offset: int
    """PA minus IPA, the same for all of the block."""
    shift: int
    """log2 of the block's size in bytes."""
    level: int
    allowed: Permissions
    """Permissions, writing to a clean page included."""
    memattr: int
    """MemAttr[3:0] of the leaf."""
    clean: bool
    """Writable once hardware has marked the page dirty (DBM)."""
    address: PA
    """Where the leaf descriptor is."""
    descriptor: int
    """The leaf descriptor, as it was read."""


NORMAL_WRITE_BACK: Final = 0b1111

IDENTITY: Final = Stage2Mapping(
    0, 52, 0, EVERYTHING, NORMAL_WRITE_BACK, clean=False, address=PA(0), descriptor=AF
)
"""Stage 2 switched off: the IPA is the PA."""


def walk(memory: TableMemory, stage2: Stage2, ipa: IPA) -> Stage2Mapping | Fault:
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
    output: int = stage2.base
    limit = 1 << stage2.output_bits
    if output >= limit:
        return Fault(FaultType.ADDRESS_SIZE, 0, STAGE, ipa)
    granule = stage2.granule
    address_mask, is_split, big_endian = granule.address_mask, granule.high.mask, stage2.big_endian
    for level, shift, index_mask, has_blocks in stage2.steps:
        address = output + ((ipa >> shift & index_mask) << 3)
        found = memory.fetch_u64(address)  # type: ignore[arg-type]  # NewType calls cost time
        if found is None:
            return Fault(memory.walk_error(PA(address)), level, STAGE, ipa)
        word = swapped(found) if big_endian else found
        output = granule.address(word) if is_split else word & address_mask
        is_block = word & NEXT != NEXT
        if is_block:
            if not (word & VALID and has_blocks):
                return Fault(FaultType.TRANSLATION, level, STAGE, ipa)
            output &= -(1 << shift)
        if output >= limit:
            return Fault(FaultType.ADDRESS_SIZE, level, STAGE, ipa)
        if is_block:
            break
    if not word & AF and not stage2.ha:
        return Fault(FaultType.ACCESS_FLAG, level, STAGE, ipa)
    s2ap = word >> S2AP_SHIFT & 3
    clean = bool(stage2.hd and word & DBM and not s2ap & WRITE)
    if clean:
        s2ap |= WRITE
    return Stage2Mapping(
        output - (ipa & -(1 << shift)),
        shift,
        level,
        stage2_permissions(s2ap, word >> XN_SHIFT & 3, xnx=stage2.xnx),
        word >> MEMATTR_SHIFT & 0xF,
        clean,
        PA(address),
        word,
    )


def updated(mapping: Stage2Mapping, *, write: bool) -> int:
    """Return the descriptor as hardware leaves it after an access that was allowed."""
    word = mapping.descriptor | AF
    return word | S2AP_W if write and mapping.clean else word
