"""What breakpoints and watchpoints match, against the pseudocode followed byte by byte."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from emu.arch.debug.comparators import (
    Breakpoints,
    Comparator,
    Context,
    Extent,
    extent,
    watched_offset,
)
from emu.arch.registers.debug import BreakpointControl, WatchpointControl
from tests.emu.arch.debug import naive

UNITS: Final = 6
CONTEXT_AWARE: Final = 2
CONTEXTS: Final = (7, 0xABCDEF)
VMIDS: Final = (1, 2)

regions = st.sampled_from([0, 0x4000_0000, 0xFFFF_8000_0010_0000, 0x7F_FFFF_FFF0])
addresses = st.builds(lambda base, offset: base + offset, regions, st.integers(0, 64))


@st.composite
def breakpoint_controls(draw: st.DrawFn) -> int:
    """Return a control that often matches."""
    return int(
        BreakpointControl.build(
            E=draw(st.sampled_from([1, 1, 1, 0])),
            BT=draw(st.sampled_from([0, 1, 2, 3, 8, 9, 10, 11, *range(16)])),
            LBN=draw(st.sampled_from([4, 5, *range(16)])),
            SSC=draw(st.sampled_from([0, 0, 1, 2, 3])),
            HMC=draw(st.sampled_from([0, 0, 1])),
            PMC=draw(st.integers(0, 3)),
            BAS=draw(st.sampled_from([0xF, 0xF, 0x3, 0xC, 0x0])),
        )
    )


@st.composite
def watchpoint_controls(draw: st.DrawFn) -> int:
    """Return a control that often matches."""
    return int(
        WatchpointControl.build(
            E=draw(st.sampled_from([1, 1, 1, 0])),
            WT=draw(st.sampled_from([0, 0, 1])),
            LBN=draw(st.sampled_from([4, 5, *range(16)])),
            SSC=draw(st.sampled_from([0, 0, 1, 2, 3])),
            HMC=draw(st.sampled_from([0, 0, 1])),
            PAC=draw(st.integers(0, 3)),
            LSC=draw(st.integers(0, 3)),
            BAS=draw(st.one_of(st.sampled_from([0xFF, 0x0F, 0xF0, 0x18]), st.integers(0, 0xFF))),
            MASK=draw(st.sampled_from([0, 0, 0, 1, 2, 3, 4, 6, 12, 31])),
        )
    )


@st.composite
def machines(draw: st.DrawFn) -> naive.Machine:
    """Return breakpoints, and who runs."""
    values = st.one_of(
        addresses,
        st.builds(lambda v, c: v << 32 | c, st.sampled_from(VMIDS), st.sampled_from(CONTEXTS)),
    )
    return naive.Machine(
        draw(st.lists(values, min_size=UNITS, max_size=UNITS)),
        draw(st.lists(breakpoint_controls(), min_size=UNITS, max_size=UNITS)),
        CONTEXT_AWARE,
        draw(st.sampled_from([0, 1])),
        draw(st.sampled_from(CONTEXTS)),
        draw(st.sampled_from(VMIDS)),
    )


def of(machine: naive.Machine) -> tuple[Breakpoints, Context]:
    """Return the same for the code under test."""
    units = (Comparator(*pair) for pair in zip(machine.bvr, machine.bcr, strict=True))
    breakpoints = Breakpoints(tuple(units), UNITS - CONTEXT_AWARE)
    return breakpoints, Context(machine.contextidr, machine.vmid)


@given(machine=machines(), at=addresses, number=st.integers(0, UNITS - 1), exact=st.booleans())
def test_breakpoints_agree_with_the_pseudocode(
    machine: naive.Machine, at: int, number: int, exact: bool
) -> None:
    va = (machine.bvr[number] if exact else at) & -4
    breakpoints, context = of(machine)
    expected = naive.breakpoint_match(machine, number, va)
    event(f"matches: {expected}")
    assert breakpoints.matches(number, va, machine.el, context) is expected


@given(
    machine=machines(),
    wvr=addresses,
    wcr=watchpoint_controls(),
    va=addresses,
    size=st.sampled_from([1, 2, 4, 8, 16, 32, 64]),
    write=st.booleans(),
)
def test_watchpoints_agree_with_the_pseudocode(
    machine: naive.Machine, wvr: int, wcr: int, va: int, size: int, write: bool
) -> None:
    breakpoints, context = of(machine)
    expected = naive.watchpoint_match(machine, wvr, wcr, va, size, write=write)
    event(f"matches: {expected is not None}")
    found = watched_offset(
        Comparator(wvr, wcr),
        va,
        size,
        write=write,
        el=machine.el,
        breakpoints=breakpoints,
        context=context,
    )
    assert found == expected


@pytest.mark.parametrize(("kind", "links"), [(0, False), (1, False), (2, False), (3, True)])
def test_a_link_leads_to_a_breakpoint_that_is_for_links_and_compares_a_context(
    kind: int, links: bool
) -> None:
    context = Context(CONTEXTS[0], VMIDS[0])
    address = Comparator(0x1000, BreakpointControl.build(E=1, BT=1, LBN=5, PMC=3, BAS=0xF))
    target = Comparator(CONTEXTS[0], BreakpointControl.build(E=1, BT=kind, PMC=3, BAS=0xF))
    breakpoints = Breakpoints((address, *[Comparator(0, 0)] * 4, target), UNITS - CONTEXT_AWARE)
    assert breakpoints.matches(0, 0x1000, 1, context) is links


def watchpoint(value: int, **fields: int) -> Comparator:
    """Return an enabled watchpoint of loads and stores."""
    return Comparator(value, WatchpointControl.build(**{"E": 1, "LSC": 3, **fields}))


@pytest.mark.parametrize(
    ("unit", "watched"),
    [
        (watchpoint(0x1000, BAS=0xFF), Extent(0x1000, 8, 0xFF)),
        (watchpoint(0x1003, BAS=0x0C), Extent(0x1000, 8, 0x0C)),
        (watchpoint(0x1004, BAS=0x0F), Extent(0x1004, 4, 0x0F)),
        (watchpoint(0x1004, BAS=0xFF), Extent(0x1004, 4, 0x0F)),
        (watchpoint(0x1004, BAS=0x05), Extent(0x1000, 8, 0xFF)),
        (watchpoint(0x1234, BAS=0xFF, MASK=12), Extent(0x1000, 0x1000, -1)),
        (watchpoint(0x1234, BAS=0xFF, MASK=2), None),
        (watchpoint(0x1000, BAS=0), None),
        (watchpoint(0x1000, BAS=0xFF, E=0), None),
        (watchpoint(0x1000, BAS=0xFF, LSC=0), None),
        (watchpoint(0xFFFF_8000_0000_0000, BAS=1), Extent(0x1F_8000_0000_0000, 8, 1)),
    ],
)
def test_extent_of_a_watchpoint(unit: Comparator, watched: Extent | None) -> None:
    assert extent(unit) == watched
