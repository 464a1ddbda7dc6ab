"""HCR_EL2 traps of system instructions, and what EL1 keeps from EL0 (Arm ARM, HCR_EL2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.maintenance import AT, DC, IC
from emu.arch.a64.tlbi import TLBI
from emu.arch.features import CORTEX_A72
from emu.arch.registers.control import DAIF
from emu.arch.registers.exceptions import (
    AFSR0_EL1,
    AFSR1_EL1,
    ELR_EL1,
    ESR_EL1,
    FAR_EL1,
    SPSR_EL1,
    VBAR_EL1,
)
from emu.arch.registers.identification import (
    CCSIDR_EL1,
    CLIDR_EL1,
    CSSELR_EL1,
    CTR_EL0,
    DCZID_EL0,
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
    MIDR_EL1,
    REVIDR_EL1,
)
from emu.arch.registers.translation import (
    AMAIR_EL1,
    CONTEXTIDR_EL1,
    MAIR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
)
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, SCTLR_RES1, Bare, Taken, Trap

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

VIRTUAL_MEMORY_CONTROLS: Final = (
    SCTLR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
    TCR_EL1,
    ESR_EL1,
    FAR_EL1,
    AFSR0_EL1,
    AFSR1_EL1,
    MAIR_EL1,
    AMAIR_EL1,
    CONTEXTIDR_EL1,
)
NO_MEMORY_CONTROLS: Final = (VBAR_EL1, ELR_EL1, SPSR_EL1)
REGISTER: Final = 5
"""Rt of every instruction here."""
DC_CSW: Final = 0xD508_7A40 | REGISTER

TRAPPED: Final = {
    **{f"TVM {r.__name__}": ("TVM", a64.msr(r, REGISTER)) for r in VIRTUAL_MEMORY_CONTROLS},
    **{f"TRVM {r.__name__}": ("TRVM", a64.mrs(REGISTER, r)) for r in VIRTUAL_MEMORY_CONTROLS},
    "TID3 ID_AA64MMFR0_EL1": ("TID3", a64.mrs(REGISTER, ID_AA64MMFR0_EL1)),
    "TID3 ID_AA64PFR0_EL1": ("TID3", a64.mrs(REGISTER, ID_AA64PFR0_EL1)),
    "TID3 reserved": ("TID3", 0xD538_07E0 | REGISTER),
    "TID2 CTR_EL0": ("TID2", a64.mrs(REGISTER, CTR_EL0)),
    "TID2 CCSIDR_EL1": ("TID2", a64.mrs(REGISTER, CCSIDR_EL1)),
    "TID2 CLIDR_EL1": ("TID2", a64.mrs(REGISTER, CLIDR_EL1)),
    "TID2 read of CSSELR_EL1": ("TID2", a64.mrs(REGISTER, CSSELR_EL1)),
    "TID2 write of CSSELR_EL1": ("TID2", a64.msr(CSSELR_EL1, REGISTER)),
    "TID1 REVIDR_EL1": ("TID1", a64.mrs(REGISTER, REVIDR_EL1)),
    "TID1 AIDR_EL1": ("TID1", 0xD539_00E0 | REGISTER),
    "TTLB VMALLE1": ("TTLB", TLBI.VMALLE1.word(REGISTER)),
    "TTLB VAE1IS": ("TTLB", TLBI.VAE1IS.word(REGISTER)),
    "TTLB ASIDE1": ("TTLB", TLBI.ASIDE1.word(REGISTER)),
    "TSW DC ISW": ("TSW", DC.ISW.word(REGISTER)),
    "TSW DC CSW": ("TSW", DC.CSW.word(REGISTER)),
    "TSW DC CISW": ("TSW", DC.CISW.word(REGISTER)),
    "TPCP DC IVAC": ("TPCP", DC.IVAC.word(REGISTER)),
    "TPCP DC CVAC": ("TPCP", DC.CVAC.word(REGISTER)),
    "TPCP DC CIVAC": ("TPCP", DC.CIVAC.word(REGISTER)),
    "TDZ DC ZVA": ("TDZ", DC.ZVA.word(REGISTER)),
    "TPU DC CVAU": ("TPU", DC.CVAU.word(REGISTER)),
    "TPU IC IVAU": ("TPU", IC.IVAU.word(REGISTER)),
    "TPU IC IALLU": ("TPU", IC.IALLU.word(REGISTER)),
    "TPU IC IALLUIS": ("TPU", IC.IALLUIS.word(REGISTER)),
}
"""The bit of HCR_EL2 and an instruction that it traps."""


NEWER: Final = CORTEX_A72.replace(
    ID_AA64MMFR2_EL1.build(EVT=2), ID_AA64ISAR0_EL1.build(TLB=2), ID_AA64ISAR1_EL1.build(DPB=2)
)
NEWER_TRAPS: Final[dict[str, set[TLBI | IC | DC]]] = {
    "TTLBIS": {TLBI.VMALLE1IS, TLBI.VAE1IS, TLBI.RVAE1IS},
    "TTLBOS": {TLBI.VMALLE1OS, TLBI.VAE1OS, TLBI.RVAE1OS},
    "TTLB": {TLBI.VMALLE1, TLBI.VMALLE1IS, TLBI.VAE1IS, TLBI.RVAE1IS, TLBI.VMALLE1OS,
             TLBI.VAE1OS, TLBI.RVAE1OS},
    "TICAB": {IC.IALLUIS},
    "TOCU": {IC.IALLU, IC.IVAU, DC.CVAU},
    "TPU": {IC.IALLU, IC.IALLUIS, IC.IVAU, DC.CVAU},
    "TPCP": {DC.CVAC, DC.CVAP, DC.CVADP},
}  # fmt: skip
"""Of these operations, those that a bit traps."""
NEWER_OPERATIONS: Final = sorted(
    {operation for trapped in NEWER_TRAPS.values() for operation in trapped}, key=str
)


def sys64(word: int) -> int:
    """Return the syndrome of a trapped system instruction, from its own fields."""
    fields = (
        (word >> 19 & 3) << 20  # op0
        | (word >> 5 & 7) << 17  # op2
        | (word >> 16 & 7) << 14  # op1
        | (word >> 12 & 15) << 10  # CRn
        | (word & 31) << 5  # Rt
        | (word >> 8 & 15) << 1  # CRm
        | word >> 21 & 1  # direction: L
    )
    return 0x6200_0000 | fields


def test_syndrome_of_one_trap_by_its_number(bare: Bare) -> None:
    bare.change_hcr(TVM=1)
    assert bare.trap(a64.msr(TCR_EL1, 1)).esr == 0x6234_0820


@pytest.mark.parametrize("case", TRAPPED)
def test_bit_traps_the_instruction(bare: Bare, case: str) -> None:
    bit, word = TRAPPED[case]
    bare.change_hcr(**{bit: 1})
    bare.set_x(x5=DATA)
    trap = bare.trap(a64.NOP, word, a64.hvc(0))
    assert trap == Trap(sys64(word), 0, 0, CODE + 4, EL1H)
    assert bare.pe.retired == 1
    assert bare.x(REGISTER) == DATA


@pytest.mark.parametrize("case", TRAPPED)
def test_instruction_runs_without_its_bit(bare: Bare, case: str) -> None:
    bit, word = TRAPPED[case]
    others = dict.fromkeys({b for b, _ in TRAPPED.values()} - {bit}, 1)
    if bit == "TPU" or bit == "TPCP":  # noqa: PLR1714  # read as two rules
        others = {}
    bare.change_hcr(**others)
    bare.map_ipa(DATA)
    bare.set_x(x5=DATA if word >> 19 & 3 == 1 else 0)
    writes = word >> 21 & 1 == 0 and word >> 19 & 3 == 3
    if writes:  # write back what is there: the program must survive it
        register = next(r for r in (*VIRTUAL_MEMORY_CONTROLS, CSSELR_EL1) if a64.msr(r, 5) == word)
        bare.set_x(x5=bare.pe.read(register))
    assert bare.trap(word, a64.hvc(0)).esr == 0x5A00_0000


@pytest.mark.parametrize("bit", NEWER_TRAPS)
@pytest.mark.parametrize("operation", NEWER_OPERATIONS, ids=str)
def test_traps_of_operations_with_later_features(bit: str, operation: TLBI | IC | DC) -> None:
    bare = Bare(NEWER)
    bare.change_hcr(**{bit: 1})
    bare.map_ipa(DATA)
    bare.set_x(x5=DATA)
    word = operation.word(REGISTER)
    esr = sys64(word) if operation in NEWER_TRAPS[bit] else 0x5A00_0000
    assert bare.trap(word, a64.hvc(0)).esr == esr


@pytest.mark.parametrize("register", [CCSIDR_EL1, CLIDR_EL1, CSSELR_EL1, CTR_EL0])
def test_tid4_traps_cache_identification_but_ctr(register: type[SystemRegister]) -> None:
    bare = Bare(NEWER)
    bare.change_hcr(TID4=1)
    word = a64.mrs(5, register)
    esr = 0x5A00_0000 if register is CTR_EL0 else sys64(word)
    assert bare.trap(word, a64.hvc(0)).esr == esr


@pytest.mark.parametrize("bit", ["TTLBIS", "TTLBOS", "TICAB", "TOCU", "TID4"])
def test_bits_of_a_missing_feature_trap_nothing(bare: Bare, bit: str) -> None:
    bare.change_hcr(**{bit: 1})
    words = (TLBI.VMALLE1IS.word(), IC.IALLUIS.word(), IC.IALLU.word(), a64.mrs(5, CLIDR_EL1))
    assert bare.trap(*words, a64.hvc(0)).esr == 0x5A00_0000


@pytest.mark.parametrize("register", NO_MEMORY_CONTROLS)
def test_registers_beside_the_memory_controls_never_trap(
    bare: Bare, register: type[SPSR_EL1]
) -> None:
    bare.change_hcr(TVM=1, TRVM=1)
    words = (a64.mrs(5, register), a64.msr(register, 5), a64.hvc(0))
    assert bare.trap(*words).esr == 0x5A00_0000


def test_address_translation_is_not_trapped_by_ttlb(bare: Bare) -> None:
    bare.change_hcr(TTLB=1)
    assert bare.trap(AT.S1E1R.word(2), a64.hvc(0)).esr == 0x5A00_0000


def test_trap_can_be_turned_on_after_the_code_has_run(bare: Bare) -> None:
    words = (a64.mrs(5, TCR_EL1), a64.hvc(0))
    assert bare.trap(*words).esr == 0x5A00_0000
    bare.change_hcr(TRVM=1)
    bare.start()
    assert bare.trap().esr == sys64(words[0])


# EL0

UNDEFINED_AT_EL0: Final = {
    "mrs sctlr_el1": a64.mrs(5, SCTLR_EL1),
    "msr tcr_el1": a64.msr(TCR_EL1, 5),
    "mrs midr_el1": a64.mrs(5, MIDR_EL1),
    "mrs id_aa64mmfr0_el1": a64.mrs(5, ID_AA64MMFR0_EL1),
    "mrs clidr_el1": a64.mrs(5, CLIDR_EL1),
    "mrs csselr_el1": a64.mrs(5, CSSELR_EL1),
    "tlbi vmalle1": TLBI.VMALLE1.word(),
    "at s1e1r": AT.S1E1R.word(5),
    "dc ivac": DC.IVAC.word(5),
    "dc csw": DC.CSW.word(5),
    "ic iallu": IC.IALLU.word(),
    "msr spsel": 0xD500_41BF,
}


@pytest.mark.parametrize("traps", [{}, {"TVM": 1, "TRVM": 1, "TID2": 1, "TID3": 1, "TTLB": 1}])
@pytest.mark.parametrize("case", UNDEFINED_AT_EL0)
def test_el1_instructions_are_undefined_at_el0(
    bare: Bare, case: str, traps: dict[str, int]
) -> None:
    bare.change_hcr(**traps, TSW=traps.get("TVM", 0), TPU=traps.get("TVM", 0))
    taken = bare.taken_to_el1(a64.NOP, UNDEFINED_AT_EL0[case], pstate=EL0T)
    assert taken == Taken(0x400, 0x0200_0000, 0, CODE + 4, EL0T), "before any trap to EL2"


EL0_ENABLES: Final = {
    "mrs ctr_el0": ("UCT", a64.mrs(5, CTR_EL0)),
    "dc cvau": ("UCI", DC.CVAU.word(5)),
    "dc cvac": ("UCI", DC.CVAC.word(5)),
    "dc civac": ("UCI", DC.CIVAC.word(5)),
    "ic ivau": ("UCI", IC.IVAU.word(5)),
    "dc zva": ("DZE", DC.ZVA.word(5)),
    "mrs daif": ("UMA", a64.mrs(5, DAIF)),
    "msr daifset": ("UMA", 0xD503_42DF),
}
"""What EL0 may do only if EL1 sets a bit of SCTLR_EL1."""


@pytest.mark.parametrize("case", EL0_ENABLES)
def test_el1_traps_what_it_keeps_from_el0(bare: Bare, case: str) -> None:
    _, word = EL0_ENABLES[case]
    bare.change_hcr(TID2=1, TPU=1, TPCP=1)
    bare.map_ipa(DATA)
    bare.set_x(x5=DATA)
    taken = bare.taken_to_el1(a64.NOP, word, pstate=EL0T)
    assert taken == Taken(0x400, sys64(word), 0, CODE + 4, EL0T), "before any trap to EL2"


@pytest.mark.parametrize("case", EL0_ENABLES)
def test_el0_may_do_what_el1_allows(bare: Bare, case: str) -> None:
    bit, word = EL0_ENABLES[case]
    bare.pe.write(SCTLR_RES1.replace(**{bit: 1}))
    bare.map_ipa(DATA)
    bare.set_x(x5=DATA)
    assert bare.taken_to_el1(word, a64.svc(7), pstate=EL0T).esr == 0x5600_0007


def test_el0_traps_to_el2_once_el1_allows(bare: Bare) -> None:
    bare.pe.write(SCTLR_RES1.replace(UCT=1))
    bare.change_hcr(TID2=1)
    word = a64.mrs(5, CTR_EL0)
    assert bare.trap(word, pstate=EL0T).esr == sys64(word)


def test_dczid_is_open_to_el0(bare: Bare) -> None:
    bare.taken_to_el1(a64.mrs(5, DCZID_EL0), a64.svc(0), pstate=EL0T)
    assert bare.x(5) == 4


def test_maintenance_by_el0_needs_read_permission(bare: Bare) -> None:
    bare.pe.write(SCTLR_RES1.replace(UCI=1))
    bare.map_ipa(DATA, attributes=0x73C & ~0xC0)
    bare.set_x(x5=DATA + 0x40)
    trap = bare.trap(DC.CIVAC.word(5), pstate=EL0T)
    assert (trap.esr, trap.far) == (0x9200_014F, DATA + 0x40)
