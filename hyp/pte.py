"""Stage-2 descriptors as KVM writes them (4 KiB granule, 48-bit addresses).

The layout follows Arm ARM D8.3; which bits KVM sets is that of
arch/arm64/kvm/hyp/pgtable.c. The page-table code works on plain integers with
the masks below, which come from the layout.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from emu.arch.address import PA
from emu.arch.bits import bit, bits
from emu.arch.fields import Layout
from emu.arch.registers.translation import Shareability


class InvalidPteType(IntEnum):
    """What an invalid descriptor that is not zero stands for."""

    NONE = 0
    """Nothing: there is no mapping."""
    LOCKED = 1
    """A break is under way: whoever meets it lets the guest fault again."""
    HOST_DONATION = 2
    """The host gave the page away."""
    GUEST_POISONED = 3
    """The guest's page is gone, and an access to it is an error."""


class ExecuteNever(IntEnum):
    """The XN field; bit 54 alone unless FEAT_XNX is used."""

    EXECUTABLE = 0
    NEVER = 2


class MemAttr(IntEnum):
    """Memory attributes of a leaf without FEAT_S2FWB."""

    DEVICE_nGnRE = 0x1
    NORMAL_NC = 0x5
    NORMAL = 0xF


class MemAttrFWB(IntEnum):
    """Memory attributes of a leaf with HCR_EL2.FWB set."""

    DEVICE_nGnRE = 0x1
    NORMAL_NC = 0x5
    NORMAL = 0x6


class Stage2Pte(Layout):
    """A stage-2 descriptor."""

    INVALID_TYPE = bits(63, 60, InvalidPteType)
    SW = bits(58, 55)
    XN = bits(54, 53, ExecuteNever)
    OA = bits(47, 12)
    AF = bit(10)
    SH = bits(9, 8, Shareability)
    S2AP_W = bit(7)
    S2AP_R = bit(6)
    MemAttr = bits(5, 2)
    TYPE = bit(1)
    VALID = bit(0)


PTE_VALID: Final = Stage2Pte.VALID.in_place
PTE_TYPE: Final = Stage2Pte.TYPE.in_place
PTE_ADDR: Final = Stage2Pte.OA.in_place
PTE_R: Final = Stage2Pte.S2AP_R.in_place
PTE_W: Final = Stage2Pte.S2AP_W.in_place
PTE_XN: Final = Stage2Pte.XN.encode(ExecuteNever.NEVER)
PTE_AF: Final = Stage2Pte.AF.in_place
PTE_SW: Final = Stage2Pte.SW.in_place
PTE_MEMATTR: Final = Stage2Pte.MemAttr.in_place
PTE_PERMS: Final = PTE_R | PTE_W | PTE_XN
PTE_LOCKED: Final = int(Stage2Pte.build(INVALID_TYPE=InvalidPteType.LOCKED))
PTE_TABLE: Final = PTE_VALID | PTE_TYPE
ANNOTATION: Final = (1 << 64) - 1 & ~(Stage2Pte.INVALID_TYPE.in_place | PTE_VALID)
"""The bits of an invalid descriptor that its type leaves free."""

LAST_LEVEL: Final = 3
PTRS_PER_PTE: Final = 512

GRANULE_SHIFT: Final = (39, 30, 21, 12)
"""log2 of what one entry of level 0 to 3 covers."""

GRANULE: Final = tuple(1 << shift for shift in GRANULE_SHIFT)
"""What one entry of level 0 to 3 covers, in bytes."""

MIN_BLOCK_LEVEL: Final = 1
"""The first level at which a leaf is allowed."""

LEAF_TYPE: Final = (0, PTE_VALID, PTE_VALID, PTE_VALID | PTE_TYPE)
"""The low bits of a leaf, by level: block or page."""


class Prot(IntFlag):
    """``enum kvm_pgtable_prot``: what a mapping is to allow, and what memory it is."""

    X = 1
    W = 2
    R = 4
    DEVICE = 8
    NORMAL_NC = 16


_PROT_OF_MEMATTR: Final = {
    int(Stage2Pte.build(MemAttr=MemAttr.DEVICE_nGnRE)): Prot.DEVICE,
    int(Stage2Pte.build(MemAttr=MemAttr.NORMAL_NC)): Prot.NORMAL_NC,
}
"""The types whose codes are the same with FEAT_S2FWB and without."""


def stage2_attr(prot: Prot, *, fwb: bool) -> int | None:
    """Return the attribute bits of a leaf (``stage2_set_prot_attr``).

    Parameters
    ----------
    prot
        What the leaf is to allow.
    fwb
        Whether HCR_EL2.FWB is set, which changes the meaning of MemAttr.

    Returns
    -------
    int or None
        ``None`` where KVM says EINVAL: executable device memory, or two memory
        types at once.
    """
    memattr: type[MemAttr | MemAttrFWB] = MemAttrFWB if fwb else MemAttr
    kind = memattr.NORMAL
    if prot & Prot.DEVICE:
        if prot & (Prot.X | Prot.NORMAL_NC):
            return None
        kind = memattr.DEVICE_nGnRE
    elif prot & Prot.NORMAL_NC:
        kind = memattr.NORMAL_NC
    return int(
        Stage2Pte.build(
            MemAttr=kind,
            S2AP_R=bool(prot & Prot.R),
            S2AP_W=bool(prot & Prot.W),
            SH=Shareability.INNER_SHAREABLE,
            AF=1,
            XN=ExecuteNever.EXECUTABLE if prot & Prot.X else ExecuteNever.NEVER,
        )
    )


def pte_valid(pte: int) -> bool:
    """Return whether the hardware looks at this descriptor."""
    return bool(pte & PTE_VALID)


def pte_table(pte: int, level: int) -> bool:
    """Return whether the descriptor points at a table of the next level."""
    return pte & PTE_TABLE == PTE_TABLE and level < LAST_LEVEL


def pte_counted(pte: int) -> bool:
    """Return whether the descriptor holds a reference on its table: any that is not zero."""
    return pte != 0


def pte_to_phys(pte: int) -> PA:
    """Return the output address, or the address of the next table."""
    return PA(pte & PTE_ADDR)


def pte_executable(pte: int) -> bool:
    """Return whether a leaf may be executed."""
    return not pte & PTE_XN


def annotation_pte(kind: InvalidPteType, annotation: int) -> int:
    """Return an invalid descriptor that stands for something."""
    return int(Stage2Pte.build(INVALID_TYPE=kind)) | annotation


def pte_prot(pte: int) -> Prot:
    """Return what a leaf allows, and its memory type (``kvm_pgtable_stage2_pte_prot``)."""
    prot = _PROT_OF_MEMATTR.get(pte & PTE_MEMATTR, Prot(0))
    if pte & PTE_R:
        prot |= Prot.R
    if pte & PTE_W:
        prot |= Prot.W
    if not pte & PTE_XN:
        prot |= Prot.X
    return prot
