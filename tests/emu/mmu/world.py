"""Random registers and tables in which a translation has a fair chance to succeed.

Trees are built for one VA: down to a random level, with random attributes, then damaged in up
to two places. They use the naive formats; the machine sees nothing but registers and memory.
All chances come from one ``random.Random``: seeded, or played by hypothesis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

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
    from random import Random

MEMORY: Final = 64 << 20
SIZE_CODES: Final = {bits: code for code, bits in SIZES.items() if code < 7}
GRANULES: Final = ((12, 14, 16),) * 8 + ((12,), (14,), (16,), (12, 16), (14, 16), (12, 14))
RESERVED_TG: Final = {0: 3, 1: 0}
TG0: Final = {12: 0, 16: 1, 14: 2}
TG1: Final = {14: 1, 12: 2, 16: 3}
MAIR: Final = 0x_00_04_08_0C_44_BB_F4_FF
"""All Device types; Normal memory with both caches, one or none."""
MEMATTRS: Final[tuple[int, ...]] = (
    *range(4),
    0b0101,
    0b0110,
    0b0111,
    0b1001,
    0b1010,
    0b1011,
    0b1101,
    0b1110,
)
FLIPS: Final = (0, 1, 9, 10, 12, 40, 44, 47)


def features_of(cpu: Cpu) -> CpuFeatures:
    """Return the machine's features for the naive ones."""
    wide = cpu.lpa2
    first, second = cpu.granules, cpu.granules2
    return CpuFeatures(
        "random",
        (
            ID_AA64MMFR0_EL1.build(
                PARange=SIZE_CODES[cpu.pa_bits],
                ASIDBits=2,
                TGran4=int(wide) if 12 in first else 0xF,
                TGran16=1 + wide if 14 in first else 0,
                TGran64=0 if 16 in first else 0xF,
                TGran4_2=_second(12, first, second, wide=wide),
                TGran16_2=_second(14, first, second, wide=wide),
                TGran64_2=_second(16, first, second, wide=False),
            ),
            ID_AA64MMFR1_EL1.build(
                HAFDBS=cpu.hafdbs, XNX=cpu.xnx, PAN=3 if cpu.pan3 else 2, HPDS=cpu.hpds
            ),
            ID_AA64MMFR2_EL1.build(VARange=cpu.lva, ST=cpu.ttst, E0PD=cpu.e0pd, FWB=cpu.fwb),
        ),
    )


def _second(granule: int, first: tuple[int, ...], second: tuple[int, ...], *, wide: bool) -> int:
    """Return TGranX_2: 0 is what stage 1 has, 1 is none, 2 and 3 are without and with LPA2."""
    if (granule in first) == (granule in second):
        return 0
    return 2 + wide if granule in second else 1


class World(NamedTuple):
    """One case: a CPU, its registers and memory, and the VA to translate."""

    cpu: Cpu
    registers: Registers
    memory: PhysicalMemory
    va: int

    @property
    def has_two_stages(self) -> bool:
        """Whether both stages translate: SCTLR_EL1.M and HCR_EL2.VM, without TGE and DC."""
        r = self.registers
        return bool(r.sctlr & 1 and r.hcr & 1 and not r.hcr & (1 << 27 | 1 << 12))

    def trees(self) -> list[tuple[str, Tree]]:
        """Return the trees that a translation of the VA goes through, as far as there are any."""
        first = stage1_tree(self.cpu, self.registers, self.va >> 55 & 1)
        second = stage2_tree(self.cpu, self.registers)
        return [(name, tree) for name, tree in (("stage 1", first), ("stage 2", second)) if tree]


