"""Registers of the GICv3's CPU interface (IHI 0069, 12).

The interface itself is not part of the machine: what EL1 accesses traps to EL2, as EL2 asks for.
"""

from __future__ import annotations

from emu.arch.bits import bit, bits
from emu.arch.fields import Layout, SystemRegister


class ICC_PMR_EL1(SystemRegister, encoding=(3, 0, 4, 6, 0)):
    """Priority mask."""


class ICC_DIR_EL1(SystemRegister, encoding=(3, 0, 12, 11, 1)):
    """Deactivates an interrupt."""


class ICC_RPR_EL1(SystemRegister, encoding=(3, 0, 12, 11, 3)):
    """Running priority."""


class SoftwareGeneratedInterrupt(Layout):
    """What the three registers that generate SGIs have in common."""

    Aff3 = bits(55, 48)
    RS = bits(47, 44)
    IRM = bit(40)
    Aff2 = bits(39, 32)
    INTID = bits(27, 24)
    Aff1 = bits(23, 16)
    TargetList = bits(15, 0)


class ICC_SGI1R_EL1(SoftwareGeneratedInterrupt, SystemRegister, encoding=(3, 0, 12, 11, 5)):
    """Generates an SGI of Group 1."""


class ICC_ASGI1R_EL1(SoftwareGeneratedInterrupt, SystemRegister, encoding=(3, 0, 12, 11, 6)):
    """Generates an SGI of Group 1 for the other Security state."""


class ICC_SGI0R_EL1(SoftwareGeneratedInterrupt, SystemRegister, encoding=(3, 0, 12, 11, 7)):
    """Generates an SGI of Group 0."""


class ICC_CTLR_EL1(SystemRegister, encoding=(3, 0, 12, 12, 4)):
    """Control of the CPU interface."""

    A3V = bit(15)
    SEIS = bit(14)
    IDbits = bits(13, 11)
    PRIbits = bits(10, 8)
    EOImode = bit(1)
    CBPR = bit(0)


class ICC_SRE_EL1(SystemRegister, encoding=(3, 0, 12, 12, 5)):
    """Whether the system registers are on."""


class ICH_HCR_EL2(SystemRegister, encoding=(3, 4, 12, 11, 0)):
    """Hyp control of the virtual CPU interface: what of it traps to EL2."""

    TDIR = bit(14)
    TALL1 = bit(12)
    TALL0 = bit(11)
    TC = bit(10)
    En = bit(0)
