"""A64 instruction words, for programs of a few lines (Arm ARM C6.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

NOP: Final = 0xD503_201F
ISB: Final = 0xD503_3FDF
WFE: Final = 0xD503_205F
WFI: Final = 0xD503_207F
ERET: Final = 0xD69F_03E0
RET: Final = 0xD65F_03C0
UDF: Final = 0x0000_0000
CLREX: Final = 0xD503_3F5F

XZR: Final = 31
SP: Final = 31

_LOG2: Final = {1: 0, 2: 1, 4: 2, 8: 3}


def movz(rd: int, value: int, shift: int = 0) -> int:
    """MOVZ Xd, #value, LSL #shift."""
    return 0xD280_0000 | shift // 16 << 21 | value << 5 | rd


def movk(rd: int, value: int, shift: int = 0) -> int:
    """MOVK Xd, #value, LSL #shift."""
    return 0xF280_0000 | shift // 16 << 21 | value << 5 | rd


def add(rd: int, rn: int, value: int) -> int:
    """ADD Xd|SP, Xn|SP, #value."""
    return 0x9100_0000 | value << 10 | rn << 5 | rd


def subs(rd: int, rn: int, value: int) -> int:
    """SUBS Xd, Xn, #value."""
    return 0xF100_0000 | value << 10 | rn << 5 | rd


def b(offset: int) -> int:
    """B to ``offset`` bytes from here."""
    return 0x1400_0000 | offset >> 2 & 0x3FF_FFFF


def cbnz(rt: int, offset: int) -> int:
    """CBNZ Xt, to ``offset`` bytes from here."""
    return 0xB500_0000 | (offset >> 2 & 0x7_FFFF) << 5 | rt


def br(rn: int) -> int:
    """BR Xn."""
    return 0xD61F_0000 | rn << 5


def ldr(rt: int, rn: int, offset: int = 0, size: int = 8) -> int:
    """LDR, LDRH or LDRB, zero extended, with an unsigned offset."""
    return 0x3940_0000 | _LOG2[size] << 30 | offset // size << 10 | rn << 5 | rt


def ldrs(rt: int, rn: int, offset: int = 0, size: int = 4, *, wide: bool = True) -> int:
    """LDRSB, LDRSH or LDRSW, sign extended to an X register, or to W if not ``wide``."""
    opc = 2 if wide else 3
    return 0x3900_0000 | _LOG2[size] << 30 | opc << 22 | offset // size << 10 | rn << 5 | rt


def str_(rt: int, rn: int, offset: int = 0, size: int = 8) -> int:
    """STR, STRH or STRB with an unsigned offset."""
    return 0x3900_0000 | _LOG2[size] << 30 | offset // size << 10 | rn << 5 | rt


def ldur(rt: int, rn: int, offset: int, size: int = 8) -> int:
    """LDUR with a signed offset of -256 to 255."""
    return 0x3840_0000 | _LOG2[size] << 30 | (offset & 0x1FF) << 12 | rn << 5 | rt


def stur(rt: int, rn: int, offset: int, size: int = 8) -> int:
    """STUR with a signed offset of -256 to 255."""
    return 0x3800_0000 | _LOG2[size] << 30 | (offset & 0x1FF) << 12 | rn << 5 | rt


def ldr_post(rt: int, rn: int, offset: int, size: int = 8) -> int:
    """LDR Xt, [Xn], #offset."""
    return ldur(rt, rn, offset, size) | 0x400


def ldr_pre(rt: int, rn: int, offset: int, size: int = 8) -> int:
    """LDR Xt, [Xn, #offset]!."""
    return ldur(rt, rn, offset, size) | 0xC00


def str_post(rt: int, rn: int, offset: int, size: int = 8) -> int:
    """STR Xt, [Xn], #offset."""
    return stur(rt, rn, offset, size) | 0x400


def str_pre(rt: int, rn: int, offset: int, size: int = 8) -> int:
    """STR Xt, [Xn, #offset]!."""
    return stur(rt, rn, offset, size) | 0xC00


