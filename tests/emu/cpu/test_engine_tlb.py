"""The engine's own TLB: the host's clock has no say in how many pages it keeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from tests.emu.cpu import a64

if TYPE_CHECKING:
    from tests.emu.cpu.bare import Bare

PAGES, DATA = 400, 0x6000_0000
DECADE: Final = 10 * 365 * 24 * 3600 * 10**9
"""Nanoseconds."""
LOOP: Final = (
    a64.ldr(3, 1),
    a64.add(1, 1, 0xFF0),
    a64.add(1, 1, 0x10),
    a64.subs(2, 2, 1),
    a64.cbnz(2, -16),
    a64.hvc(0),
)


def read_pages(bare: Bare, count: int) -> int:
    """Read a word of each page; return how often the engine asked for one that our TLB has."""
    before = bare.pe.mmu.hits
    bare.set_x(x1=DATA, x2=count)
    bare.start()
    bare.run()
    return bare.pe.mmu.hits - before


def test_it_grows_when_it_was_full_and_never_shrinks(bare: Bare) -> None:
    """Unicorn would shrink it once some time has passed since its window began."""
    for i in range(PAGES):
        bare.map_ipa(DATA + 0x1000 * i)
    bare.code(*LOOP)
    engine = bare.pe.engine
    assert [read_pages(bare, PAGES) > PAGES // 2 for _ in range(2)] == [False, True]
    engine.flush_tlb()  # it grows here, and its window begins
    assert min(engine.windows) > time.time_ns() + DECADE
    assert [read_pages(bare, PAGES) > PAGES // 2 for _ in range(2)] == [True, False]
