"""Table formats as registers describe them, written a second time from the Arm ARM alone.

Nothing is shared with the machine: numbers are bit positions of the Arm ARM. A reserved or
missing granule may behave as any that is implemented; here it is the smallest.
"""

from __future__ import annotations

from typing import NamedTuple

SIZES = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52, 7: 52}
GRANULES = ({0: 12, 1: 16, 2: 14}, {1: 14, 2: 12, 3: 16})
"""TG0 and TG1 to log2 of the granule."""
BLOCKS = {(12, 1), (12, 2), (14, 2), (16, 2)}
WIDE_BLOCKS = BLOCKS | {(12, 0), (14, 1), (16, 1)}


class Cpu(NamedTuple):
    """The features that translation depends on."""

    pa_bits: int
    lpa2: bool = False
    lva: bool = False
    ttst: bool = False
    xnx: bool = False
    hafdbs: int = 0
    pan3: bool = False
    e0pd: bool = False
    hpds: bool = False
    fwb: bool = False
    granules: tuple[int, ...] = (12, 14, 16)
    """Stage 1's, as log2 of bytes."""
    granules2: tuple[int, ...] = (12, 14, 16)
    """Stage 2's."""


class Registers(NamedTuple):
    """Control registers, raw."""

    sctlr: int
    tcr: int
    ttbr0: int
    ttbr1: int
    hcr: int
    vtcr: int
    vttbr: int
    mair: int = 0


def bits(value: int, high: int, low: int) -> int:
    """Return value<high:low>."""
    return value >> low & (1 << high - low + 1) - 1


class Tree(NamedTuple):
    """One tree of tables."""

    ttbr: int
    granule: int
    wide: bool
    """Whether addresses have 52 bits."""
    input_bits: int
    output_bits: int
    start: int = 3

    def shift(self, level: int) -> int:
        """Return log2 of what an entry at ``level`` maps."""
        return self.granule + (self.granule - 3) * (3 - level)

    def output(self, word: int) -> int:
        """Return the address in a descriptor."""
        if not self.wide:
            return bits(word, 47, self.granule) << self.granule
        if self.granule == 16:
            return bits(word, 47, 16) << 16 | bits(word, 15, 12) << 48
        return bits(word, 49, self.granule) << self.granule | bits(word, 9, 8) << 50

    def base(self) -> int:
        """Return the address of the first table, which is aligned to its size."""
        size = max(6, self.input_bits - self.shift(self.start) + 3)
        return bits(self.ttbr, 47, size) << size | self.wide * bits(self.ttbr, 5, 2) << 48

    def first_index(self, address: int) -> int:
        """Return the index into the first table."""
        return bits(address, self.input_bits - 1, self.shift(self.start))

    def entry_index(self, address: int, level: int) -> int:
        """Return the index into a table of another level."""
        return bits(address, self.shift(level) + self.granule - 4, self.shift(level))

    def block_exists(self, level: int) -> bool:
        """Whether a block may stand at ``level``."""
        return (self.granule, level) in (WIDE_BLOCKS if self.wide else BLOCKS)


def common(cpu: Cpu, ttbr: int, granule: int, ds: int, tsz: int, size: int) -> Tree:
    """Return a tree as far as both stages have it in common."""
    wide = cpu.pa_bits == 52 if granule == 16 else bool(ds and cpu.lpa2)
    output_bits = min(SIZES[size], cpu.pa_bits, 52 if wide else 48)
    return Tree(ttbr, granule, wide, 64 - tsz, output_bits)


def in_force(selected: int | None, implemented: tuple[int, ...]) -> int:
    """Return the granule in force for the one that a TG field selects."""
    return selected if selected in implemented else min(implemented)


def is_too_small(cpu: Cpu, tree: Tree) -> bool:
    """Whether TxSZ is beyond its maximum."""
    return tree.input_bits < (64 - (47 if tree.granule == 16 else 48) if cpu.ttst else 25)


def stage1_tree(cpu: Cpu, r: Registers, upper: int) -> Tree | None:
    """Return one half's tree; None where every translation faults."""
    tcr = r.tcr
    field = bits(tcr, 31, 30) if upper else bits(tcr, 15, 14)
    granule = in_force(GRANULES[upper].get(field), cpu.granules)
    tsz, epd = (bits(tcr, 21, 16), tcr >> 23) if upper else (bits(tcr, 5, 0), tcr >> 7)
    ttbr = r.ttbr1 if upper else r.ttbr0
    tree = common(cpu, ttbr, granule, bits(tcr, 59, 59), tsz, bits(tcr, 34, 32))
    largest = 52 if tree.wide and (granule != 16 or cpu.lva) else 48
    if epd & 1 or tree.input_bits > largest or is_too_small(cpu, tree):
        return None
    while tree.shift(tree.start) + granule - 3 < tree.input_bits:
        tree = tree._replace(start=tree.start - 1)
    return tree


def stage2_tree(cpu: Cpu, r: Registers) -> Tree | None:
    """Return stage 2's tree; None where VTCR_EL2 contradicts itself."""
    vtcr = r.vtcr
    granule = in_force(GRANULES[0].get(bits(vtcr, 15, 14)), cpu.granules2)
    sl0 = bits(vtcr, 7, 6)
    tree = common(cpu, r.vttbr, granule, bits(vtcr, 32, 32), bits(vtcr, 5, 0), bits(vtcr, 18, 16))
    starts: dict[int, list[int | None]] = {
        12: [2, 1, 0 if cpu.pa_bits >= 44 else None, 3 if cpu.ttst else None],
        14: [3, 2, 1 if cpu.pa_bits >= 42 else None, 0 if tree.wide else None],
        16: [3, 2, 1 if cpu.pa_bits >= 44 else None, None],
    }
    start = starts[granule][sl0]
    if tree.wide and granule == 12 and vtcr >> 33 & 1:
        start = -1 if sl0 == 0 else None
    largest = min(52 if tree.wide else 48, cpu.pa_bits)
    if start is None or tree.input_bits > largest or is_too_small(cpu, tree):
        return None
    resolved = tree.input_bits - tree.shift(start)
    return tree._replace(start=start) if 1 <= resolved <= granule - 3 + 4 else None
