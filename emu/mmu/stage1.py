"""The stage-1 walk of EL1&0: VA to IPA (Arm ARM D8.2, D8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA, PAGE_SHIFT, VA
from emu.arch.descriptors import Descriptor, Stage1Leaf, Stage1Table, swapped
from emu.arch.esr.fsc import FaultType
from emu.arch.granule import LAST_LEVEL
from emu.mmu.fault import Fault
from emu.mmu.permissions import AP_READ_ONLY, EVERYTHING, Permissions, stage1_permissions

if TYPE_CHECKING:
    from emu.mmu.regime import Stage1, Stage1Half

STAGE: Final = 1
VALID: Final = Descriptor.VALID.in_place
NEXT: Final = Descriptor.TYPE.in_place | VALID
"""A table, or at the last level a page."""
AF: Final = Stage1Leaf.AF.in_place
NG: Final = Stage1Leaf.nG.in_place
CONTIGUOUS: Final = Stage1Leaf.Contiguous.in_place
DBM: Final = Stage1Leaf.DBM.in_place
AP_SHIFT: Final = Stage1Leaf.AP.lsb
AP_READ_ONLY_BIT: Final = AP_READ_ONLY << AP_SHIFT
UXN_SHIFT: Final = Stage1Leaf.UXN.lsb
PXN_SHIFT: Final = Stage1Leaf.PXN.lsb
ATTR_SHIFT: Final = Stage1Leaf.AttrIndx.lsb
AP_TABLE_SHIFT: Final = Stage1Table.APTable.lsb
UXN_TABLE_SHIFT: Final = Stage1Table.UXNTable.lsb
PXN_TABLE_SHIFT: Final = Stage1Table.PXNTable.lsb

UPPER_HALF: Final = 1 << 55
"""VA bit 55 chooses between TTBR0_EL1 and TTBR1_EL1."""
ADDRESS_BITS: Final = (1 << 56) - 1
"""A VA without its tag."""


class Stage1Mapping:
    """What stage 1 says of one block or page of VA space. Each walk makes one: it is a plain class.

    Attributes
    ----------
    offset
        IPA minus VA without its tag, the same for all of the block.
    shift
        log2 of the block's size in bytes.
    level
        The level of the leaf.
    allowed
        Permissions, writing to a clean page included.
    is_global
        Valid for all ASIDs: nG is 0.
    attribute
        The memory attribute, as encoded in MAIR_EL1.
    clean
        Writable once hardware has marked the page dirty (DBM).
    address
        Where the leaf descriptor is.
    descriptor
        The leaf descriptor, as it was read.
    """

    __slots__ = (
        "address",
        "allowed",
        "attribute",
        "clean",
        "descriptor",
        "is_global",
        "level",
        "offset",
        "shift",
    )

    def __init__(
        self,
        offset: int,
        shift: int,
        level: int,
        allowed: Permissions,
        is_global: bool,
        attribute: int,
        clean: bool,
        address: IPA,
        descriptor: int,
    ) -> None:
        self.offset = offset
        self.shift = shift
        self.level = level
        self.allowed = allowed
        self.is_global = is_global
        self.attribute = attribute
        self.clean = clean
        self.address = address
        self.descriptor = descriptor


def flat(attribute: int) -> Stage1Mapping:
    """Return what stage 1 says while it is off: the VA is the IPA, held page by page."""
    return Stage1Mapping(
        0,
        PAGE_SHIFT,
        LAST_LEVEL,
        EVERYTHING,
        is_global=False,
        attribute=attribute,
        clean=False,
        address=IPA(0),
        descriptor=AF,
    )


class Tables:
    """What the tables are read by."""

    def fetch(self, ipa: IPA, level: int) -> int | Fault:
        """Read the descriptor at an IPA for a level: through stage 2, and with its faults."""
        raise NotImplementedError


def walk(stage1: Stage1, va: VA, tables: Tables) -> Stage1Mapping | Fault:
    """Translate ``va`` through the stage-1 tables, without looking at permissions.

    Parameters
    ----------
    stage1
        The controls, decoded from SCTLR_EL1, TCR_EL1 and the TTBRs.
    va
        The address, to the byte, tag included.
    tables
        Reads the descriptors.

    Returns
    -------
    Stage1Mapping or Fault
        A fault of either stage: stage 2 may refuse the walk's own accesses (S1PTW).
    """
    vaddress: int = va & ADDRESS_BITS
    half = stage1.upper if vaddress & UPPER_HALF else stage1.lower
    # The bits above the input address are all equal to bit 55, tag aside.
    if not half.walks or va >> half.input_bits & half.checked != half.top:
        return Fault(FaultType.TRANSLATION, 0, STAGE)
    output: int = half.base
    limit = 1 << half.output_bits
    if output >= limit:
        return Fault(FaultType.ADDRESS_SIZE, 0, STAGE)
    granule = half.granule
    address_mask, is_split, big_endian = granule.address_mask, granule.high.mask, stage1.big_endian
    word = hierarchical = 0
    for level, shift, index_mask, has_blocks in half.steps:
        hierarchical |= word
        address = output + ((vaddress >> shift & index_mask) << 3)
        found = tables.fetch(address, level)  # type: ignore[arg-type]  # NewType calls cost time
        if not isinstance(found, int):
            return found
        word = swapped(found) if big_endian else found
        output = granule.address(word) if is_split else word & address_mask
        is_block = word & NEXT != NEXT
        if is_block:
            if not (word & VALID and has_blocks):
                return Fault(FaultType.TRANSLATION, level, STAGE)
            output &= -(1 << shift)
        if output >= limit:
            return Fault(FaultType.ADDRESS_SIZE, level, STAGE)
        if is_block:
            break
    if not word & AF and not stage1.ha:
        return Fault(FaultType.ACCESS_FLAG, level, STAGE)
    clean = bool(stage1.hd and word & DBM and word & AP_READ_ONLY_BIT)
    return Stage1Mapping(
        output - (vaddress & -(1 << shift)),
        shift,
        level,
        _permissions(
            word & ~AP_READ_ONLY_BIT if clean else word,
            0 if half.hpd else hierarchical,
            stage1.wxn,
            stage1.epan,
        ),
        not word & NG,
        stage1.attributes[word >> ATTR_SHIFT & 7],
        clean,
        address,  # type: ignore[arg-type]  # as above
        word,
    )


def _permissions(word: int, hierarchical: int, wxn: int, epan: int) -> Permissions:
    """Return the permissions of a leaf below table descriptors with these bits together.

    APTable[1] removes writes, APTable[0] removes EL0; both only ever restrict (D8.4.1). What
    dirty state makes writable counts as writable, for WXN too.
    """
    ap_table = hierarchical >> AP_TABLE_SHIFT & 3
    return stage1_permissions(
        word >> AP_SHIFT & 3 & ~(ap_table & 1) | ap_table & 2,
        (word >> UXN_SHIFT | hierarchical >> UXN_TABLE_SHIFT) & 1,
        (word >> PXN_SHIFT | hierarchical >> PXN_TABLE_SHIFT) & 1,
        wxn,
        epan,
    )


def updated(mapping: Stage1Mapping, *, write: bool) -> int:
    """Return the descriptor as hardware leaves it after an access that was allowed."""
    word = mapping.descriptor | AF
    return word & ~AP_READ_ONLY_BIT if write and mapping.clean else word


def half_of(stage1: Stage1, va: VA) -> Stage1Half:
    """Return the half of the address space that ``va`` lies in."""
    return stage1.upper if va & UPPER_HALF else stage1.lower