def ldtr(rt: int, rn: int, offset: int = 0, size: int = 8) -> int:
    """LDTR, LDTRH or LDTRB: with the permissions of EL0."""
    return ldur(rt, rn, offset, size) | 0x800


def sttr(rt: int, rn: int, offset: int = 0, size: int = 8) -> int:
    """STTR, STTRH or STTRB: with the permissions of EL0."""
    return stur(rt, rn, offset, size) | 0x800


def ldr_register(rt: int, rn: int, rm: int, *, scaled: bool = False) -> int:
    """LDR Xt, [Xn, Xm] or LDR Xt, [Xn, Xm, LSL #3]."""
    return 0xF860_6800 | scaled << 12 | rm << 16 | rn << 5 | rt


def ldr_literal(rt: int, offset: int) -> int:
    """LDR Xt, from ``offset`` bytes from here."""
    return 0x5800_0000 | (offset >> 2 & 0x7_FFFF) << 5 | rt


def ldp(rt: int, rt2: int, rn: int, offset: int = 0) -> int:
    """LDP Xt, Xt2, [Xn, #offset]."""
    return 0xA940_0000 | (offset >> 3 & 0x7F) << 15 | rt2 << 10 | rn << 5 | rt


def stp(rt: int, rt2: int, rn: int, offset: int = 0) -> int:
    """STP Xt, Xt2, [Xn, #offset]."""
    return 0xA900_0000 | (offset >> 3 & 0x7F) << 15 | rt2 << 10 | rn << 5 | rt


def ldxr(rt: int, rn: int) -> int:
    """LDXR Xt, [Xn]."""
    return 0xC85F_7C00 | rn << 5 | rt


def stxr(rs: int, rt: int, rn: int) -> int:
    """STXR Ws, Xt, [Xn]."""
    return 0xC800_7C00 | rs << 16 | rn << 5 | rt


def ldar(rt: int, rn: int) -> int:
    """LDAR Xt, [Xn]."""
    return 0xC8DF_FC00 | rn << 5 | rt


def stlr(rt: int, rn: int) -> int:
    """STLR Xt, [Xn]."""
    return 0xC89F_FC00 | rn << 5 | rt


def ldr_q(rt: int, rn: int) -> int:
    """LDR Qt, [Xn]."""
    return 0x3DC0_0000 | rn << 5 | rt


def str_q(rt: int, rn: int) -> int:
    """STR Qt, [Xn]."""
    return 0x3D80_0000 | rn << 5 | rt


def prfm(rn: int) -> int:
    """PRFM PLDL1KEEP, [Xn]."""
    return 0xF980_0000 | rn << 5


def fmov(rd: int, rn: int) -> int:
    """FMOV Dd, Xn."""
    return 0x9E67_0000 | rn << 5 | rd


def svc(value: int) -> int:
    """SVC #value."""
    return 0xD400_0001 | value << 5


def hvc(value: int) -> int:
    """HVC #value."""
    return 0xD400_0002 | value << 5


def smc(value: int) -> int:
    """SMC #value."""
    return 0xD400_0003 | value << 5


def brk(value: int) -> int:
    """BRK #value."""
    return 0xD420_0000 | value << 5


def mrs(rt: int, register: type[SystemRegister]) -> int:
    """MRS Xt, register."""
    return msr(register, rt) | 1 << 21


def msr(register: type[SystemRegister], rt: int) -> int:
    """MSR register, Xt."""
    op0, op1, crn, crm, op2 = register.encoding
    return 0xD500_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | rt


def load_immediate(rd: int, value: int) -> tuple[int, ...]:
    """Return the words that set Xd to any 64-bit value."""
    return (
        movz(rd, value & 0xFFFF),
        *(
            movk(rd, value >> shift & 0xFFFF, shift)
            for shift in (16, 32, 48)
            if value >> shift & 0xFFFF
        ),
    )
