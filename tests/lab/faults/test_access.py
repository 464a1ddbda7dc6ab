"""The trigger by an access to memory."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import pytest

from emu.arch.a64.access import AccessKind
from emu.arch.a64.loadstore import decode
from emu.arch.address import IPA, PAGE_MASK, PAGE_SIZE, VA
from emu.mmu import stage2
from emu.mmu.fault import Fault
from lab.errors import UserError
from lab.faults.planned import PlannedFault
from lab.faults.triggers.access import Access
from lab.faults.triggers.predicate import Predicate
from tests.lab.faults.observed import SMP, Nothing, machine, observe, once

if TYPE_CHECKING:
    from lab.faults.target import Target
    from tests.lab.faults.observed import Options

UART = 0x0900_0000
RAM = 0x4000_0000
ALONE: Options = {}


class Made(NamedTuple):
    """An access that a run makes."""

    at: tuple[int, int, int]
    va: int
    size: int
    reads: bool
    writes: bool


found: list[Made] = []


def note(target: Target) -> bool:
    """Note the access of the next instruction, if it makes one."""
    vcpu = target.vcpu
    pc = vcpu.pc
    access = decode(target.pe.word_at(pc))
    if access is None or access.kind is AccessKind.PREFETCH:
        return False
    if access.exclusive and access.writes and not target.pe.engine.exclusive:
        return False
    va = target.pe.watch.address_of(access, pc)
    at = (target.vm.machine.clock.retired, pc, vcpu.index)
    found.append(Made(at, va, access.size, access.reads, access.writes))
    return False


@cache
def accesses(guest: str, *, smp: bool = False) -> list[Made]:
    """Return the loads and stores of a guest, found by looking at each instruction."""
    found.clear()
    trigger = Predicate(f"{__name__}:note")
    observe(guest, [PlannedFault(trigger, Nothing())], SMP if smp else ALONE)
    return list(found)


def nth_of(made: list[Made], address: int, size: int, kind: str) -> list[tuple[int, int, int]]:
    return [
        one.at
        for one in made
        if one.va < address + size
        and address < one.va + one.size
        and (kind == "any" or (one.reads if kind == "read" else one.writes))
    ]


@pytest.mark.parametrize("kind", ["read", "write", "any"])
@pytest.mark.parametrize(("guest", "smp"), [("hello", False), ("smp_lock", True)])
def test_accesses_to_a_range_of_virtual_addresses_are_counted(
    guest: str, kind: str, *, smp: bool
) -> None:
    made = accesses(guest, smp=smp)
    options = SMP if smp else ALONE
    places = sorted({one.va for one in made if one.va >= RAM})
    for va in places[:: max(1, len(places) // 2)]:
        right = nth_of(made, va, 4, kind)
        for nth in {1, len(right)} if right else ():
            trigger = Access(va, 4, kind=kind, nth=nth)
            assert once(trigger, guest, options) == right[nth - 1]
        assert once(Access(va, 4, kind=kind, nth=len(right) + 1), guest, options) is None


def test_mmio_is_an_access_to_an_intermediate_physical_address() -> None:
    right = nth_of(accesses("hello"), UART, 0x1000, "write")
    assert len(right) > 5
    for nth in (1, 2, len(right)):
        assert once(Access(UART, 0x1000, "ipa", "write", nth=nth), "hello") == right[nth - 1]
    assert once(Access(UART, 0x1000, "ipa", "write", nth=len(right) + 1), "hello") is None


def test_one_place_has_three_addresses() -> None:
    made = [one for one in accesses("remap") if one.va >= RAM and one.writes]  # once each
    one = made[len(made) // 2]
    vmm = machine("remap")
    vmm.monitor.run(one.at[0] + 1)
    pa = vmm.pe.probe.translation(VA(one.va))
    assert not isinstance(pa, Fault)
    controls = vmm.pe.mmu.regime.stage2
    for page in range(RAM, RAM + (64 << 20), PAGE_SIZE):
        leaf = stage2.walk(vmm.machine.memory, controls, IPA(page))
        if not isinstance(leaf, Fault) and page + leaf.offset == pa & ~PAGE_MASK:
            break
    ipa = page | pa & PAGE_MASK
    for address, space in ((pa, "pa"), (ipa, "ipa"), (one.va, "va")):
        assert once(Access(address, one.size, space), "remap") == one.at
        assert once(Access(address, one.size, space, nth=2), "remap") is None


@pytest.mark.parametrize("space", ["va", "ipa"])
def test_fetches_are_accesses_too(space: str) -> None:
    assert once(Access(0x4008_0004, 4, space, "fetch"), "hello") == (1, 0x4008_0004, 0)


@pytest.mark.parametrize(
    ("guest", "options", "trigger"),
    [
        ("remap", {}, Access(RAM, 64 << 20, nth=70)),
        ("remap", {}, Access(RAM, 64 << 20, nth=100_000)),
        ("hello", {}, Access(UART, 0x1000, "ipa", nth=3)),
        ("hello", {}, Access(UART, 0x1000, "va", nth=3)),
        ("cross_page", {}, Access(0, 1 << 63, nth=1 << 30)),
        ("exclusive", {}, Access(0, 1 << 63, nth=1 << 30)),
        ("smp_lock", SMP, Access(0, 1 << 63, kind="write", nth=50)),
        ("remap", {}, Access(0x8_0000_0000, 1 << 30, "pa", nth=200)),
    ],
)
def test_injecting_nothing_changes_nothing(guest: str, options: Options, trigger: Access) -> None:
    alone, _ = observe(guest, options=options, armed=False)
    seen, _ = observe(guest, [PlannedFault(trigger, Nothing())], options)
    assert seen.trace == alone.trace
    assert seen.registers == alone.registers
    for now, before in zip(seen.counts, alone.counts, strict=True):
        retired, _, *others = now
        assert (retired, *others) == (before[0], *before[2:])  # hits are requests of the engine


def test_a_range_beyond_all_addresses_is_refused() -> None:
    with pytest.raises(UserError, match="goes beyond 64 bits"):
        Access((1 << 64) - 4, 8)


def test_only_some_kinds_and_spaces_are_known() -> None:
    with pytest.raises(UserError, match="one of va, ipa, pa"):
        Access(0, space="physical")
    with pytest.raises(UserError, match="one of read, write, any, fetch"):
        Access(0, kind="load")
