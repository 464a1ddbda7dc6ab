"""Guests, slots, the host and dirty logs in any order: what must hold in every version of KVM holds.

The invariants are named in :mod:`tests.hyp.invariants.checks`. Every access of a guest, done
by a real vCPU, is compared with a model that knows no page tables, and every migration made
from dirty logs with the memory.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hyp.host import HVA
from tests.hyp.fake_machine import DIC_CPU, NEW_CPU, OLD_CPU
from tests.hyp.invariants.guest import Setup, code
from tests.hyp.invariants.model import PAGE, Area, Kind, Outcome, Slot
from tests.hyp.invariants.player import Player
from tests.hyp.invariants.world import BLOCK, PROTECTIONS, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.features import CpuFeatures
    from hyp.host.notifiers import Invalidation

STEPS: Final = 60
EXAMPLES: Final = 34
"""For each CPU; three times this by STEPS are the steps of a run."""
CPUS: Final = {"old": OLD_CPU, "new": NEW_CPU, "dic": DIC_CPU}

WINDOW: Final = 0x4000_0000 // PAGE - BLOCK
"""The first page of the slots: a boundary of 1 GiB lies in the middle of them."""
FIRST_PAGES: Final = (0, 1, BLOCK - 8, BLOCK, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK)
SIZES: Final = (1, 4, 16, BLOCK, 2 * BLOCK)
MAX_SLOTS: Final = 5
MAX_BURST: Final = 220
"""More than fit in a ring."""

profiles = st.sampled_from(["2026", "2026", "2021", "2021-granule", "2018", "2012"])
logs = st.sampled_from([(0, False), (1, False), (3, False), (0, True), (1, True)])
setups = st.builds(
    lambda profile, log, bitmap, chunk: Setup(profile, log[0], log[1], bitmap, chunk),
    profiles,
    logs,
    st.booleans(),
    st.sampled_from([0, BLOCK * PAGE]),
)
players = st.integers(0, 1)
vcpus = st.integers(0, 1)
kinds = st.sampled_from([Kind.READ, Kind.WRITE, Kind.READ, Kind.WRITE, Kind.ATOMIC, Kind.EXEC])
picks = st.integers(0, 119)
offsets = st.sampled_from([0, 8, 2048, PAGE - 8])
areas = st.integers(0, 7)
lengths = st.integers(1, 8)
HAPPENINGS: Final = (
    "swap_out",
    "migrate",
    "discard",
    "read_only",
    "any_access",
    "no_access",
    "write",
    "collapse",
    "split",
    "age",
    "fork",
    "fail",
)
RACES: Final = ("swap_out", "migrate", "discard", "read_only", "write", "split", "fork", "collapse")


class Invariants(RuleBasedStateMachine):
    """Two guests on one machine whose VMM process shows them the same memory."""

    features: CpuFeatures = OLD_CPU
    steps: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.open: Invalidation | None = None
        self.faults_left = 0

    @initialize(first=setups, second=setups, observed=st.booleans())
    def start(self, first: Setup, second: Setup, observed: bool) -> None:
        self.world = World(self.features)
        self.world.on_change = self._changed
        self.world.watcher.at_end = self._nothing_is_stale
        self.players: list[Player] = []
        for setup in (first, second):
            self.players.append(self._player(setup, observed=observed))
        for pe in self.world.machine.pes:
            pe.on_tlbi = self._on_tlbi

    def _player(self, setup: Setup, *, observed: bool) -> Player:
        player = Player(self.world, setup, observed=observed)
        player.wrote = partial(self._wrote, player)
        player.at_fault = self._on_fault
        return player

    # --- what everybody hears of ---------------------------------------------------------

    def _changed(self, area: Area, page: int) -> None:
        for player in self.players:
            player.changed(area, page, None)

    def _wrote(self, writer: Player, slot: Slot, page: int) -> None:
        for player in self.players:
            player.changed(slot.area, page, slot if player is writer else None)

    def _on_tlbi(self, operation: object) -> None:
        for player in self.players:
            if player.checks.trace is not None:
                player.checks.trace.on_tlbi(operation)

    def _nothing_is_stale(self) -> None:
        for player in self.players:
            if player.checks.trace is not None:
                player.checks.trace.nothing_is_stale()

    def _on_fault(self) -> None:
        """End an invalidation that the guest has waited for long enough."""
        self.faults_left -= 1
        if self.open is not None and self.faults_left <= 0:
            self._close()

    def _close(self) -> None:
        if self.open is not None:
            invalidation, self.open = self.open, None
            invalidation.__exit__(None, None, None)

    # --- choices -------------------------------------------------------------------------

    def _next(self) -> int:
        self.number = (self.number + 1) % 0x1_0000
        return self.number

    def _gfn(self, player: Player, pick: int) -> int:
        """Return a page of a slot, at an edge or not, or one that is in none."""
        found = [WINDOW + BLOCK * 4 + 7]
        for slot in player.memory.slots.values():
            inside = (0, 1, 2, slot.npages // 2, slot.npages - 1)
            found += [slot.gfn + page for page in inside if page < slot.npages]
        return found[pick % len(found)]

    def _slot(self, player: Player, pick: int) -> Slot | None:
        slots = list(player.memory.slots.values())
        return slots[pick % len(slots)] if slots else None

    def _page(self, area: Area, pick: int) -> int:
        pages = (0, 1, 2, area.npages // 2 - 1, area.npages // 2, area.npages - 1)
        return pages[pick % len(pages)]

    @property
    def _has_old(self) -> bool:
        return any(player.guest.old for player in self.players)

    # --- the guests ----------------------------------------------------------------------

    def _access(self, player: Player, vcpu: int, kind: Kind, gfn: int, offset: int) -> Outcome:
        return player.access(vcpu, kind, gfn, offset, self._next())

    @rule(
        who=players, vcpu=vcpus, kind=kinds, pick=picks, offset=offsets, again=st.booleans()
    )
    def a_guest_accesses(
        self, who: int, vcpu: int, kind: Kind, pick: int, offset: int, again: bool
    ) -> None:
        player = self.players[who]
        gfn = self._gfn(player, pick)
        if kind is Kind.EXEC:
            self._access(player, vcpu, Kind.WRITE, gfn, offset)
        outcome = self._access(player, vcpu, kind, gfn, offset)
        self._count(f"{kind.value}: {outcome.value}")
        if again and outcome is Outcome.DONE and kind is not Kind.ATOMIC and self.open is None:
            player.repeat(vcpu, kind, gfn, offset, self._next())

    @rule(
        who=players,
        vcpu=vcpus,
        kind=kinds,
        pick=picks,
        what=st.sampled_from(RACES),
    )
    def the_host_is_faster(self, who: int, vcpu: int, kind: Kind, pick: int, what: str) -> None:
        player = self.players[who]
        gfn = self._gfn(player, pick)
        slot = player.memory.find(gfn)
        if slot is None:
            return
        page = slot.page(gfn)
        self._raced(
            partial(self._access, player, vcpu, kind, gfn, 0),
            partial(self._happen, what, slot.area, page, 1),
        )

    @rule(who=players, other=players, vcpu=vcpus, kind=kinds, second=kinds, pick=picks)
    def two_vcpus_fault_at_once(
        self, who: int, other: int, vcpu: int, kind: Kind, second: Kind, pick: int
    ) -> None:
        player, rival = self.players[who], self.players[other]
        gfn = self._gfn(player, pick)
        self._raced(
            partial(self._access, player, vcpu, kind, gfn, 0),
            partial(self._access, rival, 1 - vcpu, second, gfn, 8),
        )

    def _raced(self, access: Callable[[], object], between: Callable[[], object]) -> None:
        """Do an access, and something else after its page has been looked up."""

        def happens() -> None:
            self._count("a look-up is overtaken")
            between()

        self.world.host.between = happens
        access()
        self.world.host.between = None

    @rule(who=players, vcpu=vcpus, pick=picks, npages=st.sampled_from([3, 17, MAX_BURST]))
    def a_guest_writes_much(self, who: int, vcpu: int, pick: int, npages: int) -> None:
        player = self.players[who]
        gfn = self._gfn(player, pick)
        slot = player.memory.find(gfn)
        if slot is not None:
            end = min(gfn + npages, slot.gfn + slot.npages)
            player.burst(vcpu, gfn, end - gfn, self._next())

    # --- slots ---------------------------------------------------------------------------

    def _during(self, player: Player, access: Kind | None, gfn: int) -> None:
        """Have a guest access a page while the slots change."""
        player.vm.synchronize_srcu = (
            None if access is None else partial(self._access, player, 1, access, gfn, 16)
        )

    @rule(
        who=players,
        area=areas,
        aligned=st.booleans(),
        first=st.sampled_from([0, 0, 1, BLOCK]),
        at=st.sampled_from(FIRST_PAGES),
        npages=st.sampled_from(SIZES),
        readonly=st.sampled_from([False, False, True]),
        logging=st.booleans(),
    )
    @precondition(lambda self: self.open is None)
    def a_slot_is_created(
        self,
        who: int,
        area: int,
        aligned: bool,
        first: int,
        at: int,
        npages: int,
        readonly: bool,
        logging: bool,
    ) -> None:
        player, shown = self.players[who], self.world.areas[area]
        first %= shown.npages
        npages = min(npages, shown.npages - first)
        gfn = WINDOW + (at - at % BLOCK + first if aligned else at)
        slots = player.memory.slots
        numbers = [n for n in range(1, MAX_SLOTS + 1) if n not in slots]
        if not numbers or any(slot.overlaps(gfn, npages) for slot in slots.values()):
            return
        readonly = readonly and not player.guest.old
        player.create(Slot(numbers[0], gfn, npages, shown, first, readonly, logging))

    @rule(who=players, pick=picks, during=st.none() | kinds)
    @precondition(lambda self: self.open is None)
    def a_slot_is_deleted(self, who: int, pick: int, during: Kind | None) -> None:
        player = self.players[who]
        slot = self._slot(player, pick)
        if slot is not None:
            self._during(player, during, slot.gfn)
            player.delete(slot)

    @rule(who=players, pick=picks, at=st.sampled_from(FIRST_PAGES), during=st.none() | kinds)
    @precondition(lambda self: self.open is None)
    def a_slot_is_moved(self, who: int, pick: int, at: int, during: Kind | None) -> None:
        player = self.players[who]
        slot = self._slot(player, pick)
        if slot is None:
            return
        gfn = WINDOW + at
        others = [other for other in player.memory.slots.values() if other is not slot]
        if gfn == slot.gfn or any(other.overlaps(gfn, slot.npages) for other in others):
            return
        self._during(player, during, slot.gfn)
        player.move(slot, gfn)

    @rule(who=players, pick=picks, during=st.none() | kinds)
    @precondition(lambda self: self.open is None)
    def logging_is_turned(self, who: int, pick: int, during: Kind | None) -> None:
        player = self.players[who]
        slot = self._slot(player, pick)
        if slot is not None:
            self._during(player, during, slot.gfn + slot.npages // 2)
            player.set_logging(slot, on=not slot.logging)

    @rule(who=players, pick=picks, during=st.none() | kinds)
    def logs_are_taken(self, who: int, pick: int, during: Kind | None) -> None:
        player = self.players[who]
        rings = [vcpu.dirty_ring for vcpu in player.vm.vcpus.values()]
        nearly_full = any(ring is not None and ring.used > MAX_BURST // 2 for ring in rings)

        def between() -> None:
            if during is not None and not nearly_full:
                self._access(player, 0, during, self._gfn(player, pick), 24)

        player.harvest(between)

    @rule(who=players, setup=setups)
    @precondition(lambda self: self.open is None)
    def a_vm_makes_room_for_another(self, who: int, setup: Setup) -> None:
        old = self.players[who]
        old.destroy()
        new = self.players[who] = self._player(setup, observed=old.checks.trace is not None)
        for slot in old.memory.slots.values():
            if not (slot.readonly and new.guest.old):
                new.create(slot.logged(False))

    # --- the host ------------------------------------------------------------------------

    @rule(what=st.sampled_from(HAPPENINGS), area=areas, pick=picks, npages=lengths)
    def the_host_acts(self, what: str, area: int, pick: int, npages: int) -> None:
        shown = self.world.areas[area]
        page = self._page(shown, pick)
        self._happen(what, shown, page, min(npages, shown.npages - page))
        self._count(what)

    def _happen(self, what: str, area: Area, page: int, npages: int) -> None:
        world = self.world
        match what:
            case "swap_out" | "discard":
                getattr(world, what)(area, page, npages)
            case "migrate" | "collapse" | "split" | "fail":
                getattr(world, what)(area, page)
            case "any_access" | "read_only" | "no_access":
                number = ("any_access", "read_only", "no_access").index(what)
                world.protect(area, page, npages, PROTECTIONS[number])
            case "write":
                world.write(area, page, 0, code(self._next()))
            case "fork":
                world.fork()
            case "age" if not self._has_old:  # which knew no access flag
                world.age(area, page, npages)

    @rule(area=areas, pick=picks)
    def the_vmm_reads(self, area: int, pick: int) -> None:
        shown = self.world.areas[area]
        page = self._page(shown, pick)
        if shown.missing is None or page not in shown.missing or not self.world.supplies:
            self.world.check(shown, page)

    @rule()
    def user_space_stops_or_starts_supplying_pages(self) -> None:
        self.world.supplies = not self.world.supplies

    @rule(area=areas, pick=picks, npages=lengths, faults=st.integers(1, 3))
    @precondition(lambda self: self.open is None)
    def an_invalidation_begins(self, area: int, pick: int, npages: int, faults: int) -> None:
        shown = self.world.areas[area]
        page = self._page(shown, pick)
        start, end = shown.hva(page), shown.hva(min(page + npages, shown.npages))
        self.open = self.world.host.notifiers.invalidate(HVA(start), HVA(end))
        self.open.__enter__()
        self.faults_left = faults

    @rule()
    @precondition(lambda self: self.open is not None)
    def an_invalidation_ends(self) -> None:
        self._close()

    # --- what must hold ------------------------------------------------------------------

    @invariant()
    def the_tables_are_right(self) -> None:
        self._count("steps")
        for player in self.players:
            player.checks.at_rest()

    def _count(self, what: str) -> None:
        self.steps[what] += 1

    def teardown(self) -> None:
        if not hasattr(self, "players"):
            return
        self._close()
        for player in self.players:
            player.destroy()
        self.world.close()


@pytest.mark.parametrize("cpu", CPUS)
def test_what_must_hold_in_every_version_holds(
    cpu: str, record_property: Callable[[str, object], None]
) -> None:
    counted: Counter[str] = Counter()
    machine = type("Invariants", (Invariants,), {"features": CPUS[cpu], "steps": counted})
    scale = settings.default.max_examples / settings.get_profile("default").max_examples
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=int(EXAMPLES * scale),
            stateful_step_count=STEPS,
        ),
    )
    record_property("invariant_steps", dict(counted))
