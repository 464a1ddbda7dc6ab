"""The guests, as words with their assembly beside them.

Register use: x19 counts iterations, x28 is the address of a device in user space. Every
program starts with a store there, which parks it: user space sets the registers and lets it
go on. After its loop it branches back to that store.

Branch targets are offsets from the program's first word.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.arch.address import VA

COUNT: Final = 19
"""The register that counts iterations."""
DEVICE: Final = 28
"""The register that holds the address of the device in user space."""


class Program(NamedTuple):
    """A guest: instruction words with their text."""

    lines: tuple[tuple[int, str], ...]

    @property
    def words(self) -> bytes:
        """The instructions as they lie in memory."""
        return b"".join(word.to_bytes(4, "little") for word, _text in self.lines)

    def offset_of(self, text: str) -> VA:
        """Return the offset of the first instruction with this text."""
        return VA(4 * [line for _word, line in self.lines].index(text))


LOAD_STORE: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xF9400022, "ldr x2, [x1]"),
        (0x91000442, "add x2, x2, #1"),
        (0xF9000022, "str x2, [x1]"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFF81, "b.ne #4"),
        (0x17FFFFFA, "b #0"),
    )
)
"""Counts in memory at x1."""

BRANCHY: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xCA023442, "eor x2, x2, x2, lsl #13"),
        (0xCA421C42, "eor x2, x2, x2, lsr #7"),
        (0xCA024442, "eor x2, x2, x2, lsl #17"),
        (0x36180042, "tbz w2, #3, #0x18"),
        (0x91000463, "add x3, x3, #1"),
        (0x36480042, "tbz w2, #9, #0x20"),
        (0x94000004, "bl #0x2c"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFF01, "b.ne #4"),
        (0x17FFFFF6, "b #0"),
        (0x36700042, "tbz w2, #0xe, #0x34"),
        (0xD1000463, "sub x3, x3, #1"),
        (0xD65F03C0, "ret"),
    )
)
"""Branches, calls and returns by the bits of a pseudo-random x2, which must not be 0."""

READ_PAGES: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xAA0103E4, "mov x4, x1"),
        (0xAA0303E5, "mov x5, x3"),
        (0xF9400086, "ldr x6, [x4]"),
        (0x8B020084, "add x4, x4, x2"),
        (0xF10004A5, "subs x5, x5, #1"),
        (0x54FFFFA1, "b.ne #0xc"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFF21, "b.ne #4"),
        (0x17FFFFF7, "b #0"),
    )
)
"""Reads x3 words from x1 on, x2 bytes apart, again and again."""

TOUCH_PAGES: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xF9000021, "str x1, [x1]"),
        (0x8B020021, "add x1, x1, x2"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFFA1, "b.ne #4"),
        (0x17FFFFFB, "b #0"),
    )
)
"""Writes words from x1 on, x2 bytes apart."""

LOAD: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xB9400022, "ldr w2, [x1]"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFFC1, "b.ne #4"),
        (0x17FFFFFC, "b #0"),
    )
)
"""Loads from x1."""

STORE: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xB9000022, "str w2, [x1]"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFFC1, "b.ne #4"),
        (0x17FFFFFC, "b #0"),
    )
)
"""Stores to x1."""

HYPERCALL: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0x2A0103E0, "mov w0, w1"),
        (0xD4000002, "hvc #0"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFFA1, "b.ne #4"),
        (0x17FFFFFB, "b #0"),
    )
)
"""Calls the function whose number is in w1."""

SUPERVISOR_CALL: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xD4000001, "svc #0"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFFC1, "b.ne #4"),
        (0x17FFFFFC, "b #0"),
    )
)
"""Takes exceptions to its own Exception level."""

EXCEPTION_RETURN: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xD5184021, "msr elr_el1, x1"),
        (0xD5184002, "msr spsr_el1, x2"),
        (0xD69F03E0, "eret"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFF81, "b.ne #4"),
        (0x17FFFFFA, "b #0"),
    )
)
"""Returns to x1, which is the address of the subtraction, with the PSTATE in x2."""

READ_REGISTER: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xD5380002, "mrs x2, midr_el1"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFFC1, "b.ne #4"),
        (0x17FFFFFC, "b #0"),
    )
)
"""Reads a register of which EL2 has set a copy."""

SWITCH_TABLES: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xD5182001, "msr ttbr0_el1, x1"),
        (0xD5033FDF, "isb"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFFA1, "b.ne #4"),
        (0x17FFFFFB, "b #0"),
    )
)
"""Writes a base register of stage 1, as a context switch does."""

INVALIDATE: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0xD508831F, "tlbi vmalle1is"),
        (0xD5033B9F, "dsb ish"),
        (0xD5033FDF, "isb"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFF81, "b.ne #4"),
        (0x17FFFFFA, "b #0"),
    )
)
"""Empties the TLB."""

WRITE_DEVICE: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0x17FFFFFF, "b #0"),
    )
)
"""Parks again and again."""

READ_DEVICE: Final = Program(
    (
        (0xF9400382, "ldr x2, [x28]"),
        (0x17FFFFFF, "b #0"),
    )
)
"""Parks with a load."""

INTERRUPTS: Final = Program(
    (
        (0xF900039F, "str xzr, [x28]"),
        (0x52800047, "mov w7, #2"),
        (0xB90000C7, "str w7, [x6]"),
        (0x52801FE7, "mov w7, #0xff"),
        (0xD5184607, "msr icc_pmr_el1, x7"),
        (0x52800027, "mov w7, #1"),
        (0xD518CCE7, "msr icc_igrpen1_el1, x7"),
        (0xD5033FDF, "isb"),
        (0xD2800014, "mov x20, #0"),
        (0xB5000068, "cbnz x8, #0x30"),
        (0xD518CBA5, "msr icc_sgi1r_el1, x5"),
        (0xD5033FDF, "isb"),
        (0xD503207F, "wfi"),
        (0xD50342FF, "msr daifclr, #2"),
        (0xD5033FDF, "isb"),
        (0xD50342DF, "msr daifset, #2"),
        (0xB4FFFF94, "cbz x20, #0x30"),
        (0xD2800014, "mov x20, #0"),
        (0xF1000673, "subs x19, x19, #1"),
        (0x54FFFEE1, "b.ne #0x28"),
        (0x17FFFFEC, "b #0"),
    )
)
"""Sends the SGI in x5, waits for one, and so on; one that waits first has x8 = 1.

