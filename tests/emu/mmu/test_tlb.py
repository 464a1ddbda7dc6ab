"""The TLB against a naive model: a list of entries, searched from end to end."""

from __future__ import annotations

from typing import Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emu.arch.a64.operations import Stage, TranslationRegime
from emu.arch.a64.tlbi import TLBI, TlbiScope
from emu.arch.a64.tlbi_arguments import TlbiIpa, TlbiRangeIpa, TlbiRangeVa, TlbiVa
from emu.arch.address import IPA, PA, VA
from emu.mmu.permissions import EVERYTHING
from emu.mmu.regime import STAGE1_OFF
from emu.mmu.stage2 import Stage2Mapping
from emu.mmu.tlb import GLOBAL, Tlb, TlbEntry
from emu.mmu.tlbi import invalidate

LEVELS: Final = {12: 3, 14: 3, 16: 3, 21: 2, 25: 2, 29: 2, 30: 1}
"""Level of a leaf by log2 of what it maps."""
VMIDS = st.sampled_from([1, 1, 1, 2])
ASIDS = st.sampled_from([1, 1, 1, 2])
TAGS = st.sampled_from([1, 1, 2, GLOBAL, STAGE1_OFF])
SHIFTS = st.sampled_from(sorted(LEVELS))
PAGES = st.builds(
    lambda upper, block, page: (0xFFFF_FF80_0000_0000 if upper else 0) + (block << 21) + page,
    st.booleans(),
    st.integers(0, 1),
    st.sampled_from([0x0000, 0x1000, 0x4000, 0x1F_F000]),
)
"""Pages close together, so that operations hit, in both halves."""
HINTS = st.sampled_from([0, 0, 0, 0b0101, 0b0110, 0b0111, 0b1010, 0b1011, 0b1110, 0b1111])


class Combined(NamedTuple):
    """One combined entry."""

    vmid: int
    asid: int
    va: int
    shift: int
    pa: int


class SecondStage(NamedTuple):
    """One stage-2 entry."""

    vmid: int
    ipa: int
    shift: int
    pa: int


def covers(base: int, shift: int, address: int) -> bool:
    """Whether a block that contains ``base`` contains ``address``, too."""
    return base >> shift == address >> shift


class TlbMachine(RuleBasedStateMachine):
    """Inserts entries and executes TLBIs, on the TLB and on the list."""

    def __init__(self) -> None:
        super().__init__()
        self.tlb = Tlb()
        self.combined: list[Combined] = []
        self.second: list[SecondStage] = []
        self.next_pa = 0

    def new_pa(self) -> int:
        """Return a page that tells entries apart."""
        self.next_pa += 0x1000
        return self.next_pa

    @rule(walks=st.lists(st.tuples(VMIDS, TAGS, PAGES, SHIFTS), min_size=1, max_size=30))
    def insert_combined(self, walks: list[tuple[int, int, int, int]]) -> None:
        """Walks have ended."""
        for walk in walks:
            self._insert_combined(*walk)

    def _insert_combined(self, vmid: int, asid: int, va: int, shift: int) -> None:
        pa = self.new_pa()
        entry = TlbEntry(PA(pa), EVERYTHING, shift, LEVELS[shift], 3, asid == GLOBAL, False)
        self.tlb.context(vmid, asid).insert(VA(va), entry)
        self.combined = [e for e in self.combined if e[:3] != (vmid, asid, va)]
        self.combined.append(Combined(vmid, asid, va, shift, pa))

    @rule(walks=st.lists(st.tuples(VMIDS, PAGES, SHIFTS), min_size=1, max_size=10))
    def insert_second(self, walks: list[tuple[int, int, int]]) -> None:
        """Stage-2 walks have ended."""
        for walk in walks:
            self._insert_second(*walk)

    def _insert_second(self, vmid: int, ipa: int, shift: int) -> None:
        pa, ipa = self.new_pa(), ipa & (1 << 48) - 1
        mapping = Stage2Mapping(pa, shift, LEVELS[shift], EVERYTHING, 15, False, PA(0), 0)
        self.tlb.stage2_entries(vmid).insert(IPA(ipa), mapping)
        self.second = [
            e
            for e in self.second
            if not (e.vmid == vmid and e.shift == shift and covers(e.ipa, shift, ipa))
        ]
        self.second.append(SecondStage(vmid, ipa, shift, pa))

    def execute(self, operation: TLBI, argument: int, vmid: int) -> None:
        """Execute a TLBI on both and compare how much went."""
        combined, second = len(self.combined), len(self.second)
        removed = invalidate(self.tlb, operation, argument, vmid)
        self.combined = [e for e in self.combined if not goes(e, operation, argument, vmid)]
        self.second = [e for e in self.second if not second_goes(e, operation, argument, vmid)]
        assert removed == combined + second - len(self.combined) - len(self.second)

    @rule(operation=st.sampled_from([o for o in TLBI if not o.takes_argument]), vmid=VMIDS)
    def invalidate_much(self, operation: TLBI, vmid: int) -> None:
        """All, or all of a VMID."""
        self.execute(operation, 0, vmid)

    @rule(
        operation=st.sampled_from([o for o in TLBI if o.scope is TlbiScope.ASID]),
        asid=ASIDS,
        vmid=VMIDS,
    )
    def invalidate_asid(self, operation: TLBI, asid: int, vmid: int) -> None:
        """All of an ASID."""
        self.execute(operation, TlbiVa.build(ASID=asid), vmid)

    @rule(
        operation=st.sampled_from(
            [
                o
                for o in TLBI
                if o.scope.by_address and not o.is_range and o.scope is not TlbiScope.IPA
            ]
        ),
        va=PAGES,
        asid=ASIDS,
        ttl=HINTS,
        vmid=VMIDS,
    )
    def invalidate_va(self, operation: TLBI, va: int, asid: int, ttl: int, vmid: int) -> None:
        """One VA."""
        argument = TlbiVa.build(ASID=asid, TTL=ttl, VA=va >> 12 & TlbiVa.VA.mask)
        self.execute(operation, argument, vmid)

    @rule(
        operation=st.sampled_from([o for o in TLBI if o.scope is TlbiScope.IPA and not o.is_range]),
        ipa=PAGES,
        ttl=HINTS,
        vmid=VMIDS,
    )
    def invalidate_ipa(self, operation: TLBI, ipa: int, ttl: int, vmid: int) -> None:
        """One IPA."""
        argument = TlbiIpa.build(TTL=ttl, IPA=(ipa & (1 << 48) - 1) >> 12)
        self.execute(operation, argument, vmid)

    @rule(
        operation=st.sampled_from([o for o in TLBI if o.is_range]),
        address=PAGES,
        asid=ASIDS,
        tg=st.sampled_from([1, 1, 1, 2, 3, 0]),
        scale=st.sampled_from([0, 0, 1]),
        num=st.integers(0, 31),
        level=st.sampled_from([0, 0, 0, 1, 2, 3]),
        vmid=VMIDS,
    )
    def invalidate_range(
        self,
        operation: TLBI,
        address: int,
        asid: int,
        tg: int,
        scale: int,
        num: int,
        level: int,
        vmid: int,
    ) -> None:
        """A range of VAs or IPAs."""
        shift = {0: 12, 1: 12, 2: 14, 3: 16}[tg]
        fields = {"TG": tg, "SCALE": scale, "NUM": num, "TTL": level}
        if operation.scope is TlbiScope.IPA:
            base = (address & (1 << 48) - 1) >> shift
            self.execute(operation, TlbiRangeIpa.build(BaseADDR=base, **fields), vmid)
        else:
            base = address >> shift & TlbiRangeVa.BaseADDR.mask
            self.execute(operation, TlbiRangeVa.build(ASID=asid, BaseADDR=base, **fields), vmid)

    @invariant()
    def the_same_entries_are_left(self) -> None:
        """Compare all entries."""
        left = {
            (vmid, asid, page << 12, entry.page)
            for (vmid, asid), context in self.tlb.contexts.items()
            for page, entry in context.pages.items()
        }
        assert left == {(e.vmid, e.asid, e.va, e.pa) for e in self.combined}
        assert len(self.tlb) == len(self.combined) + len(self.second)

    @rule(vmid=VMIDS, ipa=PAGES)
    def look_up_second(self, vmid: int, ipa: int) -> None:
        """The smallest block that contains the address answers."""
        ipa &= (1 << 48) - 1
        found = self.tlb.stage2_entries(vmid).lookup(IPA(ipa))
        known = [e for e in self.second if e.vmid == vmid and covers(e.ipa, e.shift, ipa)]
        expected = min(known, key=lambda e: e.shift, default=None)
        assert (found.offset if found else None) == (expected.pa if expected else None)


