"""Stage-2 page tables against a dictionary, with break-before-make checked on every store."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from emu.arch.address import IPA, PAGE_SIZE
from hyp.errors import Errno
from hyp.host import SIZE_2M
from hyp.pte import PTE_AF, PTE_LOCKED, InvalidPteType, Prot, pte_prot, pte_to_phys, pte_valid
from tests.hyp.fake_machine import NEW_CPU, OLD_CPU
from tests.hyp.stage2 import OUTPUT, Stage2, make_stage2

BASE = 0x4000_0000 - SIZE_2M
"""The window lies across a 1 GiB boundary, so that tables of all levels come and go."""
BLOCKS = 4
PAGES = 512
WINDOW = range(BLOCKS * PAGES)
INTERESTING = [b * PAGES + p for b in range(BLOCKS) for p in (0, 1, 7, PAGES - 1)]

page_numbers = st.sampled_from(INTERESTING)
protections = st.sampled_from([Prot.R, Prot.R | Prot.W, Prot.R | Prot.X, Prot.R | Prot.W | Prot.X])
outputs = st.sampled_from([0, BLOCKS * PAGES])
"""Two places that memory may be: another one needs a break."""


class Page(NamedTuple):
    """What the model knows of a mapped page."""

    phys: int
    prot: Prot
    size: int
    young: bool = True


class Stage2Model(RuleBasedStateMachine):
    """Every operation in any order; then look at the pages of the window."""

    def __init__(self) -> None:
        super().__init__()
        self.s2: Stage2 = make_stage2()
        self.pages: dict[int, Page] = {}

    @initialize(new=st.booleans())
    def choose_the_cpu(self, new: bool) -> None:
        self.s2 = make_stage2(NEW_CPU if new else OLD_CPU)

    # The model

    def _drop_block(self, number: int) -> None:
        """Forget the block that ``number`` is mapped by, if it is."""
        page = self.pages.get(number)
        if page is not None and page.size == SIZE_2M:
            first = number // PAGES * PAGES
            for n in range(first, first + PAGES):
                self.pages.pop(n, None)

    # The rules

    @rule(number=page_numbers, base=outputs, prot=protections)
    def map_page(self, number: int, base: int, prot: Prot) -> None:
        phys = OUTPUT + (base + number) * PAGE_SIZE
        known = self.pages.get(number)
        same = known is not None and known.phys == phys and known.size == PAGE_SIZE and known.young
        error = self.s2.map(BASE + number * PAGE_SIZE, PAGE_SIZE, phys, prot)
        assert error is (Errno.EAGAIN if same else Errno.OK)
        if not same:
            self._drop_block(number)
            self.pages[number] = Page(phys, prot, PAGE_SIZE)

    @rule(block=st.integers(0, BLOCKS - 1), base=outputs, prot=protections)
    def map_block(self, block: int, base: int, prot: Prot) -> None:
        first = block * PAGES
        phys = OUTPUT + (base + first) * PAGE_SIZE
        known = self.pages.get(first)
        same = known is not None and known.phys == phys and known.size == SIZE_2M and known.young
        error = self.s2.map(BASE + first * PAGE_SIZE, SIZE_2M, phys, prot)
        assert error is (Errno.EAGAIN if same else Errno.OK)
        if not same:
            for n in range(PAGES):
                self.pages[first + n] = Page(phys + n * PAGE_SIZE, prot, SIZE_2M)

    @rule(first=page_numbers, last=page_numbers)
    def unmap(self, first: int, last: int) -> None:
        first, last = min(first, last), max(first, last)
        size = (last - first + 1) * PAGE_SIZE
        assert self.s2.pgt.unmap(IPA(BASE + first * PAGE_SIZE), size) is Errno.OK
        for number in (first, last):
            self._drop_block(number)
        for number in range(first, last + 1):
            self.pages.pop(number, None)

    @rule(first=page_numbers, last=page_numbers)
    def wrprotect(self, first: int, last: int) -> None:
        first, last = min(first, last), max(first, last)
        size = (last - first + 1) * PAGE_SIZE
        assert self.s2.pgt.wrprotect(IPA(BASE + first * PAGE_SIZE), size) is Errno.OK
        for number in self._reached(first, last):
            page = self.pages[number]
            self.pages[number] = page._replace(prot=page.prot & ~Prot.W)

    @rule(first=page_numbers, last=page_numbers, mkold=st.booleans())
    def test_clear_young(self, first: int, last: int, mkold: bool) -> None:
        first, last = min(first, last), max(first, last)
        size = (last - first + 1) * PAGE_SIZE
        young = self.s2.pgt.test_clear_young(IPA(BASE + first * PAGE_SIZE), size, mkold)
        reached = self._reached(first, last)
        assert young == any(self.pages[number].young for number in reached)
        for number in reached if mkold else ():
            self.pages[number] = self.pages[number]._replace(young=False)

    @rule(number=page_numbers)
    def mkyoung(self, number: int) -> None:
        error = self.s2.pgt.mkyoung(IPA(BASE + number * PAGE_SIZE))
        assert error is (Errno.OK if number in self.pages else Errno.EAGAIN)
        for n in self._reached(number, number):
            self.pages[n] = self.pages[n]._replace(young=True)

    @rule(first=page_numbers, last=page_numbers)
    def split(self, first: int, last: int) -> None:
        first, last = min(first, last), max(first, last)
        size = (last - first + 1) * PAGE_SIZE
        self.s2.memcache.topup(BLOCKS)
        assert self.s2.pgt.split(IPA(BASE + first * PAGE_SIZE), size, self.s2.memcache) is Errno.OK
        for number in self._reached(first, last):
            if self._is_block(number):
                self.pages[number] = self.pages[number]._replace(size=PAGE_SIZE, young=True)

    @rule(first=page_numbers, last=page_numbers)
    def annotate(self, first: int, last: int) -> None:
        first, last = min(first, last), max(first, last)
        size = (last - first + 1) * PAGE_SIZE
        self.s2.memcache.topup(2 * BLOCKS)
        addr, kind = IPA(BASE + first * PAGE_SIZE), InvalidPteType.HOST_DONATION
        assert self.s2.pgt.annotate(addr, size, self.s2.memcache, kind, 1 << 11) is Errno.OK
        for number in (first, last):
            self._drop_block(number)
        for number in range(first, last + 1):
            self.pages.pop(number, None)

    def _reached(self, first: int, last: int) -> list[int]:
        """Return the mapped pages whose leaf maps part of a range."""
        blocks = {n // PAGES for n in (first, last) if self._is_block(n)}
        return [n for n in self.pages if first <= n <= last or n // PAGES in blocks]

    def _is_block(self, number: int) -> bool:
        page = self.pages.get(number)
        return page is not None and page.size == SIZE_2M

    @rule(number=page_numbers, prot=protections)
    def relax_perms(self, number: int, prot: Prot) -> None:
        error = self.s2.pgt.relax_perms(IPA(BASE + number * PAGE_SIZE), prot)
        page = self.pages.get(number)
        assert error is (Errno.EAGAIN if page is None else Errno.OK)
        if page is None:
            return
        group = range(number // PAGES * PAGES, (number // PAGES + 1) * PAGES)
        for n in group if page.size == SIZE_2M else [number]:
            self.pages[n] = self.pages[n]._replace(prot=page.prot | prot)

    # What must hold

    @invariant()
    def every_page_is_as_the_model_says(self) -> None:
        for number in INTERESTING:
            leaf = self.s2.pgt.get_leaf(IPA(BASE + number * PAGE_SIZE))
            page = self.pages.get(number)
            assert pte_valid(leaf.pte) == (page is not None)
            if page is None:
                continue
            offset = number % PAGES * PAGE_SIZE if page.size == SIZE_2M else 0
            assert leaf.level == (2 if page.size == SIZE_2M else 3)
            assert pte_to_phys(leaf.pte) + offset == page.phys
            assert pte_prot(leaf.pte) == page.prot
            assert bool(leaf.pte & PTE_AF) == page.young

    @invariant()
    def references_count_the_entries(self) -> None:
        entries = dict.fromkeys(self.s2.pages.counts, 0)
        for page in entries:
            words = memoryview(self.s2.memory.read(page, PAGE_SIZE)).cast("Q")  # type: ignore[arg-type]  # a PA
            entries[page] = sum(1 for word in words if word)
        assert self.s2.pages.counts == {page: 1 + n for page, n in entries.items()}

    @invariant()
    def no_entry_stays_locked(self) -> None:
        for _, _, new in self.s2.memory.stores[-1:]:
            assert new != PTE_LOCKED

    def teardown(self) -> None:
        self.s2.memcache.free()
        self.s2.pgt.destroy()
        assert self.s2.stats.table_pages == 0
        assert self.s2.pages.counts == {}
        assert self.s2.frames.allocated == 0


TestStage2Model = Stage2Model.TestCase
