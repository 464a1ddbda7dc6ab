"""Two-stage translation written a second time, from the Arm ARM alone: slow and plain.

Nothing is shared with the machine. A fault is an exception here. Where the architecture lets
hardware set an access flag before it reports a permission fault, this does not, except for
the fault of HCR_EL2.PTW.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tests.emu.mmu.naive_format import Cpu, Registers, Tree, bits, stage1_tree, stage2_tree
from tests.emu.mmu.naive_memory import CACHED, Device, Memory, combine, of_mair

if TYPE_CHECKING:
    from collections.abc import Callable


class Fault(NamedTuple):
    """Why a translation was refused."""

    name: str
    level: int | None
    stage: int
    ipa: int = 0
    """What stage 2 was asked to translate."""
    s1ptw: bool = False
    """Stage 2 refused an access that a stage-1 walk made,"""
    update: bool = False
    """and that was a write of a descriptor."""


class Refused(Exception):  # noqa: N818  # a refusal is no error here
    """Carries a fault."""


def refuse(name: str, level: int | None, stage: int, ipa: int = 0) -> NoReturn:
    """Raise a fault."""
    raise Refused(Fault(name, level, stage, ipa if stage == 2 else 0))


class Naive(NamedTuple):
    """What a translation depends on, and how it reads and writes descriptors by PA."""

    cpu: Cpu
    r: Registers
    read: Callable[[int], int | None]
    write: Callable[[int, int], None]
    unaligned: bool = False
    """Whether the access is one that Device memory refuses for its alignment."""

    def translate(self, va: int, need: str, privilege: str) -> tuple[int, Memory]:
        """Return PA and memory type for an access (r, w or x; EL0, EL1 or PAN), or raise."""
        ipa, first = self.stage1(va, need, privilege)
        return self.stage2(ipa, need, privilege, first)

    def walk(
        self, tree: Tree, at: int, ha: int, stage: int, fetch: Callable[[int], int | None]
    ) -> tuple[int, int, int, int]:
        """Return the leaf descriptor, its level, its address, and all table descriptors ORed."""
        table, level, index, tables = tree.base(), tree.start, tree.first_index(at), 0
        if table >> tree.output_bits:
            refuse("address size", 0, stage, at)
        while True:
            word = fetch(table + 8 * index)
            if word is None:
                refuse("external on walk", level, stage, at)
            is_leaf: bool = word & 3 == (3 if level == 3 else 1)
            if not word & 1 or (level == 3 and not is_leaf):
                refuse("translation", level, stage, at)
            if is_leaf and level < 3 and not tree.block_exists(level):
                refuse("translation", level, stage, at)
            low = tree.shift(level) if is_leaf else tree.granule
            if tree.output(word) >> low << low >> tree.output_bits:
                refuse("address size", level, stage, at)
            if is_leaf:
                break
            tables, table, level = tables | word, tree.output(word), level + 1
            index = tree.entry_index(at, level)
        if not word >> 10 & 1 and not ha:
            refuse("access flag", level, stage, at)
        return word, level, table + 8 * index, tables

    def check_alignment(self, memory: Memory, need: str, stage: int, ipa: int = 0) -> None:
        """Refuse an unaligned data access to Device memory."""
        if self.unaligned and need != "x" and isinstance(memory, Device):
            refuse("alignment", None, stage, ipa)

    def stage2_for_walk(self, ipa: int, need: str) -> int:
        """Return the PA of a stage-1 descriptor that is read or written."""
        try:
            return self.stage2(ipa, need, "EL1", CACHED, walk=True)[0]
        except Refused as refused:
            fault: Fault = refused.args[0]
            raise Refused(fault._replace(s1ptw=True, update=need == "w")) from None

    def stage2(
        self, ipa: int, need: str, privilege: str, first: Memory, *, walk: bool = False
    ) -> tuple[int, Memory]:
        """Return PA and memory type of an IPA, setting the access flag and dirty state."""
        if not self.r.hcr & 1 and not self.r.hcr >> 12 & 1:
            return ipa, first
        tree, vtcr = stage2_tree(self.cpu, self.r), self.r.vtcr
        if tree is None or ipa >> tree.input_bits:
            refuse("translation", 0, 2, ipa)
        ha = self.cpu.hafdbs >= 1 and bits(vtcr, 21, 21)
        word, level, at, _ = self.walk(tree, ipa, ha, 2, self.read)
        fwb = self.cpu.fwb and self.r.hcr >> 46 & 1
        memory = combine(first, bits(word, 5, 2), fwb=bool(fwb))
        if not walk:
            self.check_alignment(memory, need, 2, ipa)
        hd = ha and self.cpu.hafdbs >= 2 and vtcr >> 22 & 1 and word >> 51 & 1
        dirtied = word | 1 << 7 if hd else word
        xn = bits(word, 54, 53) if self.cpu.xnx else bits(word, 54, 54) << 1
        executes = xn in ((0, 1) if privilege == "EL0" else (0, 3))
        if not {"r": dirtied >> 6 & 1, "w": dirtied >> 7 & 1, "x": executes}[need]:
            refuse("permission", level, 2, ipa)
        new = (dirtied if need == "w" else word) | 1 << 10
        if new != word:
            self.write(at, new)
        if walk and self.r.hcr >> 2 & 1 and isinstance(memory, Device):
            refuse("permission", level, 2, ipa)
        shift = tree.shift(level)
        return tree.output(word) >> shift << shift | bits(ipa, shift - 1, 0), memory

    def stage1(self, va: int, need: str, privilege: str) -> tuple[int, Memory]:
        """Return IPA and memory type of a VA, setting the access flag and dirty state."""
        cpu, tcr, upper = self.cpu, self.r.tcr, va >> 55 & 1
        last = 55 if tcr >> (38 if upper else 37) & 1 else 63
        if not self.r.sctlr & 1 or self.r.hcr >> 12 & 1 or self.r.hcr >> 27 & 1:
            if bits(va, last, 0) >> cpu.pa_bits:
                refuse("address size", 0, 1)
            flat: Memory = CACHED if self.r.hcr >> 12 & 1 else Device(0)
            self.check_alignment(flat, need, 1)
            return bits(va, 55, 0), flat
        tree = stage1_tree(cpu, self.r, upper)
        closed = privilege == "EL0" and cpu.e0pd and tcr >> (56 if upper else 55) & 1
        if tree is None or closed:
            refuse("translation", 0, 1)
        if bits(va, last, tree.input_bits) != bits(-upper, last, tree.input_bits):
            refuse("translation", 0, 1)
        ha = cpu.hafdbs >= 1 and bits(tcr, 39, 39)
        word, level, at, tables = self.walk(
            tree, va, ha, 1, lambda ipa: self.read(self.stage2_for_walk(ipa, "r"))
        )
        memory = of_mair(self.r.mair >> 8 * bits(word, 4, 2) & 0xFF)
        self.check_alignment(memory, need, 1)
        hd = ha and cpu.hafdbs >= 2 and tcr >> 40 & 1 and word >> 51 & 1
        dirtied = word & ~(1 << 7) if hd else word
        if cpu.hpds and tcr >> (42 if upper else 41) & 1:
            tables = 0
        if not self.stage1_allows(dirtied, tables, need, privilege):
            refuse("permission", level, 1)
        new = (dirtied if need == "w" else word) | 1 << 10
        if new != word:
            self.write(self.stage2_for_walk(at, "w"), new)
        shift = tree.shift(level)
        return tree.output(word) >> shift << shift | bits(va, shift - 1, 0), memory

    def stage1_allows(self, word: int, tables: int, need: str, privilege: str) -> bool:
        """Whether the permissions of stage 1 allow an access."""
        writable = not (word >> 7 & 1 or tables >> 62 & 1)
        user = bool(word >> 6 & 1 and not tables >> 61 & 1)
        uxn, pxn = (word >> 54 | tables >> 60) & 1, (word >> 53 | tables >> 59) & 1
        wxn, epan = self.r.sctlr >> 19 & 1, self.cpu.pan3 and self.r.sctlr >> 57 & 1
        if need == "x" and privilege == "EL0":
            return not uxn and not (wxn and writable and user)
        if need == "x":
            return not pxn and not (writable and (user or wxn))
        if privilege == "EL0" and not user:
            return False
        if privilege == "PAN" and (user or (epan and not uxn)):
            return False
        return need == "r" or writable
