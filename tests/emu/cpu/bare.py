"""A machine whose EL2 is the test.

Stage 2 is on, with 40-bit IPAs; stage 1 is off until :meth:`Bare.stage1_on`, and memory is
Normal nevertheless (HCR_EL2.DC), so that it can be accessed unaligned. Nothing is mapped but
what the test maps. Code stands at :data:`CODE`, where VA and IPA are the same; the EL1 vectors
at :data:`VECTORS` leave to EL2 with ``HVC #(0x100 + index)``.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from emu.arch.a64.maintenance import IC
from emu.arch.address import PA, VA
from emu.arch.features import CORTEX_A72, CpuFeatures
from emu.arch.registers.control import CPACR_EL1
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    ESR_EL2,
    FAR_EL1,
    FAR_EL2,
    HPFAR_EL2,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
)
from emu.arch.registers.translation import MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1
from emu.arch.registers.virtualization import HCR_EL2, VTCR_EL2, VTTBR_EL2
from emu.cpu.pe import EL2Entry
from emu.machine import Machine
from tests.emu.cpu import a64, tables
from tests.emu.cpu.tables import Tables

CODE: Final = 0x4000_0000
VECTORS: Final = 0x4010_0000
DATA: Final = 0x4020_0000
"""An address that tests map themselves."""
STAGE1_TABLES: Final = 0x5000_0000

EL1H: Final = 0x3C5
EL1T: Final = 0x3C4
EL0T: Final = 0x3C0

S2_NORMAL: Final = tables.S2_NORMAL | tables.INNER | tables.AF
S2_RW: Final = S2_NORMAL | tables.S2_RW
S2_RO: Final = S2_NORMAL | tables.S2_RO
S1_RW: Final = tables.INNER | tables.AF
S1_USER: Final = S1_RW | tables.S1_EL0

VTCR: Final = VTCR_EL2.build(RES1=1, PS=4, TG0=0, SH0=3, ORGN0=1, IRGN0=1, SL0=1, T0SZ=24)
TCR: Final = TCR_EL1.build(IPS=2, TG0=0, T0SZ=25, TG1=2, T1SZ=25, TBI1=0)
SCTLR_RES1: Final = SCTLR_EL1.build(SPAN=1, EOS=1, EIS=1, LSMAOE=1, nTLSMD=1, TSCXT=1)
RANDOM_X: Final = 0xA0A0_0000_0000_0077
"""What X registers hold that a test did not set, with the number in bits [15:8]."""


class Trap(NamedTuple):
    """The registers of an entry to EL2."""

    esr: int
    far: int
    hpfar: int
    elr: int
    spsr: int


class Taken(NamedTuple):
    """The registers of an exception taken to EL1."""

    vector: int
    """Offset from VBAR_EL1."""
    esr: int
    far: int
    elr: int
    spsr: int


class Bare:
    """One machine; its PE 0 is driven by default."""

    def __init__(self, features: CpuFeatures = CORTEX_A72, pe_count: int = 1) -> None:
        self.machine = Machine(16 << 20, pe_count, features)
        self.memory = self.machine.memory
        self.pe = self.machine.pes[0]
        self._next_frame = self.memory.base
        self._next_stage1_table = STAGE1_TABLES
        self.s2 = Tables(self.memory, self._stage2_table, start_level=1, roots=2)
        self.s1 = Tables(self.memory, self._stage1_table)
        self.s1_upper = Tables(self.memory, self._stage1_table)
        self._code_pages: dict[int, PA] = {}
        for pe in self.machine.pes:
            self._set_up(pe)
        for i in range(16):
            self.code(a64.hvc(0x100 + i), at=VECTORS + 0x80 * i)
        for n in range(31):
            self.pe.write_x(n, RANDOM_X | n << 8)

    def _set_up(self, pe: Any) -> None:  # noqa: ANN401  # a ProcessingElement
        # Normal memory while stage 1 is off: Device memory refuses unaligned accesses.
        pe.write(HCR_EL2.build(RW=1, VM=1, DC=1))
        pe.write(VTCR)
        pe.write(self.vttbr(vmid=1))
        pe.write(TCR)
        pe.write(TTBR0_EL1(self.s1.root))
        pe.write(TTBR1_EL1(self.s1_upper.root))
        pe.write(SCTLR_RES1)
        pe.write(MAIR_EL1.build(Attr0=0xFF))
        pe.write(VBAR_EL1(VECTORS))
        pe.write(CPACR_EL1.build(FPEN=3))

    # Memory

    def frame(self) -> PA:
        """Return the next free page of RAM, which is zero."""
        pa = PA(self._next_frame)
        self._next_frame = PA(self._next_frame + 0x1000)
        return pa

    def block(self) -> PA:
        """Return the next free 2 MiB of RAM."""
        pa = PA(self._next_frame + 0x1F_FFFF & -0x20_0000)
        self._next_frame = PA(pa + 0x20_0000)
        return pa

    def _stage2_table(self) -> tuple[int, PA]:
        pa = self.frame()
        return pa, pa

    def _stage1_table(self) -> tuple[int, PA]:
        ipa = self._next_stage1_table
        self._next_stage1_table += 0x1000
        return ipa, self.map_ipa(ipa)

    def map_ipa(self, ipa: int, pa: PA | None = None, attributes: int = S2_RW) -> PA:
        """Map a page at stage 2, to a new frame unless ``pa`` is given."""
        pa = self.frame() if pa is None else pa
        self.s2.map(ipa, pa, attributes)
        return pa

    def map_va(self, va: int, ipa: int, attributes: int = S1_RW) -> None:
        """Map a page at stage 1."""
        (self.s1_upper if va >> 55 & 1 else self.s1).map(va, ipa, attributes)

    def code(self, *words: int, at: int = CODE) -> int:
        """Put instructions at an IPA that is mapped for them; return the address after them."""
        for i, word in enumerate(words):
            page = at + 4 * i & -0x1000
            if page not in self._code_pages:
                self._code_pages[page] = self.map_ipa(page)
            pa = PA(self._code_pages[page] | at + 4 * i & 0xFFF)
            self.memory.write(pa, word.to_bytes(4, "little"))
        return at + 4 * len(words)

    def stage1_on(self, **sctlr: int) -> None:
        """Turn stage 1 on, with code and vectors mapped flat for EL0 and EL1 to execute."""
        for page in self._code_pages:
            self.map_va(page, page, S1_RW | tables.S1_READ_ONLY | tables.S1_EL0)
        self.pe.write(self.pe.read(HCR_EL2).replace(DC=0))
        self.pe.write(SCTLR_RES1.replace(M=1, **sctlr))

    def vttbr(self, vmid: int) -> VTTBR_EL2:
        """Return VTTBR_EL2 for this tree."""
        return VTTBR_EL2.build(VMID=vmid, BADDR=self.s2.root >> 1)

    # Running

    def start(self, pc: int = CODE, pstate: int = EL1H) -> None:
        """Have the next run begin at ``pc``."""
        self.pe.write(ELR_EL2(pc))
        self.pe.write(SPSR_EL2(pstate))

    def run(self, *words: int, pstate: int = EL1H, budget: int = 10_000) -> EL2Entry:
        """Run a program from its beginning, or go on where EL2 was entered."""
        if words:
            self.code(*words)
            if self.pe.retired:
                self.pe.ic(IC.IALLUIS)
            self.start(CODE, pstate)
        return self.pe.run(budget)

    def trap(self, *words: int, pstate: int = EL1H) -> Trap:
        """Run, expect a trap to EL2 and return its registers."""
        why = self.run(*words, pstate=pstate)
        assert why is EL2Entry.TRAP, why
        read = self.pe.read
        return Trap(
            int(read(ESR_EL2)),
            int(read(FAR_EL2)),
            int(read(HPFAR_EL2)),
            int(read(ELR_EL2)),
            int(read(SPSR_EL2)),
        )

    def taken_to_el1(self, *words: int, pstate: int = EL1H) -> Taken:
        """Run, expect an exception to EL1 and return its registers."""
        trap = self.trap(*words, pstate=pstate)
        assert trap.esr >> 8 == 0x5A00_0100 >> 8, f"not a vector's HVC: {trap}"
        read = self.pe.read
        return Taken(
            (trap.esr & 0xFF) * 0x80,
            int(read(ESR_EL1)),
            int(read(FAR_EL1)),
            int(read(ELR_EL1)),
            int(read(SPSR_EL1)),
        )

    def x(self, number: int) -> int:
        """Return a general register."""
        return self.pe.read_x(number)

    def set_x(self, **values: int) -> None:
        """Set general registers: ``set_x(x1=DATA)``."""
        for name, value in values.items():
            self.pe.write_x(int(name.removeprefix("x")), value)

    def change_hcr(self, **fields: int) -> None:
        """Change fields of HCR_EL2."""
        self.pe.write(self.pe.read(HCR_EL2).replace(**fields))


def ipa_page(hpfar: int) -> int:
    """Return the IPA page of an HPFAR_EL2."""
    return hpfar >> 4 << 12


def page_of(va: int) -> VA:
    """Return the first address of a page."""
    return VA(va & -0x1000)
