"""One machine for many cases: puts a case into it, and leaves nothing of the one before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import IC
from emu.arch.a64.tlbi import TLBI
from emu.arch.address import PA
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    ESR_EL2,
    FAR_EL1,
    FAR_EL2,
    HPFAR_EL2,
    PAR_EL1,
    SPSR_EL1,
    SPSR_EL2,
)
from emu.machine import Machine
from lab.conformance.cases import MEMORY_BASE, MEMORY_SIZE

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.arch.fields import SystemRegister
    from lab.conformance.cases import Case

GENERAL_REGISTERS: Final = 31
VECTOR_REGISTERS: Final = 32
LANES: Final = 2
"""64-bit halves of a SIMD register."""

_NAMED_VECTORS: Final = 4
_LANE_DEFAULT: Final = 0xF0F0_F0F0_F0F0_F000

_LEFTOVERS: Final = (
    ESR_EL1(0),
    FAR_EL1(0),
    ELR_EL1(0),
    SPSR_EL1(0),
    PAR_EL1(0),
    ESR_EL2(0),
    FAR_EL2(0xFA2F_A2FA_2FA2_FA2F),
    HPFAR_EL2(0x5A_5A5A_5A50),
)
"""Registers that only exceptions write. A fault that does not write one leaves these."""


def initial_x(number: int) -> int:
    """Return what X0 to X30 hold unless the case says otherwise."""
    return 0xA0A0_0000_0000_0077 | number << 8


def initial_q(number: int) -> int:
    """Return what Q0 to Q31 hold: in Q0 to Q3 no two lanes are equal, the others are zero."""
    if number >= _NAMED_VECTORS:
        return 0
    low = _LANE_DEFAULT + LANES * number
    return low | (low + 1) << 64


class Bench:
    """A machine of one CPU model, and the case that is in it.

    Attributes
    ----------
    pe
        The PE that runs the case. This program is its EL2.
    x, q
        The general and SIMD registers as they were last set or read.
    memory
        What the cells that the case fills were last set to, by PA.
    """

    def __init__(self, features: CpuFeatures) -> None:
        machine = Machine(MEMORY_SIZE, features=features, memory_base=PA(MEMORY_BASE))
        self._ram = machine.memory
        self.features = features
        self.pe = machine.pes[0]
        self.x = [0] * GENERAL_REGISTERS
        self.q = [0] * VECTOR_REGISTERS
        self.memory: dict[PA, int] = {}
        self._registers: set[type[SystemRegister]] = set()

    def prepare(self, case: Case) -> None:
        """Put a case into the machine, as if nothing had ever run there."""
        self._ram.clear()
        self.memory = {}
        for pa, value in case.memory.items():
            self.store(pa, value)
        for register in self._registers - {type(value) for value in case.registers}:
            self.pe.write(register(0))
        self._registers.clear()
        for value in (*_LEFTOVERS, *case.registers):
            self.set_register(value)
        self.forget()
        for number in range(GENERAL_REGISTERS):
            self.set_x(number, case.general.get(number, initial_x(number)))
        for number, value in enumerate(self.q):
            if value != initial_q(number):
                self.pe.write_q(number, initial_q(number))
                self.q[number] = initial_q(number)
        self.pe.write(ELR_EL2(case.entry_pc))
        self.pe.write(SPSR_EL2(case.entry_spsr))

    def forget(self) -> None:
        """Empty the TLB and drop translated code.

        The exclusive monitor needs no help: every return from EL2 clears it.
        """
        self.pe.tlbi(TLBI.ALLE1)
        self.pe.ic(IC.IALLU)
        self.pe.engine.flush_tlb()
        self.pe.engine.forget_code()

    def store(self, pa: PA, value: int) -> None:
        """Store 64 bits as EL2."""
        self._ram.write_u64(pa, value)
        self.memory[pa] = value

    def load(self, pa: PA) -> int:
        """Load 64 bits as EL2."""
        return self._ram.read_u64(pa)

    def set_register(self, value: SystemRegister) -> None:
        """Write a system register."""
        self.pe.write(value)
        self._registers.add(type(value))

    def set_x(self, number: int, value: int) -> None:
        """Write a general register."""
        self.pe.write_x(number, value)
        self.x[number] = value

    def changed_registers(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the X registers and the SIMD halves that differ from when they were last seen."""
        gpr: dict[str, int] = {}
        simd: dict[str, int] = {}
        for number, before in enumerate(self.x):
            now = self.pe.read_x(number)
            if now != before:
                gpr[f"x{number}"] = self.x[number] = now
        for number, before in enumerate(self.q):
            now = self.pe.read_q(number)
            if now != before:
                self.q[number] = now
                for lane in range(LANES):
                    half = now >> 64 * lane & (1 << 64) - 1
                    if half != before >> 64 * lane & (1 << 64) - 1:
                        simd[f"q{number}[{lane}]"] = half
        return gpr, simd
