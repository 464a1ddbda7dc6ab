"""What is said about ESR values: rows, sentences, notes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.bits import bit_range
from emu.arch.esr.build import system_register_trap
from emu.arch.esr.explain import Explanation, FieldRow, explain
from emu.arch.fields import Encoding

WORDS = st.integers(0, (1 << 64) - 1)


@pytest.mark.parametrize(
    ("esr", "attempt", "fault"),
    [
        # data aborts with a described instruction
        (
            0x9383_0047,
            "A guest at EL1 or EL0 tried to store 4 bytes from W3",
            "stage 2 translation fault at level 3",
        ),
        (
            0x93A3_8007,
            "A guest at EL1 or EL0 tried to load 4 bytes into X3, sign-extended",
            "stage 2 translation fault at level 3",
        ),
        (
            0x93D4_C006,
            "A guest at EL1 or EL0 tried to load 8 bytes into X20, with acquire semantics",
            "stage 2 translation fault at level 2",
        ),
        (
            0x935F_404F,
            "A guest at EL1 or EL0 tried to store 2 bytes from WZR, with release semantics",
            "stage 2 permission fault at level 3",
        ),
        (
            0x9300_0009,
            "A guest at EL1 or EL0 tried to load 1 byte into W0",
            "stage 2 access flag fault at level 1",
        ),
        (
            0x93C0_9047,
            "A guest at EL1 or EL0 tried to execute LD64B or ST64B",
            "stage 2 translation fault at level 3",
        ),
        # other aborts
        (
            0x9200_0087,
            "A guest at EL1 or EL0 tried to access memory",
            "stage 2 translation fault at level 3 on the stage 1 table walk",
        ),
        (
            0x9200_0147,
            "A guest at EL1 or EL0 tried to maintain a cache or translate an address",
            "stage 2 translation fault at level 3",
        ),
        (
            0x8200_0006,
            "A guest at EL1 or EL0 tried to fetch an instruction",
            "stage 2 translation fault at level 2",
        ),
        (
            0x9200_0650,
            "A guest at EL1 or EL0 tried to write to memory",
            "synchronous external abort",
        ),
        (
            0x9200_0017,
            "A guest at EL1 or EL0 tried to read from memory",
            "synchronous external abort on a translation table walk at level 3",
        ),
        (
            0x9200_0035,
            "A guest at EL1 or EL0 tried to access memory",
            "implementation defined fault (unsupported exclusive or atomic access)",
        ),
        (
            0x9200_003F,
            "A guest at EL1 or EL0 tried to read from memory",
            "a fault with a reserved status code",
        ),
        (
            0x9600_2045,
            "A guest hypervisor at EL1, through VNCR_EL2, tried to write to memory",
            "stage 1 translation fault at level 1",
        ),
        (0x9600_0007, "EL2 tried to read from memory", "stage 1 translation fault at level 3"),
    ],
)
def test_sentence_of_an_abort(esr: int, attempt: str, fault: str) -> None:
    assert explain(esr).sentence == f"{attempt}: {fault}."


@pytest.mark.parametrize(
    ("esr", "sentence"),
    [
        # traps and calls
        (0x07E0_0000, "WFI was trapped."),
        (0x07E0_0001, "WFE was trapped."),
        (0x07E0_0086, "WFIT X4 was trapped."),
        (0x5600_0000, "SVC #0x0 was executed."),
        (0x5A00_004B, "HVC #0x4b was executed."),
        (0x5E00_0000, "SMC #0x0 was executed."),
        (0xF200_0800, "BRK #0x800 was executed."),
        (0x6232_C061, "MRS X3, CTR_EL0 was trapped."),
        (0x6230_3C42, "MSR S3_0_C15_C1_0, X2 was trapped."),
        (0x6212_DC3C, "DC CIVAC, X1 was trapped."),
        (0x6A00_0003, "ERETAB was trapped."),
        (0x1FE0_0000, "An SME, SVE, SIMD or floating-point instruction was trapped."),
        (0x0E32_C061, "AArch32 MRC p15, 3, R3, c0, c0, 1 was trapped."),
        (0x1230_0861, "AArch32 MRRC p15, 0, R3, R2, c0 was trapped."),
        (0x1800_5001, "AArch32 LDC p14, c5 was trapped."),
        (0x2A00_0003, "TSB CSYNC was trapped."),
        (0x2A00_0009, "An unknown instruction was trapped."),
        (0x5230_00C1, "MRRS X6, X7, S3_0_C0_C0_0 was trapped."),
        (0x5230_00C0, "MSRR S3_0_C0_C0_0, X6, X7 was trapped."),
        (0x7600_0002, "SME use was trapped: SME instruction with PSTATE.SM = 0."),
        # everything else
        (0x0200_0000, "An instruction was UNDEFINED, or the reason is unknown."),
        (0x3600_0002, "A branch reached an instruction that is no landing pad for it (BLR)."),
        (0x3A00_0000, "An instruction was executed in the Illegal Execution state."),
        (0x7200_0003, "A pointer failed authentication with data key B."),
        (0x8A00_0000, "The PC was misaligned."),
        (0x9A00_0000, "A load or store used an SP that was not a multiple of 16."),
        (
            0x9E01_0443,
            "A CPY instruction found its operands X1, X2, X3 prepared for option A.",
        ),
        (0xB200_0000, "A floating-point exception was trapped; the syndrome does not say which."),
        (0xB280_0011, "A floating-point exception was trapped: inexact, invalid operation."),
        (0xB280_0000, "A floating-point exception was trapped: none is named."),
        (0xB600_0001, "A guarded control stack data check failed: GCSPOPM."),
        (0xB610_0000, "A guarded control stack exception was taken: EXLOCK."),
        (0xBE00_0000, "An SError was taken; it is not categorized."),
        (0xBE00_0C11, "An SError was taken; the error state is recoverable (UER)."),
        (0xBF00_0000, "An SError was taken; its syndrome is implementation defined."),
        (0xC200_0022, "A breakpoint was reached at EL1 or EL0."),
        (0xC600_0022, "A breakpoint was reached at EL2."),
        (0xCB00_0062, "A Load-Exclusive was single-stepped at EL1 or EL0."),
        (0xD20E_0062, "Watchpoint 3 was hit by a write at EL1 or EL0."),
        (0xD600_0122, "A watchpoint was hit by cache maintenance at EL2."),
        (0xF600_0001, "A profiling exception was taken: PMU."),
        (0xFE00_0000, "Exception class 0x3f is reserved; nothing is known of its ISS."),
    ],
)
def test_sentence(esr: int, sentence: str) -> None:
    assert explain(esr).sentence == sentence


@pytest.mark.parametrize(
    ("esr", "far", "hpfar", "ending"),
    [
        (0x9383_0047, None, 0x40_0010, "level 3; IPA 0x4000_1000."),
        (
            0x9383_0047,
            0xFFFF_8000_1234_5678,
            0x40_0010,
            "level 3; VA 0xffff_8000_1234_5678, IPA 0x4000_1678.",
        ),
        (0x9200_004F, 0x10, 0x40_0010, "permission fault at level 3; VA 0x0000_0010."),
        (
            0x9200_0087,
            0x1234,
            0x40_0010,
            "stage 1 table walk; VA 0x0000_1234, descriptor in the page at IPA 0x4000_1000.",
        ),
        (
            0x9200_008F,
            None,
            0x40_0010,
            "stage 1 table walk; descriptor in the page at IPA 0x4000_1000.",
        ),
        (0x9200_0610, 0x1234, 0x40_0010, "read from memory: synchronous external abort."),
        (0x9200_0210, 0x1234, None, "synchronous external abort; VA 0x0000_1234."),
        (0x8A00_0000, 0x4000_0002, None, "The PC was misaligned: 0x4000_0002."),
        (0x5A00_0000, 0x4000_0002, None, "HVC #0x0 was executed."),
        (0xD200_0022, 0x4000_0002, None, "at EL1 or EL0; VA 0x4000_0002."),
        (0xBE00_8411, 0x1234, None, "the error state is unrecoverable (UEU); VA 0x0000_1234."),
        (0xBE00_0411, 0x1234, None, "the error state is unrecoverable (UEU)."),
    ],
)
def test_sentence_uses_the_addresses_that_are_valid(
    esr: int, far: int | None, hpfar: int | None, ending: str
) -> None:
    assert explain(esr, far, hpfar).sentence.endswith(ending)


@pytest.mark.parametrize(
    ("esr", "taken_to", "beginning"),
    [
        (0x9200_0046, 1, "EL0 tried to write to memory: stage 1 translation fault at level 2."),
        (0x9600_0046, 1, "EL1 tried to write to memory: stage 1 translation fault at level 2."),
        (0x8600_000F, 1, "EL1 tried to fetch an instruction: stage 1 permission fault"),
        (0x9200_0010, 3, "A lower Exception level tried to read from memory: synchronous"),
        (0x9200_0007, 3, "A lower Exception level tried to read from memory: translation fault"),
        (0xCA00_0022, 1, "An instruction was single-stepped at EL0."),
        (0xCA00_0022, 3, "An instruction was single-stepped at a lower Exception level."),
    ],
)
def test_sentence_depends_on_the_level_that_took_the_exception(
    esr: int, taken_to: int, beginning: str
) -> None:
    assert explain(esr, taken_to=taken_to).sentence.startswith(beginning)


@pytest.mark.parametrize(
    ("encoding", "rt", "read", "text"),
    [
        (Encoding(0, 3, 4, 2, 6), 31, False, "MSR DAIFSet, #2"),
        (Encoding(0, 3, 3, 0, 4), 31, False, "A system instruction (op0 0, op1 3, C3, C0, op2 4)"),
        (Encoding(0, 0, 4, 0, 0), 31, False, "A system instruction (op0 0, op1 0, C4, C0, op2 0)"),
        (Encoding(1, 0, 8, 7, 0), 31, False, "TLBI VMALLE1"),
        (Encoding(1, 0, 9, 3, 1), 5, False, "TLBI VAE1ISNXS, X5"),
        (Encoding(1, 0, 7, 8, 0), 4, False, "AT S1E1R, X4"),
        (Encoding(1, 3, 11, 0, 3), 4, False, "SYS #3, C11, C0, #3, X4"),
        (Encoding(1, 3, 11, 0, 3), 4, True, "SYSL X4, #3, C11, C0, #3"),
        (Encoding(3, 0, 2, 0, 0), 31, False, "MSR TTBR0_EL1, XZR"),
    ],
)
def test_system_instructions_are_written_as_assembly(
    encoding: Encoding, rt: int, read: bool, text: str
) -> None:
    esr = system_register_trap(encoding, rt=rt, read=read)
    assert explain(esr).sentence == f"{text} was trapped."


@given(esr=WORDS, far=st.none() | WORDS, hpfar=st.none() | WORDS)
def test_any_values_have_an_explanation(esr: int, far: int | None, hpfar: int | None) -> None:
    assert_complete(explain(esr, far, hpfar), esr)


@pytest.mark.parametrize("taken_to", [1, 2, 3])
@pytest.mark.parametrize("ec", range(64))
def test_every_class_has_an_explanation(ec: int, taken_to: int) -> None:
    for iss in (0, 1, 0x155_5555, 0xAA_AAAA, 0x1FF_FFFF):
        esr = 0xFF_FFFF << 32 | ec << 26 | iss
        assert_complete(explain(esr, taken_to=taken_to), esr)


@pytest.mark.parametrize("ec", [0x20, 0x21, 0x24, 0x25, 0x1E])
@pytest.mark.parametrize("code", range(64))
def test_every_status_code_has_an_explanation(ec: int, code: int) -> None:
    for flags in (0, 1 << 24, 1 << 7, 1 << 13):
        esr = ec << 26 | 1 << 25 | flags | code
        assert_complete(explain(esr), esr)


def assert_complete(explanation: Explanation, esr: int) -> None:
    """One sentence, and rows whose values are the bits they claim."""
    assert explanation.sentence.endswith(".")
    assert ". " not in explanation.sentence
    assert "\n" not in explanation.sentence
    assert explanation.registers[0].value == esr
    for register in explanation.registers:
        for row in register.fields:
            assert_bits(row, register.value)


def assert_bits(row: FieldRow, word: int) -> None:
    assert row.value == word >> row.lsb & ((1 << (row.msb - row.lsb + 1)) - 1)
    assert row.span == bit_range(row.msb, row.lsb)
    for child in row.children:
        assert row.lsb <= child.lsb <= child.msb <= row.msb
        assert_bits(child, word)


def test_rows_of_a_described_data_abort() -> None:
    esr = explain(0x9383_0047).registers[0]
    assert (esr.name, [row.name for row in esr.fields]) == ("ESR_EL2", ["EC", "IL", "ISS"])
    assert [(row.name, row.span, row.value, row.meaning) for row in esr.fields[2].children] == [
        ("ISV", "[24]", 1, "SAS, SSE, SRT, SF and AR are valid"),
        ("SAS", "[23:22]", 2, "word, 4 bytes"),
        ("SSE", "[21]", 0, "not sign-extended"),
        ("SRT", "[20:16]", 3, "register 3"),
        ("SF", "[15]", 0, "32-bit register"),
        ("AR", "[14]", 0, "no acquire or release"),
        ("VNCR", "[13]", 0, "not by VNCR_EL2"),
        ("LST", "[12:11]", 0, "not an LS64 instruction"),
        ("FnV", "[10]", 0, "FAR is valid"),
        ("EA", "[9]", 0, ""),
        ("CM", "[8]", 0, "not cache maintenance"),
        ("S1PTW", "[7]", 0, "not on a stage 1 walk"),
        ("WnR", "[6]", 1, "write"),
        ("DFSC", "[5:0]", 7, "translation fault at level 3"),
    ]


def test_iss2_is_shown_when_it_holds_something_at_its_place_in_the_register() -> None:
    (iss2, *_) = explain(0x20_9200_000F).registers[0].fields
    assert (iss2.name, iss2.span) == ("ISS2", "[55:32]")
    dirty = next(row for row in iss2.children if row.value)
    assert (dirty.name, dirty.span, dirty.meaning) == ("DirtyBit", "[37]", "due to dirty state")


def test_address_registers_have_rows_and_say_when_they_hold_nothing() -> None:
    _, far, hpfar = explain(0x9383_0047, 0x1234, 0x40_0010).registers
    assert (far.name, far.fields[0].meaning) == ("FAR_EL2", "")
    assert (hpfar.name, hpfar.fields[1].meaning) == ("HPFAR_EL2", "page at IPA 0x4000_1000")
    _, far, hpfar = explain(0x5A00_0000, 0x1234, 0x40_0010).registers
    assert far.fields[0].meaning == hpfar.fields[1].meaning == "not valid"


@pytest.mark.parametrize(
    ("esr", "meaning"),
    [
        (0x9383_0047, "32-bit instruction"),
        (0x9183_0047, "16-bit instruction"),
        (0x9200_0047, "always 1 here"),
        (0x8200_0007, "always 1 here"),
        (0x5A00_0000, "32-bit instruction"),
    ],
)
def test_instruction_length_is_explained_where_it_means_something(esr: int, meaning: str) -> None:
    assert explain(esr).registers[0].fields[1].meaning == meaning


@pytest.mark.parametrize(
    ("esr", "hpfar", "assumed"),
    [
        (0x9200_0007, None, True),
        (0x8200_0007, None, True),
        (0x9200_0007, 0x40_0010, False),  # HPFAR_EL2 goes with stage 2 alone
        (0x9200_000F, 0x40_0010, True),  # but says nothing of a permission fault
        (0x9383_0047, None, False),  # ISV goes with stage 2 alone
        (0x9200_0087, None, False),  # and so does S1PTW
        (0x9200_0010, None, False),  # no stage is claimed
        (0x9600_0007, None, False),  # EL2's own
    ],
)
def test_note_tells_when_stage_2_is_an_assumption(
    esr: int, hpfar: int | None, assumed: bool
) -> None:
    assert bool(explain(esr, hpfar=hpfar).notes) is assumed


@pytest.mark.parametrize("name", ["esr", "far", "hpfar"])
@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_values_beyond_64_bits_are_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name.upper()} is an unsigned 64-bit value"):
        explain(**{"esr": 0, name: value})


@pytest.mark.parametrize("level", [0, 4])
def test_exceptions_are_taken_to_el1_el2_or_el3(level: int) -> None:
    with pytest.raises(ValueError, match=f"Exception level 1, 2 or 3, not {level}"):
        explain(0, taken_to=level)


def test_hpfar_belongs_to_el2() -> None:
    with pytest.raises(ValueError, match="HPFAR_EL2 belongs to exceptions taken to EL2"):
        explain(0, hpfar=0, taken_to=1)


def test_a_fault_on_a_table_walk_does_not_tell_what_the_instruction_wanted() -> None:
    for esr in (0x9200_008F, 0x9200_00CF):
        assert "tried to access memory" in explain(esr).sentence