class Builder:
    """Makes a world."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.cpu = self.draw_cpu()
        base = random.choice([*[0x8_0000_0000] * 5, (1 << self.cpu.pa_bits) - MEMORY])
        self.memory = PhysicalMemory(PA(base), MEMORY)
        self.next: int = base
        self.written: list[int] = []

    def bit(self) -> int:
        """Return 0 or 1."""
        return self.random.randrange(2)

    def rare(self) -> int:
        """Return 1 in one case of eight."""
        return int(not self.random.randrange(8))

    def draw_cpu(self) -> Cpu:
        """Draw a CPU."""
        random = self.random
        lpa2, lva, ttst, xnx, pan3, e0pd, hpds = (bool(self.bit()) for _ in range(7))
        first = random.choice(GRANULES)
        return Cpu(
            random.choice([36, 40, 42, 44, 48, 52, 52]),
            lpa2=lpa2, lva=lva, ttst=ttst, xnx=xnx, hafdbs=random.randrange(3),
            pan3=pan3, e0pd=e0pd, hpds=hpds, fwb=bool(self.bit()),
            granules=first, granules2=random.choice(GRANULES) if self.rare() else first,
        )  # fmt: skip

    def granule(self, implemented: tuple[int, ...]) -> int:
        """Draw a granule, mostly one that there is."""
        return self.random.choice((12, 14, 16) if self.rare() else implemented)

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

    def registers(self) -> Registers:
        """Draw control registers, without the roots."""
        random, bit, rare, cpu = self.random, self.bit, self.rare, self.cpu
        sizes = [*[cpu.pa_bits] * 30, 32, 36, 40]
        ds = bit() if cpu.lpa2 else 0
        tg0 = 3 if rare() & rare() else TG0[self.granule(cpu.granules)]
        tg1 = 0 if rare() & rare() else TG1[self.granule(cpu.granules)]
        tg2 = 3 if rare() & rare() else TG0[self.granule(cpu.granules2)]
        tcr = (
            rare() * rare() << 7 | tg0 << 14 | rare() * rare() << 23 | tg1 << 30
            | SIZE_CODES[random.choice(sizes)] << 32 | bit() << 37 | bit() << 38
            | bit() << 39 | bit() << 40 | bit() << 41 | bit() << 42
            | rare() << 55 | rare() << 56 | ds << 59
        )  # fmt: skip
        vtcr = (
            tg2 << 14 | SIZE_CODES[random.choice(sizes)] << 16
            | bit() << 21 | bit() << 22 | 1 << 31 | ds << 32
        )  # fmt: skip
        tcr |= self.stage1_size(tcr, 0) | self.stage1_size(tcr, 1) << 16
        vtcr |= self.stage2_shape(vtcr)
        sctlr = (1 - rare()) | rare() << 19 | bit() << 57
        off = rare()
        hcr = (
            (1 - rare()) | bit() << 2 | off * bit() << 12 | off * bit() << 27
            | 1 << 31 | bit() << 46
        )  # fmt: skip
        return Registers(sctlr, tcr, 0, 0, hcr, vtcr, 0, MAIR)

    def stage1_size(self, tcr: int, upper: int) -> int:
        """Draw T0SZ or T1SZ: mostly one that there is."""
        tsz, fitting = 0, self.random.randrange(16)
        for _ in range(60):
            tsz = self.random.randint(12, 48 if self.rare() else 34)
            half = tcr & ~(1 << 23 | 1 << 7) | tsz << (16 if upper else 0)
            if not fitting or stage1_tree(self.cpu, Registers(0, half, 0, 0, 0, 0, 0), upper):
                break
        return tsz

    def stage2_shape(self, vtcr: int) -> int:
        """Draw T0SZ, SL0 and SL2: mostly some that fit together and leave room."""
        largest, fitting = self.random.choice([*[(34, True)] * 20, (48, True), (48, False)])
        shape = 0
        for _ in range(60):
            shape = self.random.randint(12, largest)
            shape |= self.random.randrange(4) << 6 | self.bit() << 33
            if not fitting or stage2_tree(self.cpu, Registers(0, 0, 0, 0, 0, vtcr | shape, 0)):
                break
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
        return max(self.random.choice([3, 3, 3, *levels]), tree.start)

    def leaf_bits(self, stage: int) -> int:
        """Draw attributes of a leaf."""
        random, bit = self.random, self.bit
        xn = random.choice([*[0] * 6, 1, 2, 3])
        common = random.choice([*[1] * 5, 0]) << 10 | bit() << 51 | xn << 53
        if stage == 1:
            return (
                common
                | random.choice([1, 1, 1, 3, 3, 0, 2]) << 6
                | bit() << 11
                | random.randrange(8) << 2
            )
        s2ap = random.choice([*[3] * 7, 2, 1, 0])
        return common | s2ap << 6 | random.choice([15, 15, 6, *MEMATTRS]) << 2

    def plain_bits(self) -> int:
        """Draw attributes of memory that may hold tables: sometimes read-only, or clean."""
        return self.random.choice([*[0x4FC] * 6, 0x47C, 0x47C | 1 << 51])

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
                bits = self.plain_bits() if plain else self.leaf_bits(2)
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
                hierarchical = self.random.choice([0] * 60 + list(range(1, 16))) << 59
                stage2_on = registers.hcr & 0x1001
                next_table = self.random.randint(1, 200) << 16 if stage2_on else self.allocate(16)
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
        self.map_stage2(registers, ipa, page, plain=not self.rare() & self.bit())
        self.store(page | ipa & 0xFFF8, word)
        tree = stage2_tree(self.cpu, registers)
        if tree is not None and tree.granule < 16:
            self.store(page | ipa & (1 << tree.granule) - 8, word)

    def damage(self) -> None:
        """Flip bits of descriptors, or replace them."""
        for _ in range(self.random.choice([0, 0, 0, 0, 0, 1, 2]) if self.written else 0):
            pa = PA(self.random.choice(self.written))
            flip = 1 << self.random.choice(FLIPS)
            self.memory.write_u64(pa, self.memory.read_u64(pa) ^ flip)

    def root(self, tree: Tree | None, table: int) -> int:
        """Return a TTBR or VTTBR for a first table."""
        wide = tree is not None and tree.wide
        return table & (1 << 48) - 1 | wide * (table >> 48 & 0xF) << 2


def draw_world(random: Random) -> World:
    """Draw a world."""
    builder = Builder(random)
    cpu, memory = builder.cpu, builder.memory
    registers = builder.registers()
    upper = builder.bit()
    tree1, tree2 = stage1_tree(cpu, registers, upper), stage2_tree(cpu, registers)
    stage1_on, stage2_on = registers.sctlr & 1, bool(registers.hcr & 0x1001)
    root2 = builder.allocate(20)
    root1 = random.randint(1, 200) << 20 if stage2_on else builder.allocate(20)
    ttbr = builder.root(tree1, root1)
    registers = registers._replace(ttbr0=ttbr, ttbr1=ttbr, vttbr=builder.root(tree2, root2))
    input1, input2 = (tree.input_bits if tree else 48 for tree in (tree1, tree2))
    low = random.getrandbits(min(input1, 52))
    pa = builder.allocate(16) | low & 0xFFFF
    if stage1_on:
        va = low if not upper else low | -(1 << input1) & (1 << 64) - 1
        if builder.rare() & builder.bit():
            va ^= 1 << random.randint(24, 63)
        ipa = random.getrandbits(input2) >> 16 << 16 | low & 0xFFFF if stage2_on else pa
        builder.map_stage1(registers, va, ipa)
    else:
        va = ipa = low & (1 << min(cpu.pa_bits, input2)) - 1 if stage2_on else pa
    if stage2_on:
        far = random.getrandbits(52) >> 16 << 16 | low & 0xFFFF
        builder.map_stage2(registers, ipa, far if builder.rare() & builder.bit() else pa)
    builder.damage()
    return World(cpu, registers, memory, va)
