"""Code pages: what the PE must know of a page before the engine translates it.

A page is scanned once, when it first becomes executable at a VA; the few instructions that
concern the PE (system instructions, unprivileged accesses) are remembered by address. All
others run without Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.a64.loadstore import decode
from emu.arch.a64.maintenance import DC
from emu.arch.a64.predecode import Sites, is_free, is_ordered, scan
from emu.arch.a64.system import SystemKind, decode_system
from emu.arch.address import PA, PAGE_SHIFT, PAGE_SIZE, VA
from emu.arch.registers.identification import CTR_EL0
from emu.cpu.blocks import INSTRUCTION_BYTES
from emu.cpu.engine import SystemHook
from emu.cpu.site import Site, site_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.features import CpuFeatures
    from emu.cpu.engine import Engine
    from emu.cpu.icache import InstructionCache

_HOOKS = {
    SystemKind.MRS: SystemHook.MRS,
    SystemKind.MSR: SystemHook.MSR,
    SystemKind.SYS: SystemHook.SYS,
    SystemKind.SYSL: SystemHook.SYSL,
}

ORDERED_LIMIT = 128
"""Ordered accesses that are watched for their alignment; the engine's hooks are a list that it
searches, so that watching all of them in a program of the size of Linux would make it crawl."""


_ZVA, _RT = DC.ZVA.word(rt=0), 0x1F


def _accesses(word: int) -> bool:
    """Whether ``word`` accesses data memory in a way that alignment rules concern."""
    return decode(word) is not None or word & ~_RT == _ZVA


class CodePages:
    """The scanned pages of one PE.

    Attributes
    ----------
    scanned
        VA >> 12 to the physical page that was scanned there.
    sites
        The intercepted system instructions, by address.
    unprivileged
        Addresses of LDTR and STTR instructions.
    watched
        The instructions before which the PE has a look: by address, the word.
    behind_stack_writes
        Addresses behind instructions that may leave SP misaligned.
    coherent
        Whether code may change without IC (CTR_EL0.DIC), so that ``sites`` may be of old code.
    strict
        Whether those are all loads and stores, so that their alignment can be checked.
    """

    def __init__(
        self,
        icache: InstructionCache,
        engine: Engine,
        features: CpuFeatures,
        intercept: Callable[[int], bool],
    ) -> None:
        self._icache = icache
        self._engine = engine
        self._features = features
        self._intercept = intercept
        self.coherent = bool(features.read(CTR_EL0).DIC)
        self._by_word: dict[int, Site | None] = {}
        self._intercepted: dict[int, bool] = {}
        self.sites: dict[VA, Site] = {}
        self._ordered: set[VA] = set()
        self._by_page: dict[PA, Sites] = {}
        self.scanned: dict[int, PA] = {}
        self.unprivileged: set[VA] = set()
        self.watched: dict[VA, int] = {}
        self.behind_stack_writes: set[VA] = set()
        self.strict = False

    def prepare(self, page: VA, pa: PA) -> None:
        """Make ready for executing the physical page ``pa`` at ``page``."""
        sites = self._by_page.get(pa)
        if sites is None:
            self._icache.fill(pa)
            sites = self._by_page[pa] = scan(self._icache.view(pa), self._is_intercepted)
        if page >> PAGE_SHIFT in self.scanned:
            self._forget(page)
        self.scanned[page >> PAGE_SHIFT] = pa
        for offset, word in sites.system:
            site = self.site(word)
            if site is None:
                continue
            if site.operation is DC.ZVA:  # the engine has no hook for it
                self._watch(VA(page + offset), word)
            elif site.instruction.kind in _HOOKS:
                self.sites[VA(page + offset)] = site
                self._engine.stop_behind(VA(page + offset))
        for offset, _word in sites.unprivileged:
            self.unprivileged.add(VA(page + offset))
        for offset, word in sites.watched:
            if is_ordered(word):
                if len(self._ordered) >= ORDERED_LIMIT:
                    continue
                self._ordered.add(VA(page + offset))
            self._watch(VA(page + offset), word)
        for offset, _word in sites.stack:
            behind = VA(page + offset + INSTRUCTION_BYTES)
            self.behind_stack_writes.add(behind)
            self._engine.watch(behind)
        if self.strict:
            words = self._icache.view(pa).cast("I")
            accesses = {VA(page + 4 * i): word for i, word in enumerate(words) if _accesses(word)}
            self.watched.update(accesses)
            for va in accesses:
                self._engine.accesses.mark(va)

    def _watch(self, va: VA, word: int) -> None:
        self.watched[va] = word
        self._engine.watch(va)

    def site(self, word: int) -> Site | None:
        """Return what is known of a system instruction; None for any other word."""
        try:
            return self._by_word[word]
        except KeyError:
            instruction = decode_system(word)
            found = None if instruction is None else site_of(instruction, self._features)
            self._by_word[word] = found
            return found

    def site_now(self, word: int) -> Site | None:
        """Return what is known of a system instruction that matters; None for others."""
        return self.site(word) if self._is_intercepted(word) else None

    def _is_intercepted(self, word: int) -> bool:
        """Whether a system instruction matters: always the same, but for DC ZVA, which traps."""
        known = self._intercepted.get(word)
        if known is None:
            known = self._intercept(word)
            if word & ~_RT != _ZVA:
                self._intercepted[word] = known
        return known

    def let_pass(self, word: int) -> None:
        """If ``word`` is never intercepted, have the engine not ask for such words again."""
        if is_free(word) or not self._intercept(word):
            passing = decode_system(word)
            if passing is not None and passing.kind in _HOOKS:
                self._engine.let_pass(_HOOKS[passing.kind], passing.encoding)

    def changed(self, pa: PA | None) -> dict[VA, PA]:
        """Scan the page of ``pa`` (None: all pages) again before it is next executed.

        Returns
        -------
        dict[VA, PA]
            The pages from which the engine may have translated code. One that is no longer
            where it was executed stands at a VA of its own.
        """
        if pa is None:
            known = {VA(page << PAGE_SHIFT): frame for page, frame in self.scanned.items()}
            known.update((VA(pa), pa) for pa in self._by_page.keys() - known.values())
            self._by_page.clear()
            self.sites.clear()
            self.unprivileged.clear()
            self.watched.clear()
            self.behind_stack_writes.clear()
            self.scanned.clear()
            return known
        frame = PA(pa & -PAGE_SIZE)
        if frame not in self._by_page:
            return {}
        pages = [VA(page << PAGE_SHIFT) for page, at in self.scanned.items() if at == frame]
        for page in pages:
            self._forget(page)
        del self._by_page[frame]
        return dict.fromkeys(pages or [VA(frame)], frame)

    # What is known of code belongs to what the engine has translated from it. A snapshot keeps
    # neither: it has pages scanned again that were executed elsewhere then, or not at all.

    @property
    def pages(self) -> set[PA]:
        """The physical pages from which the engine may have translated code."""
        return set(self._by_page)

    def save_state(self) -> tuple[tuple[int, PA], ...]:
        """Return where which pages have been executed."""
        return tuple(self.scanned.items())

    def load_state(self, scanned: tuple[tuple[int, PA], ...]) -> None:
        """Forget what has been executed elsewhere than it had then."""
        then = dict(scanned)
        for page, frame in list(self.scanned.items()):
            if then.get(page) != frame:
                self._forget(VA(page << PAGE_SHIFT))

    @staticmethod
    def essence(_scanned: tuple[tuple[int, PA], ...]) -> None:
        """Return what matters of a state: nothing."""

    def _forget(self, page: VA) -> None:
        """Remove what was remembered of the code at ``page``."""
        sites = self._by_page[self.scanned.pop(page >> PAGE_SHIFT)]
        for offset, _word in sites.system:
            self.sites.pop(VA(page + offset), None)
        for offset, _word in sites.unprivileged:
            self.unprivileged.discard(VA(page + offset))
        for offset, _word in sites.stack:
            self.behind_stack_writes.discard(VA(page + offset + INSTRUCTION_BYTES))
        for address in [address for address in self.watched if address & -PAGE_SIZE == page]:
            del self.watched[address]
