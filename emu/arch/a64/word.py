"""The fields of A64 instruction words, in the notation of :mod:`emu.arch.fields`."""

from __future__ import annotations

from emu.arch.bits import bit, bits
from emu.arch.fields import Layout


class LoadStoreWord(Layout):
    """Every field that some load or store encoding has (Arm ARM C4.1, Loads and Stores)."""

    size = bits(31, 30)
    Q = bit(30)
    V = bit(26)
    opc = bits(23, 22)
    o2 = bit(23)
    A = bit(23)
    imm19 = bits(23, 5)
    L = bit(22)
    R_atomic = bit(22)
    o1 = bit(21)
    R_structure = bit(21)
    imm12 = bits(21, 10)
    imm7 = bits(21, 15)
    Rm = bits(20, 16)
    Rs = bits(20, 16)
    imm9 = bits(20, 12)
    opcode = bits(15, 12)
    o0 = bit(15)
    o3 = bit(15)
    option = bits(15, 13)
    opcode_single = bits(15, 13)
    opc_atomic = bits(14, 12)
    Rt2 = bits(14, 10)
    S = bit(12)
    W = bit(11)
    op2 = bits(11, 10)
    size_structure = bits(11, 10)
    Rn = bits(9, 5)
    Rt = bits(4, 0)


class SystemWord(Layout):
    """The system instruction class: 1101 0101 00 L op0 op1 CRn CRm op2 Rt (Arm ARM C4.1)."""

    L = bit(21)
    op0 = bits(20, 19)
    op1 = bits(18, 16)
    CRn = bits(15, 12)
    CRm = bits(11, 8)
    op2 = bits(7, 5)
    Rt = bits(4, 0)


def sign_extend(value: int, width: int) -> int:
    """Read the low ``width`` bits of ``value`` as a signed number."""
    sign = 1 << (width - 1)
    value &= (1 << width) - 1
    return (value ^ sign) - sign
