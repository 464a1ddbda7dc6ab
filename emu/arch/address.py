"""The three address spaces of the EL1&0 translation regime, as distinct types.

Arm ARM D8.1: stage 1 maps a virtual address (VA) to an intermediate physical
address (IPA), stage 2 maps that to a physical address (PA). They are all 64-bit
integers at run time; the type checker keeps them apart.
"""

from typing import Final, NewType

VA = NewType("VA", int)
"""A virtual address, as the guest's instructions use it. All 64 bits, tag included."""

IPA = NewType("IPA", int)
"""An intermediate physical address: what the guest believes to be physical."""

PA = NewType("PA", int)
"""A physical address of the machine."""

PAGE_SHIFT: Final = 12
PAGE_SIZE: Final = 1 << PAGE_SHIFT
PAGE_MASK: Final = PAGE_SIZE - 1
"""The smallest granule, 4 KiB; also the page of the execution engine's TLB."""
