"""How the GIC that KVM emulates names itself."""

from __future__ import annotations

from typing import Final

IMPLEMENTER_ARM: Final = 0x43B
PRODUCT_ID_KVM: Final = 0x4B
"""ASCII K."""

PIDR2_GICV3: Final = 0x3B
"""The architecture revision is 3."""

GICC_IIDR: Final = PRODUCT_ID_KVM << 20 | 2 << 16 | IMPLEMENTER_ARM
"""A CPU interface of GICv2."""

GICR_IIDR: Final = PRODUCT_ID_KVM << 24 | IMPLEMENTER_ARM

REVISION_SHIFT: Final = 12
REVISION_MASK: Final = 0xF << REVISION_SHIFT
REVISIONS: Final = (2, 3)
"""What user space can make GICD_IIDR.Revision: older ones are not emulated."""


def gicd_iidr(revision: int) -> int:
    """Return GICD_IIDR."""
    return PRODUCT_ID_KVM << 24 | revision << REVISION_SHIFT | IMPLEMENTER_ARM
