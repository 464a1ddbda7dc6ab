"""Random registers and tables in which a translation has a fair chance to succeed.

Trees are drawn for one VA: down to a random level, with random attributes, then damaged in up
to two places. They use the naive formats; the machine sees nothing but registers and memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hypothesis import strategies as st

from emu.arch.address import PA
from emu.arch.features import CpuFeatures
from emu.arch.registers.identification import (
    ID_AA64MMFR0_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
)
from emu.memory import PhysicalMemory
from tests.emu.mmu.naive_format import SIZES, Cpu, Registers, Tree, stage1_tree, stage2_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]

MEMORY: Final = 64 << 20
SIZE_CODES: Final = {bits: code for code, bits in SIZES.items() if code < 7}
TG0: Final = {12: 0, 16: 1, 14: 2}
TG1: Final = {14: 1, 12: 2, 16: 3}
BIT: Final = st.sampled_from([0, 1])
RARE: Final = st.sampled_from([0] * 7 + [1])
OFTEN: Final = RARE.map(lambda rare: 1 - rare)


def features_of(cpu: Cpu) -> CpuFeatures:
    """Return the machine's features for the naive ones."""
    return CpuFeatures(
        "random",
        (
            ID_AA64MMFR0_EL1.build(
                PARange=SIZE_CODES[cpu.pa_bits],
                ASIDBits=2,
                TGran4=1 if cpu.lpa2 else 0,
                TGran16=2 if cpu.lpa2 else 1,
                TGran64=0,
            ),
            ID_AA64MMFR1_EL1.build(
                HAFDBS=cpu.hafdbs, XNX=cpu.xnx, PAN=3 if cpu.pan3 else 2, HPDS=cpu.hpds
            ),
            ID_AA64MMFR2_EL1.build(VARange=cpu.lva, ST=cpu.ttst, E0PD=cpu.e0pd),
        ),
    )


class World(NamedTuple):
    """One case: a CPU, its registers and memory, and the VA to translate."""

    cpu: Cpu
    registers: Registers
    memory: PhysicalMemory
    va: int

    def features(self) -> CpuFeatures:
        """Return the machine's form of the CPU."""
        return features_of(self.cpu)


