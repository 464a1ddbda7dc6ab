"""Address, reach and syndrome of every load and store form, from encodings checked by hand."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from emu.arch.a64.loadstore import decode, effective_address, syndrome
from emu.arch.address import VA

X1 = 0x10_0000
X12 = 0x1_8000_0004
SP = VA(0x20_0000)
PC = VA(0x40_0000)


def read_x(register: int) -> int:
    """X1 and X12 as above; XZR; any other register would be a wrong one."""
    return {1: X1, 12: X12, 31: 0}[register]


class Case(NamedTuple):
    word: int
    asm: str
    address: int
    size: int
    unit: int
    iss_24_14: int


CASES = [
    # register, unsigned immediate
    Case(0x3940_0020, "ldrb w0, [x1]", 0x10_0000, 1, 1, 0x400),
    Case(0x397F_FC27, "ldrb w7, [x1, #4095]", 0x10_0FFF, 1, 1, 0x41C),
    Case(0x39C0_1020, "ldrsb w0, [x1, #4]", 0x10_0004, 1, 1, 0x480),
    Case(0x3980_1020, "ldrsb x0, [x1, #4]", 0x10_0004, 1, 1, 0x482),
    Case(0x797F_FC3E, "ldrh w30, [x1, #8190]", 0x10_1FFE, 2, 2, 0x578),
    Case(0x79C0_0025, "ldrsh w5, [x1]", 0x10_0000, 2, 2, 0x594),
    Case(0x7980_0025, "ldrsh x5, [x1]", 0x10_0000, 2, 2, 0x596),
    Case(0xB940_1020, "ldr w0, [x1, #16]", 0x10_0010, 4, 4, 0x600),
    Case(0xB980_1020, "ldrsw x0, [x1, #16]", 0x10_0010, 4, 4, 0x682),
    Case(0xF97F_FFE0, "ldr x0, [sp, #32760]", 0x20_7FF8, 8, 8, 0x702),
    Case(0xF940_003F, "ldr xzr, [x1]", 0x10_0000, 8, 8, 0x77E),
    Case(0x3900_0022, "strb w2, [x1]", 0x10_0000, 1, 1, 0x408),
    Case(0x7900_0BE2, "strh w2, [sp, #4]", 0x20_0004, 2, 2, 0x508),
    Case(0xB900_003F, "str wzr, [x1]", 0x10_0000, 4, 4, 0x67C),
    Case(0xF900_1022, "str x2, [x1, #32]", 0x10_0020, 8, 8, 0x70A),
    Case(0x3D40_0420, "ldr b0, [x1, #1]", 0x10_0001, 1, 1, 0),
    Case(0x7D00_0420, "str h0, [x1, #2]", 0x10_0002, 2, 2, 0),
    Case(0xBD40_0420, "ldr s0, [x1, #4]", 0x10_0004, 4, 4, 0),
    Case(0xFD00_0420, "str d0, [x1, #8]", 0x10_0008, 8, 8, 0),
    Case(0x3DC0_0420, "ldr q0, [x1, #16]", 0x10_0010, 16, 16, 0),
    Case(0x3DBF_FFFF, "str q31, [sp, #65520]", 0x20_FFF0, 16, 16, 0),
    # unscaled
    Case(0xF85F_D020, "ldur x0, [x1, #-3]", 0x0F_FFFD, 8, 8, 0x702),
    Case(0xB890_0029, "ldursw x9, [x1, #-256]", 0x0F_FF00, 4, 4, 0x6A6),
    Case(0x780F_F022, "sturh w2, [x1, #255]", 0x10_00FF, 2, 2, 0x508),
    Case(0x3CDF_03E3, "ldur q3, [sp, #-16]", 0x1F_FFF0, 16, 16, 0),
    # pre- and post-index
    Case(0xF841_0C20, "ldr x0, [x1, #16]!", 0x10_0010, 8, 8, 0),
    Case(0xF841_0420, "ldr x0, [x1], #16", 0x10_0000, 8, 8, 0),
    Case(0x38DF_FC20, "ldrsb w0, [x1, #-1]!", 0x0F_FFFF, 1, 1, 0),
    Case(0x7810_07E2, "strh w2, [sp], #-256", 0x20_0000, 2, 2, 0),
    Case(0x3C9F_0C20, "str q0, [x1, #-16]!", 0x0F_FFF0, 16, 16, 0),
    # register offset
    Case(0xF86C_6820, "ldr x0, [x1, x12]", 0x1_8010_0004, 8, 8, 0x702),
    Case(0xF86C_7820, "ldr x0, [x1, x12, lsl #3]", 0xC_0010_0020, 8, 8, 0x702),
    Case(0xF86C_4820, "ldr x0, [x1, w12, uxtw]", 0x8010_0004, 8, 8, 0x702),
    Case(0xF86C_5820, "ldr x0, [x1, w12, uxtw #3]", 0x4_0010_0020, 8, 8, 0x702),
    Case(0xB8AC_C820, "ldrsw x0, [x1, w12, sxtw]", 0xFFFF_FFFF_8010_0004, 4, 4, 0x682),
    Case(0xB82C_D822, "str w2, [x1, w12, sxtw #2]", 0xFFFF_FFFE_0010_0010, 4, 4, 0x608),
    Case(0x386C_E820, "ldrb w0, [x1, x12, sxtx]", 0x1_8010_0004, 1, 1, 0x400),
    Case(0x787F_6BE0, "ldrh w0, [sp, xzr]", 0x20_0000, 2, 2, 0x500),
    Case(0x3CEC_7820, "ldr q0, [x1, x12, lsl #4]", 0x18_0010_0040, 16, 16, 0),
    Case(0x3C6C_7820, "ldr b0, [x1, x12, lsl #0]", 0x1_8010_0004, 1, 1, 0),
    # literal
    Case(0x1800_0200, "ldr w0, .+0x40", 0x40_0040, 4, 4, 0x600),
    Case(0x5880_0000, "ldr x0, .-0x100000", 0x30_0000, 8, 8, 0x702),
    Case(0x987F_FFE0, "ldrsw x0, .+0xffffc", 0x4F_FFFC, 4, 4, 0x682),
    Case(0x1C00_0040, "ldr s0, .+8", 0x40_0008, 4, 4, 0),
    Case(0x5C00_0040, "ldr d0, .+8", 0x40_0008, 8, 8, 0),
    Case(0x9CFF_FF80, "ldr q0, .-16", 0x3F_FFF0, 16, 16, 0),
    # unprivileged
    Case(0x3840_0820, "ldtrb w0, [x1]", 0x10_0000, 1, 1, 0x400),
    Case(0x7880_2820, "ldtrsh x0, [x1, #2]", 0x10_0002, 2, 2, 0x582),
    Case(0xB880_4820, "ldtrsw x0, [x1, #4]", 0x10_0004, 4, 4, 0x682),
    Case(0xB85F_C820, "ldtr w0, [x1, #-4]", 0x0F_FFFC, 4, 4, 0x600),
    Case(0xF800_8BE2, "sttr x2, [sp, #8]", 0x20_0008, 8, 8, 0x70A),
    Case(0x7800_0822, "sttrh w2, [x1]", 0x10_0000, 2, 2, 0x508),
    # ordered
    Case(0x08DF_FC20, "ldarb w0, [x1]", 0x10_0000, 1, 1, 0x401),
    Case(0xC8DF_FFE0, "ldar x0, [sp]", 0x20_0000, 8, 8, 0x703),
    Case(0x489F_FC22, "stlrh w2, [x1]", 0x10_0000, 2, 2, 0x509),
    Case(0x889F_FC3F, "stlr wzr, [x1]", 0x10_0000, 4, 4, 0x67D),
    Case(0xC8DF_7C20, "ldlar x0, [x1]", 0x10_0000, 8, 8, 0x702),
    Case(0x889F_7C22, "stllr w2, [x1]", 0x10_0000, 4, 4, 0x608),
    Case(0xB8BF_C020, "ldapr w0, [x1]", 0x10_0000, 4, 4, 0x601),
    Case(0x78BF_C020, "ldaprh w0, [x1]", 0x10_0000, 2, 2, 0x501),
    Case(0xD95F_8020, "ldapur x0, [x1, #-8]", 0x0F_FFF8, 8, 8, 0x703),
    Case(0x19C0_1020, "ldapursb w0, [x1, #1]", 0x10_0001, 1, 1, 0x481),
    Case(0x998F_F020, "ldapursw x0, [x1, #255]", 0x10_00FF, 4, 4, 0x683),
    Case(0x1900_8022, "stlurb w2, [x1, #8]", 0x10_0008, 1, 1, 0x409),
    Case(0xD910_03E2, "stlur x2, [sp, #-256]", 0x1F_FF00, 8, 8, 0x70B),
    # authenticated
    Case(0xF820_0420, "ldraa x0, [x1]", 0x10_0000, 8, 8, 0x702),
    Case(0xF860_0420, "ldraa x0, [x1, #-4096]", 0x0F_F000, 8, 8, 0x702),
    Case(0xF8BF_FFE0, "ldrab x0, [sp, #4088]!", 0x20_0FF8, 8, 8, 0),
    # pairs
    Case(0x2940_0C20, "ldp w0, w3, [x1]", 0x10_0000, 8, 4, 0),
    Case(0xA960_0C20, "ldp x0, x3, [x1, #-512]", 0x0F_FE00, 16, 8, 0),
    Case(0xA8C2_7BFD, "ldp x29, x30, [sp], #32", 0x20_0000, 16, 8, 0),
    Case(0x695F_8C20, "ldpsw x0, x3, [x1, #252]", 0x10_00FC, 8, 4, 0),
    Case(0xA9BE_0FE2, "stp x2, x3, [sp, #-32]!", 0x1F_FFE0, 16, 8, 0),
    Case(0x2900_FC3F, "stp wzr, wzr, [x1, #4]", 0x10_0004, 8, 4, 0),
    Case(0xA841_0C20, "ldnp x0, x3, [x1, #16]", 0x10_0010, 16, 8, 0),
    Case(0x283F_0C22, "stnp w2, w3, [x1, #-8]", 0x0F_FFF8, 8, 4, 0),
    Case(0x2D40_0420, "ldp s0, s1, [x1]", 0x10_0000, 8, 4, 0),
    Case(0x6C81_0420, "stp d0, d1, [x1], #16", 0x10_0000, 16, 8, 0),
    Case(0xAD5F_87E0, "ldp q0, q1, [sp, #1008]", 0x20_03F0, 32, 16, 0),
    Case(0xAC20_0420, "stnp q0, q1, [x1, #-1024]", 0x0F_FC00, 32, 16, 0),
    # exclusive
    Case(0x085F_7C20, "ldxrb w0, [x1]", 0x10_0000, 1, 1, 0),
    Case(0xC85F_FC20, "ldaxr x0, [x1]", 0x10_0000, 8, 8, 0),
    Case(0x4804_7C22, "stxrh w4, w2, [x1]", 0x10_0000, 2, 2, 0),
    Case(0x8804_FFE2, "stlxr w4, w2, [sp]", 0x20_0000, 4, 4, 0),
    Case(0x887F_0C20, "ldxp w0, w3, [x1]", 0x10_0000, 8, 8, 0),
    Case(0xC87F_8C20, "ldaxp x0, x3, [x1]", 0x10_0000, 16, 16, 0),
    Case(0x8824_0C22, "stxp w4, w2, w3, [x1]", 0x10_0000, 8, 8, 0),
    Case(0xC824_8C22, "stlxp w4, x2, x3, [x1]", 0x10_0000, 16, 16, 0),
    # atomic
    Case(0x3822_0020, "ldaddb w2, w0, [x1]", 0x10_0000, 1, 1, 0),
    Case(0x7822_1020, "ldclrh w2, w0, [x1]", 0x10_0000, 2, 2, 0),
    Case(0xB8E2_2020, "ldeoral w2, w0, [x1]", 0x10_0000, 4, 4, 0),
    Case(0xF862_33E0, "ldsetl x2, x0, [sp]", 0x20_0000, 8, 8, 0),
    Case(0xF8A2_4020, "ldsmaxa x2, x0, [x1]", 0x10_0000, 8, 8, 0),
    Case(0x78E2_7020, "lduminalh w2, w0, [x1]", 0x10_0000, 2, 2, 0),
    Case(0xF822_003F, "stadd x2, [x1]", 0x10_0000, 8, 8, 0),
    Case(0xF8E2_8020, "swpal x2, x0, [x1]", 0x10_0000, 8, 8, 0),
    Case(0x3822_8020, "swpb w2, w0, [x1]", 0x10_0000, 1, 1, 0),
    Case(0xC8A3_7C22, "cas x3, x2, [x1]", 0x10_0000, 8, 8, 0),
    Case(0x08E3_FC22, "casalb w3, w2, [x1]", 0x10_0000, 1, 1, 0),
    Case(0x0824_7C26, "casp w4, w5, w6, w7, [x1]", 0x10_0000, 8, 8, 0),
    Case(0x4864_FFE6, "caspal x4, x5, x6, x7, [sp]", 0x20_0000, 16, 16, 0),
    Case(0xF83F_D022, "ld64b x2, [x1]", 0x10_0000, 64, 64, 0),
    Case(0xF83F_93F6, "st64b x22, [sp]", 0x20_0000, 64, 64, 0),
    Case(0xF823_B022, "st64bv x3, x2, [x1]", 0x10_0000, 64, 64, 0),
    Case(0xF823_A022, "st64bv0 x3, x2, [x1]", 0x10_0000, 64, 64, 0),
    # structures
    Case(0x4C40_7020, "ld1 {v0.16b}, [x1]", 0x10_0000, 16, 1, 0),
    Case(0x0C40_6020, "ld1 {v0.8b, v1.8b, v2.8b}, [x1]", 0x10_0000, 24, 1, 0),
    Case(0x0C40_7C20, "ld1 {v0.1d}, [x1]", 0x10_0000, 8, 8, 0),
    Case(0x4C9F_2FE0, "st1 {v0.2d, v1.2d, v2.2d, v3.2d}, [sp], #64", 0x20_0000, 64, 8, 0),
    Case(0x0CC3_8420, "ld2 {v0.4h, v1.4h}, [x1], x3", 0x10_0000, 16, 2, 0),
    Case(0x4C40_483E, "ld3 {v30.4s, v31.4s, v0.4s}, [x1]", 0x10_0000, 48, 4, 0),
    Case(0x4C9F_0020, "st4 {v0.16b, v1.16b, v2.16b, v3.16b}, [x1], #64", 0x10_0000, 64, 1, 0),
    Case(0x4D40_1C20, "ld1 {v0.b}[15], [x1]", 0x10_0000, 1, 1, 0),
    Case(0x4DBF_5820, "st2 {v0.h, v1.h}[7], [x1], #4", 0x10_0000, 4, 2, 0),
    Case(0x4D40_B020, "ld3 {v0.s, v1.s, v2.s}[3], [x1]", 0x10_0000, 12, 4, 0),
    Case(0x4DA3_A7E0, "st4 {v0.d, v1.d, v2.d, v3.d}[1], [sp], x3", 0x20_0000, 32, 8, 0),
    Case(0x4D40_CC20, "ld1r {v0.2d}, [x1]", 0x10_0000, 8, 8, 0),
    Case(0x4DFF_E420, "ld4r {v0.8h, v1.8h, v2.8h, v3.8h}, [x1], #8", 0x10_0000, 8, 2, 0),
    # prefetch
    Case(0xF980_0420, "prfm pldl1keep, [x1, #8]", 0x10_0008, 8, 8, 0),
    Case(0xF89F_F023, "prfum pldl2strm, [x1, #-1]", 0x0F_FFFF, 8, 8, 0),
    Case(0xF8AC_6830, "prfm pstl1keep, [x1, x12]", 0x1_8010_0004, 8, 8, 0),
    Case(0xD800_0208, "prfm plil1keep, .+0x40", 0x40_0040, 8, 8, 0),
    # tags
    Case(0xD97F_F023, "ldg x3, [x1, #-16]", 0x0F_FFF0, 16, 16, 0),
    Case(0xD920_2FE3, "stg x3, [sp, #32]!", 0x20_0020, 16, 16, 0),
    Case(0xD96F_F423, "stzg x3, [x1], #4080", 0x10_0000, 16, 16, 0),
    Case(0xD9B0_083F, "st2g sp, [x1, #-4096]", 0x0F_F000, 32, 16, 0),
    Case(0xD9E0_0823, "stz2g x3, [x1]", 0x10_0000, 32, 16, 0),
    Case(0xD9E0_0023, "ldgm x3, [x1]", 0x10_0000, 16, 16, 0),
    Case(0xD920_0023, "stzgm x3, [x1]", 0x10_0000, 16, 16, 0),
    Case(0x6920_0C22, "stgp x2, x3, [x1, #-1024]", 0x0F_FC00, 16, 8, 0),
]

ALIASES = {"STADD": "LDADD"}


@pytest.mark.parametrize("case", CASES, ids=[case.asm for case in CASES])
@pytest.mark.kvm_row(72)
def test_form(case: Case) -> None:
    access = decode(case.word)
    assert access is not None
    name = case.asm.split()[0].upper()
    assert access.mnemonic == ALIASES.get(name, name)
    assert effective_address(access, read_x, SP, PC) == case.address
    assert (access.size, access.unit) == (case.size, case.unit)
    assert syndrome(access) == case.iss_24_14 << 14
    assert access.isv == bool(case.iss_24_14)
    assert access.elements * access.unit == access.size


def test_address_wraps_at_64_bits() -> None:
    access = decode(0xF840_8020)  # ldur x0, [x1, #8]
    assert access is not None
    assert effective_address(access, lambda _: 2**64 - 4, SP, PC) == 4


def test_tag_load_rounds_its_address_down_and_tag_store_does_not() -> None:
    ldg, stg = decode(0xD960_0023), decode(0xD920_0823)
    assert ldg is not None
    assert stg is not None
    assert effective_address(ldg, lambda _: 0x1009, SP, PC) == 0x1000
    assert effective_address(stg, lambda _: 0x1009, SP, PC) == 0x1009
