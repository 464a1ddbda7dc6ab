"""A restored machine does what the machine did that the snapshot was taken of."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.machine import Machine
from guests.catalogue import all_guests
from lab.snapshot import first_difference, is_equal, restore, take
from tests.lab.snapshot.machines import Outcome, Recorded


class Number:
    """Refers to nothing that can change."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: int | None = 1 << 80


class Slotted:
    """Keeps its attributes in itself."""

    __slots__ = ("late", "listener", "machine", "number")
    NOT_STATE = frozenset({"listener"})

    late: Any

    def __init__(self) -> None:
        self.machine = Machine(1 << 20)
        self.number = 1 << 80
        self.listener: object = None


GUESTS = [guest.name for guest in all_guests()]
SEEDED = ("--seed", "7", "--quantum", "23")


def points(instructions: int, count: int) -> list[int]:
    """Return some moments of a run, the first and the last among them."""
    chosen = random.Random(instructions)  # noqa: S311  # repeatable, not secret
    between = chosen.sample(range(instructions), min(count, instructions))
    return sorted({0, instructions - 1, *between})


def check(guest: Recorded, moments: list[int], golden: Outcome) -> None:
    """Take snapshots on the way, and go on from each of them."""
    snapshots = []
    for moment in moments:
        assert guest.vmm.run_to(moment) is None
        assert guest.vmm.retired == moment
        snapshots.append(take(guest.vmm))
    outcome = guest.finish()
    assert outcome[:3] == golden[:3], "the snapshots have changed the run"
    final = take(guest.vmm)
    for snapshot in [*reversed(snapshots), *snapshots]:
        restore(guest.vmm, snapshot)
        assert first_difference(guest.vmm, snapshot) is None
        outcome = guest.finish()
        assert outcome[:3] == golden[:3]
        assert outcome.trace == golden.trace[len(golden.trace) - len(outcome.trace) :]
        assert first_difference(guest.vmm, final) is None
        assert is_equal(guest.vmm, final)
        assert not is_equal(guest.vmm, snapshot)


@pytest.mark.parametrize("name", GUESTS)
def test_every_guest_goes_on_from_a_snapshot_as_it_did(name: str) -> None:
    golden = Recorded(name).finish()
    check(Recorded(name), points(golden.instructions, 2), golden)


@pytest.mark.parametrize("name", ["ipi", "smp_lock", "smp_tlbi"])
def test_vcpus_in_short_drawn_turns_go_on_as_they_did(name: str) -> None:
    golden = Recorded(name, *SEEDED).finish()
    check(Recorded(name, *SEEDED), points(golden.instructions, 3), golden)


@pytest.mark.parametrize("name", ["exclusive", "timer_irq", "self_modify", "el0"])
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_any_moment_will_do(name: str, data: st.DataObject) -> None:
    golden = Recorded(name).finish()
    moments = st.lists(st.integers(0, golden.instructions - 1), min_size=1, max_size=3, unique=True)
    check(Recorded(name), sorted(data.draw(moments)), golden)


@pytest.mark.parametrize(
    "options",
    [
        ("dirty_pattern", "--dirty-log"),
        ("dirty_pattern", "--dirty-ring", "1024", "--dirty-log"),
        ("dirty_pattern", "--dirty-log", "--dirty-protect", "manual", "--harvest-every", "500"),
        ("huge", "--dirty-log", "--dirty-after", "600", "--eager-split", "2M"),
        ("huge", "--backing", "thp"),
        ("hello", "--pmu"),
        ("hello", "--gic", "2"),
        ("self_modify", "--dic", "--idc"),
        ("self_modify", "--icache", "vipt", "--cache-rules", "2018"),
    ],
    ids=" ".join,
)
def test_options_make_no_difference(options: tuple[str, ...]) -> None:
    golden = Recorded(*options).finish()
    check(Recorded(*options), points(golden.instructions, 3), golden)


def test_what_an_object_keeps_in_itself_is_restored_time_after_time() -> None:
    thing = Slotted()
    snapshot = take(thing)
    for number in range(1000):
        # Values are freed, and others come to lie where they were.
        thing.number = (1 << 80) + number % 3
        thing.listener = (1 << 80) + number
        restore(thing, snapshot)
        assert thing.number == 1 << 80
        assert thing.listener == (1 << 80) + number
    thing.late = [1]
    restore(thing, snapshot)
    assert not hasattr(thing, "late")
    del thing.number
    restore(thing, snapshot)
    assert thing.number == 1 << 80


def test_an_equal_value_in_the_place_of_another_is_no_proof() -> None:
    thing = Slotted()
    thing.listener, thing.late = None, Number()
    snapshot = take(thing)
    for _ in range(1000):
        thing.late.value = int(str(1 << 80))  # equal, not the same: it may stay
        restore(thing, snapshot)
        thing.late.value = None
        thing.late.value = int(str(1 << 81))  # is likely to lie where that was
        restore(thing, snapshot)
        assert thing.late.value == 1 << 80


def test_two_snapshots_of_one_object_do_not_mix() -> None:
    thing = Slotted()
    first = take(thing)
    thing.number = 2
    second = take(thing)
    for _ in range(3):
        restore(thing, first)
        assert thing.number == 1 << 80
        restore(thing, second)
        assert thing.number == 2
        thing.number = 3