class Builder:
    """Draws a world."""

    def __init__(self, draw: Draw, cpu: Cpu) -> None:
        self.draw = draw
        self.cpu = cpu
        base = draw(st.sampled_from([0x8_0000_0000, (1 << cpu.pa_bits) - MEMORY]))
        self.memory = PhysicalMemory(PA(base), MEMORY)
        self.next: int = base
        self.written: list[int] = []

    def allocate(self, size_bits: int) -> int:
        """Return memory that is aligned to its size."""
        self.next = (self.next + (1 << size_bits) - 1) >> size_bits << size_bits
        pa = self.next
        self.next += 1 << size_bits
        return pa

    def store(self, pa: int, word: int) -> None:
        """Write a descriptor."""
        self.memory.write_u64(PA(pa), word)
        self.written.append(pa)

    def registers(self, ttbr0: int, ttbr1: int, vttbr: int) -> Registers:
        """Draw control registers around the roots given."""
        draw, cpu = self.draw, self.cpu
        sizes = st.sampled_from([*[cpu.pa_bits] * 20, 32, 36, 40])
        ds = draw(BIT) if cpu.lpa2 else 0
        g1, g2 = draw(st.sampled_from([12, 14, 16])), draw(st.sampled_from([12, 14, 16]))
        small = draw(RARE)
        tsz = st.integers(12 if small else 16, 48 if small else 39)
        tcr = (
            draw(tsz) | draw(RARE) * draw(BIT) << 7 | TG0[g1] << 14
            | draw(tsz) << 16 | draw(RARE) * draw(BIT) << 23 | TG1[g1] << 30
            | SIZE_CODES[draw(sizes)] << 32 | draw(BIT) << 37 | draw(BIT) << 38
            | draw(BIT) << 39 | draw(BIT) << 40 | draw(BIT) << 41 | draw(BIT) << 42
            | draw(RARE) << 55 | draw(RARE) << 56 | ds << 59
        )  # fmt: skip
        vtcr = (
            TG0[g2] << 14 | SIZE_CODES[draw(sizes)] << 16
            | draw(BIT) << 21 | draw(BIT) << 22 | 1 << 31 | ds << 32
        )  # fmt: skip
        vtcr |= self.stage2_shape(vtcr)
        sctlr = draw(OFTEN) | draw(RARE) << 19 | draw(BIT) << 57
        hcr = draw(OFTEN) | draw(BIT) << 2 | draw(RARE) << 12 | 1 << 31
        return Registers(sctlr, tcr, ttbr0, ttbr1, hcr, vtcr, vttbr)

    def stage2_shape(self, vtcr: int) -> int:
        """Draw T0SZ, SL0 and SL2: mostly some that fit together."""
        any_shape = st.builds(
            lambda tsz, sl0, sl2: tsz | sl0 << 6 | sl2 << 33,
            st.integers(12, 48), st.integers(0, 3), RARE,
        )  # fmt: skip
        fitting = [
            tsz | sl0 << 6 | sl2 << 33
            for tsz in range(12, 49)
            for sl0 in range(4)
            for sl2 in range(2)
            if stage2_tree(self.cpu, Registers(0, 0, 0, 0, 0, vtcr | tsz | sl0 << 6 | sl2 << 33, 0))
        ]
        roomy = [shape for shape in fitting if shape & 0x3F <= 34]
        choice = st.sampled_from(
            [*[st.sampled_from(roomy)] * 6, st.sampled_from(fitting), any_shape]
        )
        shape: int = self.draw(self.draw(choice))
        return shape

    def address_field(self, tree: Tree, address: int) -> int:
        """Return descriptor bits for an address."""
        if not tree.wide:
            return address & (1 << 48) - 1
        if tree.granule == 16:
            return address & (1 << 48) - 1 | (address >> 48 & 0xF) << 12
        return address & (1 << 50) - 1 | (address >> 50 & 3) << 8

    def leaf_level(self, tree: Tree) -> int:
        """Draw the level of a leaf, mostly one that may be there."""
        levels = [level for level in range(max(tree.start, 0), 3) if tree.block_exists(level)]
        level: int = self.draw(st.sampled_from([3, 3, 3, *levels]))
        return max(level, tree.start)

    def leaf_bits(self, stage: int) -> int:
        """Draw attributes of a leaf."""
        draw = self.draw
        common: int = (
            draw(st.sampled_from([1, 1, 0])) << 10
            | draw(BIT) << 51
            | draw(BIT) << 53
            | draw(BIT) << 54
        )
        if stage == 1:
            return common | int(draw(st.integers(0, 3))) << 6 | int(draw(BIT)) << 11
        s2ap: int = draw(st.sampled_from([3, 3, 3, 2, 1, 0]))
        return common | s2ap << 6 | int(draw(st.sampled_from([15, 15, 15, 0]))) << 2

    def map_stage2(self, registers: Registers, ipa: int, pa: int, *, plain: bool = False) -> None:
        """Map the page of an IPA, unless a table already leads elsewhere."""
        tree = stage2_tree(self.cpu, registers)
        if tree is None or ipa >> tree.input_bits:
            return
        leaf = 3 if plain else self.leaf_level(tree)
        table, index = tree.base(), tree.first_index(ipa)
        for level in range(tree.start, leaf + 1):
            if level > tree.start:
                index = tree.entry_index(ipa, level)
            at = table + 8 * index
            if not self.memory.contains(PA(at), 8):
                return
            word = self.memory.read_u64(PA(at))
            if level < leaf and word & 3 != 3:
                word = self.address_field(tree, self.allocate(tree.granule)) | 3
                self.store(at, word)
            elif level == leaf and not word & 1:
                shift = tree.shift(level)
                output = self.address_field(tree, pa >> shift << shift)
                bits = 0x7FC if plain else self.leaf_bits(2)
                self.store(at, output | bits | (3 if level == 3 else 1))
            table = tree.output(word)

    def map_stage1(self, registers: Registers, va: int, ipa: int) -> None:
        """Map the page of a VA; its tables are at IPAs that are mapped as well."""
        upper = va >> 55 & 1
        tree = stage1_tree(self.cpu, registers, upper)
        if tree is None:
            return
        leaf = self.leaf_level(tree)
        table, index = tree.base(), tree.first_index(va)
        for level in range(tree.start, leaf + 1):
            if level > tree.start:
                index = tree.entry_index(va, level)
            if level == leaf:
                shift = tree.shift(level)
                word = self.address_field(tree, ipa >> shift << shift)
                word |= self.leaf_bits(1) | (3 if level == 3 else 1)
            else:
                hierarchical = self.draw(st.sampled_from([0] * 8 + list(range(1, 16)))) << 59
                stage2_on = registers.hcr & 0x1001
                next_table = (
                    self.draw(st.integers(1, 200)) << 16 if stage2_on else self.allocate(16)
                )
                word = self.address_field(tree, next_table) | hierarchical | 3
            self.store_by_ipa(registers, table + 8 * index, word)
            table = tree.output(word)

    def store_by_ipa(self, registers: Registers, ipa: int, word: int) -> None:
        """Write a stage-1 descriptor, mapping its page at stage 2 (granule 64 KiB at most)."""
        if not registers.hcr & 0x1001:
            if self.memory.contains(PA(ipa), 8):
                self.store(ipa, word)
            return
        page = self.allocate(16)
        self.map_stage2(registers, ipa, page, plain=bool(self.draw(OFTEN)))
        self.store(page | ipa & 0xFFF8, word)
        tree = stage2_tree(self.cpu, registers)
        if tree is not None and tree.granule < 16:
            self.store(page | ipa & (1 << tree.granule) - 8, word)

    def damage(self) -> None:
        """Flip bits of descriptors, or replace them."""
        for _ in range(self.draw(st.sampled_from([0, 0, 0, 1, 2]))):
            pa = PA(self.draw(st.sampled_from(self.written))) if self.written else None
            if pa is None:
                return
            flip = self.draw(
                st.sampled_from([1, 2, 1 << 10, 1 << 47, 1 << 44, 1 << 9, 1 << 12, 1 << 40])
            )
            self.memory.write_u64(pa, self.memory.read_u64(pa) ^ flip)


