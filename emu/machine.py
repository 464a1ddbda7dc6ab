"""The machine: memory and processing elements."""

from __future__ import annotations

from typing import Final

from emu.arch.address import PA
from emu.arch.features import CORTEX_A72, CpuFeatures
from emu.cpu.pe import ProcessingElement
from emu.memory import PhysicalMemory
from emu.units.clock import Clock

MEMORY_BASE: Final = PA(0x8_0000_0000)
"""Where RAM begins. Guests see other addresses: telling PA from IPA must never be optional."""


class Machine:
    """A machine with one RAM and some PEs.

    Parameters
    ----------
    memory_size
        Bytes of RAM, page aligned.
    pe_count
        How many PEs.
    features
        What the CPU implements.
    memory_base
        Lowest address of RAM.

    Attributes
    ----------
    memory, pes
        The parts.
    clock
        The time.
    el2_data
        What EL2 software keeps for itself as long as the machine is there. The machine does
        not look at it.
    """

    def __init__(
        self,
        memory_size: int,
        pe_count: int = 1,
        features: CpuFeatures = CORTEX_A72,
        memory_base: PA = MEMORY_BASE,
    ) -> None:
        if pe_count < 1:
            raise ValueError(f"a machine has at least one PE, not {pe_count}")
        self.features = features
        self.memory = PhysicalMemory(memory_base, memory_size)
        self.clock = Clock()
        self.pes = [
            ProcessingElement(i, self.memory, features, self.clock) for i in range(pe_count)
        ]
        for pe in self.pes:
            pe.peers = self.pes
        self.el2_data: object = None