def signed(value: int, width: int) -> int:
    """Read the low ``width`` bits as a signed number."""
    value &= (1 << width) - 1
    return value - (value >> width - 1 << width)


def spans(operation: TLBI, argument: int) -> tuple[range, set[int]]:
    """Return the addresses that an argument names, and the leaf levels it is about."""
    by_ipa = operation.scope is TlbiScope.IPA
    if not operation.is_range:
        ttl = argument >> 44 & 15
        hint = ttl >> 2 and ttl not in {0b0100, 0b1000, 0b1001, 0b1100}
        frame = argument & (1 << 40) - 1 if by_ipa else signed(argument, 44)
        return range(frame << 12, (frame << 12) + 1), {ttl & 3} if hint else {1, 2, 3}
    fields = TlbiRangeVa(argument)
    if fields.TG == 0:
        return range(0), set()
    shift = {1: 12, 2: 14, 3: 16}[fields.TG]
    base = fields.BaseADDR if by_ipa else signed(fields.BaseADDR, 37)
    count = (fields.NUM + 1) * 2 ** (5 * fields.SCALE + 1)
    levels = {fields.TTL} if fields.TTL else {1, 2, 3}
    return range(base << shift, base + count << shift, 1 << 12), levels


def goes(entry: Combined, operation: TLBI, argument: int, vmid: int) -> bool:
    """Whether a TLBI removes a combined entry."""
    if operation.regime is not TranslationRegime.EL10 or operation.scope is TlbiScope.IPA:
        return False
    if operation.scope is TlbiScope.ALL:
        return True
    if entry.vmid != vmid:
        return False
    if operation.scope is TlbiScope.VMID:
        return True
    asid = argument >> 48
    if operation.scope is TlbiScope.ASID:
        return entry.asid == asid
    if operation.scope is TlbiScope.VA and entry.asid not in {asid, GLOBAL, STAGE1_OFF}:
        return False
    addresses, levels = spans(operation, argument)
    va = signed(entry.va, 64)
    return LEVELS[entry.shift] in levels and any(covers(va, entry.shift, a) for a in addresses)


def second_goes(entry: SecondStage, operation: TLBI, argument: int, vmid: int) -> bool:
    """Whether a TLBI removes a stage-2 entry."""
    if operation.regime is not TranslationRegime.EL10 or not operation.stages & Stage.S2:
        return False
    if operation.scope is TlbiScope.ALL:
        return True
    if entry.vmid != vmid:
        return False
    if operation.scope is TlbiScope.VMID:
        return True
    addresses, levels = spans(operation, argument)
    ipa, shift = entry.ipa, entry.shift
    return LEVELS[shift] in levels and any(covers(ipa, shift, a) for a in addresses)


TestTlb = TlbMachine.TestCase