CPUS: Final = st.builds(
    Cpu,
    pa_bits=st.sampled_from([36, 40, 42, 44, 48, 52]),
    lpa2=BIT.map(bool), lva=BIT.map(bool), ttst=BIT.map(bool), xnx=BIT.map(bool),
    hafdbs=st.integers(0, 2), pan3=BIT.map(bool), e0pd=BIT.map(bool), hpds=BIT.map(bool),
)  # fmt: skip


@st.composite
def worlds(draw: Draw) -> World:
    """Draw a world."""
    cpu: Cpu = draw(CPUS)
    builder = Builder(draw, cpu)
    registers = builder.registers(0, 0, 0)
    root = builder.allocate(20)
    wide2 = (tree := stage2_tree(cpu, registers)) is not None and tree.wide
    upper = draw(BIT)
    stage1_on = registers.sctlr & 1
    s1 = stage1_tree(cpu, registers, upper)
    stage2_on = bool(registers.hcr & 0x1001)
    table1 = draw(st.integers(1, 200)) << 20 if stage2_on else builder.allocate(20)
    ttbr = table1 & (1 << 48) - 1 | (s1 is not None and s1.wide) * (table1 >> 48 & 0xF) << 2
    registers = registers._replace(
        ttbr0=ttbr, ttbr1=ttbr,
        vttbr=root & (1 << 48) - 1 | wide2 * (root >> 48 & 0xF) << 2,
    )  # fmt: skip
    low = draw(st.integers(0, (1 << min(s1.input_bits if s1 else 48, 52)) - 1))
    pa = builder.allocate(16) | low & 0xFFFF
    if stage1_on:
        va = low if not upper else low | -(1 << (s1.input_bits if s1 else 48)) & (1 << 64) - 1
        if draw(RARE):
            va ^= 1 << draw(st.integers(24, 63))
        ipa_bits = tree.input_bits if tree else 40
        ipa = (
            draw(st.integers(0, (1 << ipa_bits) - 1)) >> 16 << 16 | low & 0xFFFF
            if stage2_on
            else pa
        )
        builder.map_stage1(registers, va, ipa)
    else:
        va = ipa = (
            low & (1 << min(cpu.pa_bits, tree.input_bits if tree else 48)) - 1 if stage2_on else pa
        )
    if stage2_on:
        builder.map_stage2(registers, ipa, pa)
    builder.damage()
    return World(cpu, registers, builder.memory, va)