X6 is the address of GICD_CTLR. The interrupt is taken at the ISB behind the WFI.
"""

INTERRUPT_HANDLER: Final = Program(
    (
        (0xD538CC07, "mrs x7, icc_iar1_el1"),
        (0xD518CC27, "msr icc_eoir1_el1, x7"),
        (0xD2800034, "mov x20, #1"),
        (0xD69F03E0, "eret"),
    )
)
"""What stands in the vector of interrupts: acknowledges one, ends it, and tells the program."""

START_UNDER_QEMU: Final = Program(
    (
        (0xD518A200, "msr mair_el1, x0"),
        (0xD5182041, "msr tcr_el1, x1"),
        (0xD5182002, "msr ttbr0_el1, x2"),
        (0xD518C004, "msr vbar_el1, x4"),
        (0xD5033FDF, "isb"),
        (0xD5181003, "msr sctlr_el1, x3"),
        (0xD5033FDF, "isb"),
    )
)
"""Turns stage 1 on; the vectors are at x4."""

POWER_OFF: Final = Program(
    (
        (0x52800100, "mov w0, #8"),
        (0x72B08000, "movk w0, #0x8400, lsl #16"),
        (0xD4000002, "hvc #0"),
    )
)
"""PSCI SYSTEM_OFF."""

ALL: Final = (
    *(LOAD_STORE, BRANCHY, READ_PAGES, TOUCH_PAGES, LOAD, STORE, HYPERCALL, SUPERVISOR_CALL),
    *(EXCEPTION_RETURN, READ_REGISTER, SWITCH_TABLES, INVALIDATE, WRITE_DEVICE, READ_DEVICE),
    *(INTERRUPTS, INTERRUPT_HANDLER, START_UNDER_QEMU, POWER_OFF),
)

ERET: Final = 0xD69F03E0
"""What stands in the other vectors: every exception returns at once."""

_VECTORS_SIZE: Final = 0x800
_IRQ_VECTOR: Final = 0x280
"""Of an interrupt at the Exception level it is taken to, with SP_ELx."""


def vectors() -> bytes:
    """Return a vector table."""
    table = bytearray(ERET.to_bytes(4, "little") * (_VECTORS_SIZE // 4))
    handler = INTERRUPT_HANDLER.words
    table[_IRQ_VECTOR : _IRQ_VECTOR + len(handler)] = handler
    return bytes(table)


def load_constant(register: int, value: int) -> bytes:
    """Return MOVZ and MOVKs that put 64 bits into a register."""
    words = []
    for half in range(4):
        opcode = 0xD280_0000 if half == 0 else 0xF280_0000
        words.append(opcode | half << 21 | (value >> 16 * half & 0xFFFF) << 5 | register)
    return b"".join(word.to_bytes(4, "little") for word in words)


def branch(distance: int) -> bytes:
    """Return B to so many bytes further on."""
    return (0x1400_0000 | distance >> 2).to_bytes(4, "little")
