"""Many entries at once leave behind exactly what one by one does."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import IPA, PA
from hyp.host import SIZE_1G, SIZE_2M, SIZE_4K
from hyp.pte import InvalidPteType, Prot
from hyp.walker import HANDLE_FAULT, SHARED
from tests.hyp.fake_machine import NEW_CPU, OLD_CPU, RAM_PA
from tests.hyp.stage2 import OUTPUT, Stage2, make_stage2

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from hyp.errors import Errno

BASE = 0x4000_0000 - SIZE_2M
MEMORY = 1 << 20
PAGES = 4 * 512


class Step(NamedTuple):
    """One call on a range of pages."""

    name: str
    first: int
    pages: int
    prot: Prot
    shift: int
    """How far the output is from where a block could be; 0 allows blocks."""


ALL = ["map", "map for a fault", "unmap", "wrprotect", "young", "old", "annotate", "relax"]
steps = st.builds(
    Step,
    st.sampled_from([*ALL, "split"]),
    st.sampled_from([0, 1, 500, 512, 513, 1024, 1500]),
    st.sampled_from([1, 15, 16, 100, 512, 513, 1024]),
    st.sampled_from([Prot.R, Prot.R | Prot.W, Prot.R | Prot.X, Prot.R | Prot.DEVICE]),
    st.sampled_from([0, 0, 1]),
)


def carry_out(s2: Stage2, step: Step) -> Errno | bool:
    addr, size = IPA(BASE + step.first * SIZE_4K), step.pages * SIZE_4K
    s2.memcache.topup(8)
    pgt = s2.pgt
    match step.name:
        case "map" | "map for a fault":
            phys = PA(OUTPUT + SIZE_1G - SIZE_2M + (step.first + step.shift) * SIZE_4K)
            flags = HANDLE_FAULT if step.name == "map for a fault" else 0
            return pgt.map(addr, size, phys, step.prot, s2.memcache, flags)
        case "unmap":
            return pgt.unmap(addr, size)
        case "wrprotect":
            return pgt.wrprotect(addr, size)
        case "young" | "old":
            return pgt.test_clear_young(addr, size, mkold=step.name == "old")
        case "annotate":
            kind = InvalidPteType.HOST_DONATION
            return pgt.annotate(addr, min(size, 20 * SIZE_4K), s2.memcache, kind, 0x80)
        case "relax":
            return pgt.relax_perms(addr, step.prot)
        case _:
            return pgt.split(addr, size, s2.memcache)


@pytest.mark.parametrize("features", [OLD_CPU, NEW_CPU])
@given(plan=st.lists(steps, min_size=1, max_size=8))
def test_runs_equal_single_operations(features: CpuFeatures, plan: list[Step]) -> None:
    together, single = (make_stage2(features, memory_size=MEMORY) for _ in range(2))
    single.pgt.descriptors.observe(lambda *_: None)
    for step in plan:
        assert carry_out(together, step) == carry_out(single, step), step
        assert together.pe.log == single.pe.log, step
        assert together.pages.counts == single.pages.counts, step
        assert together.stats == single.stats
        assert together.memory.read(RAM_PA, MEMORY) == single.memory.read(RAM_PA, MEMORY), step
    for s2 in (together, single):
        s2.memcache.free()
        s2.pgt.destroy()
        assert s2.frames.allocated == 0


def runs_of(s2: Stage2, flags: int) -> int:
    """Return how many runs a map of 32 pages stores."""
    stores = 0
    store_run = s2.memory.write

    def counting(pa: PA, data: bytes | bytearray | memoryview) -> None:
        nonlocal stores
        stores += 1
        store_run(pa, data)

    s2.memory.write = counting  # type: ignore[method-assign]  # a spy
    s2.memcache.topup(3)
    s2.pgt.map(IPA(BASE), 32 * SIZE_4K, OUTPUT, Prot.R, s2.memcache, flags)
    return stores


def test_only_a_walker_that_is_alone_and_unobserved_stores_runs() -> None:
    assert runs_of(make_stage2(NEW_CPU), 0) == 1
    assert runs_of(make_stage2(NEW_CPU), SHARED) == 0
    observed = make_stage2(NEW_CPU)
    observed.pgt.descriptors.observe(lambda *_: None)
    assert runs_of(observed, 0) == 0
