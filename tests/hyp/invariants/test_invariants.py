"""Guests, slots, the host and dirty logs in any order: what must always hold, holds.

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
    rule,
    run_state_machine_as_test,
)

from hyp.host import HVA
from tests.hyp.fake_machine import DIC_CPU, NEW_CPU, OLD_CPU
from tests.hyp.invariants.actions import (
    MAX_BURST,
    WINDOW,
    Access,
    Action,
    Begin,
    Burst,
    Create,
    Delete,
    End,
    Host,
    Move,
    Overtaken,
    Reboot,
    Rivals,
    Supply,
    TakeLogs,
    TurnLogging,
    VmmReads,
    actions,
    creations,
    setups,
)
from tests.hyp.invariants.guest import Setup, code
from tests.hyp.invariants.model import Area, Kind, Outcome, Slot
from tests.hyp.invariants.player import Player
from tests.hyp.invariants.world import BLOCK, PROTECTIONS, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.features import CpuFeatures
    from emu.mmu.tlbi import Invalidation
    from hyp.host import notifiers

STEPS: Final = 60
EXAMPLES: Final = 44
"""For each CPU; three times this by STEPS are the steps of a run."""
LEAST: Final = 5000 // 3
"""Steps for each CPU in which something happened."""
CPUS: Final = {"old": OLD_CPU, "new": NEW_CPU, "dic": DIC_CPU}
MAX_SLOTS: Final = 5
CHANGES: Final = (Create, Delete, Move, TurnLogging, Reboot, Begin)


class Invariants(RuleBasedStateMachine):
    """Two guests on one machine whose VMM process shows them the same memory."""

    features: CpuFeatures
    counted: Counter[str]
    outcomes: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.whole = False
        self.open: notifiers.Invalidation | None = None
        self.faults_left = 0

    @initialize(
        first=setups,
        second=setups,
        observed=st.sampled_from([True, True, True, False]),
        slots=st.lists(creations, min_size=4, max_size=6),
    )
    def start(self, first: Setup, second: Setup, observed: bool, slots: list[Create]) -> None:
        self.world = World(self.features)
        self.world.on_change = self._changed
        self.world.watcher.at_end = self._nothing_is_stale
        self.players: list[Player] = []
        for setup in (first, second):
            self.players.append(self._player(setup, observed=observed))
        for pe in self.world.machine.pes:
            pe.on_tlbi = self._on_tlbi
        for slot in slots:
            self._create(slot)

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

    def _on_tlbi(self, operation: Invalidation) -> None:
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

    def _close(self) -> bool:
        if self.open is None:
            return False
        invalidation, self.open = self.open, None
        invalidation.__exit__(None, None, None)
        return True

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

    def _page(self, area: Area, pick: int) -> int:
        pages = (0, 1, 2, area.npages // 2 - 1, area.npages // 2, area.npages - 1)
        return pages[pick % len(pages)]

    # --- one step ------------------------------------------------------------------------

    @rule(action=actions)
    def step(self, action: Action) -> None:
        """Do one thing, if it can be done now."""
        self.whole = False
        if self._do(action) is not False:
            self.counted[type(action).__name__] += 1

    def _do(self, action: Action) -> bool | None:
        if self.open is not None and isinstance(action, CHANGES):
            return False  # they would have to wait for the end of the invalidation
        match action:
            case Access():
                return self._accesses(action)
            case Overtaken():
                return self._overtaken(action)
            case Rivals(who, other, vcpu, kind, second, pick):
                player, rival = self.players[who], self.players[other]
                gfn = self._gfn(player, pick)
                return self._raced(
                    partial(self._do_access, player, vcpu, kind, gfn, 0),
                    partial(self._do_access, rival, 1 - vcpu, second, gfn, 8),
                )
            case Burst(who, vcpu, pick, npages):
                return self._burst(self.players[who], vcpu, pick, npages)
            case Create():
                return self._create(action)
            case Delete() | Move() | TurnLogging():
                return self._change(action)
            case TakeLogs(who, pick, during):
                return self._take_logs(self.players[who], pick, during)
            case Reboot(who, setup):
                return self._reboot(who, setup)
            case Host() | VmmReads():
                return self._host(action)
            case Supply():
                self.world.supplies = not self.world.supplies
            case Begin():
                return self._begin(action)
            case End():
                return self._close()
        return True

    # --- the guests ----------------------------------------------------------------------

    def _do_access(self, player: Player, vcpu: int, kind: Kind, gfn: int, offset: int) -> None:
        self._access(player, vcpu, kind, gfn, offset)

    def _access(self, player: Player, vcpu: int, kind: Kind, gfn: int, offset: int) -> Outcome:
        outcome = player.access(vcpu, kind, gfn, offset, self._next())
        self.outcomes[f"{kind.value}: {outcome.value}"] += 1
        return outcome

    def _accesses(self, action: Access) -> bool:
        who, vcpu, kind, pick, offset, again = action
        player = self.players[who]
        gfn = self._gfn(player, pick)
        if kind is Kind.EXEC:
            self._access(player, vcpu, Kind.WRITE, gfn, offset)
        outcome = self._access(player, vcpu, kind, gfn, offset)
        if again and outcome is Outcome.DONE and kind is not Kind.ATOMIC and self.open is None:
            player.repeat(vcpu, kind, gfn, offset, self._next())
        return True

    def _overtaken(self, action: Overtaken) -> bool:
        who, vcpu, kind, pick, what = action
        player = self.players[who]
        gfn = self._gfn(player, pick)
        slot = player.memory.find(gfn)
        if slot is None:
            return False
        area, page = slot.area, slot.page(gfn)

        def happens() -> None:
            self._happen(what, area, page, 1)

        return self._raced(partial(self._do_access, player, vcpu, kind, gfn, 0), happens)

    def _raced(self, access: Callable[[], object], between: Callable[[], None]) -> bool:
        """Do an access, and something else after its page has been looked up, if it is."""
        self.world.host.between = between
        access()
        happened = self.world.host.between is None
        self.world.host.between = None
        return happened

    def _burst(self, player: Player, vcpu: int, pick: int, npages: int) -> bool:
        gfn = self._gfn(player, pick)
        slot = player.memory.find(gfn)
        if slot is None:
            return False
        return player.burst(vcpu, gfn, min(npages, slot.gfn + slot.npages - gfn), self._next())

    # --- slots and logs ------------------------------------------------------------------

    def _create(self, action: Create) -> bool:
        who, area, aligned, first, at, npages, readonly, logging = action
        player, shown = self.players[who], self.world.areas[area]
        first %= shown.npages
        npages = min(npages, shown.npages - first)
        gfn = WINDOW + (at - at % BLOCK + first if aligned else at)
        slots = player.memory.slots
        numbers = [n for n in range(1, MAX_SLOTS + 1) if n not in slots]
        if not numbers or any(slot.overlaps(gfn, npages) for slot in slots.values()):
            return False
        readonly = readonly and not player.guest.old
        player.create(Slot(numbers[0], gfn, npages, shown, first, readonly, logging))
        return True

    def _change(self, action: Delete | Move | TurnLogging) -> bool:
        player = self.players[action.who]
        slots = player.memory.slots
        if not slots:
            return False
        slot = list(slots.values())[action.pick % len(slots)]
        gfn = slot.gfn + action.pick % slot.npages
        if isinstance(action, TurnLogging):
            # What is mapped is to be seen before and after.
            self._do_access(player, 0, Kind.READ, gfn, 0)
        if action.during is not None:
            # Another CPU runs where this one waits for it.
            access = partial(self._do_access, player, 1, action.during, gfn, 16)
            player.vm.synchronize_srcu = access
        match action:
            case Delete():
                player.delete(slot)
            case TurnLogging():
                player.set_logging(slot, on=not slot.logging)
                self._do_access(player, 1, Kind.WRITE, gfn, 0)
            case Move(at=at):
                others = [other for other in slots.values() if other is not slot]
                gfn = WINDOW + at
                if gfn == slot.gfn or any(o.overlaps(gfn, slot.npages) for o in others):
                    player.vm.synchronize_srcu = None
                    return False
                player.move(slot, gfn)
        return True

    def _take_logs(self, player: Player, pick: int, during: Kind | None) -> bool:
        rings = [vcpu.dirty_ring for vcpu in player.vm.vcpus.values()]
        nearly_full = any(ring is not None and ring.used > MAX_BURST // 2 for ring in rings)

        def between() -> None:
            if during is not None and not nearly_full:
                self._access(player, 0, during, self._gfn(player, pick), 24)

        player.harvest(between)
        return bool(player.logged)

    def _reboot(self, who: int, setup: Setup) -> bool:
        old = self.players[who]
        old.destroy()
        new = self.players[who] = self._player(setup, observed=old.checks.trace is not None)
        for slot in old.memory.slots.values():
            if not (slot.readonly and new.guest.old):
                new.create(slot.logged(False))
        return True

    # --- the host ------------------------------------------------------------------------

    def _host(self, action: Host | VmmReads) -> bool:
        area = self.world.areas[action.area]
        page = self._page(area, action.pick)
        if isinstance(action, VmmReads):
            self.world.check(area, page)
            return True
        return self._happen(action.what, area, page, min(action.npages, area.npages - page))

    def _happen(self, what: str, area: Area, page: int, npages: int) -> bool:
        world = self.world
        match what:
            case "swap_out" | "discard":
                getattr(world, what)(area, page, npages)
            case "migrate" | "collapse" | "split" | "fail":
                getattr(world, what)(area, page)
            case "any_access" | "read_only" | "no_access":
                world.protect(area, page, npages, PROTECTIONS[what])
            case "write":
                world.write(area, page, 8 * (page % 2), code(self._next()))
            case "fork":
                world.fork()
            case "age":
                if any(player.guest.old for player in self.players):
                    return False  # which knew no access flag
                world.age(area, page, npages)
        return True

    def _begin(self, action: Begin) -> bool:
        area = self.world.areas[action.area]
        page = self._page(area, action.pick)
        start, end = area.hva(page), area.hva(min(page + action.npages, area.npages))
        self.open = self.world.host.notifiers.invalidate(HVA(start), HVA(end))
        self.open.__enter__()
        self.faults_left = action.faults
        return True

    # --- what must hold ------------------------------------------------------------------

    @invariant()
    def the_tables_are_right(self) -> None:
        for player in self.players:
            player.checks.at_rest()
        self.whole = True

    def teardown(self) -> None:
        if not self.whole:
            return  # a step has failed
        self._close()
        for player in self.players:
            player.destroy()
        self.world.close()


@pytest.mark.parametrize("cpu", CPUS)
def test_what_must_hold_in_every_version_holds(
    cpu: str, record_property: Callable[[str, object], None]
) -> None:
    counted, outcomes = Counter[str](), Counter[str]()
    state = {"features": CPUS[cpu], "counted": counted, "outcomes": outcomes}
    machine = type(f"Invariants_{cpu}", (Invariants,), state)
    usual, chosen = settings.get_profile("default"), settings()
    examples = EXAMPLES * chosen.max_examples // usual.max_examples
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=STEPS)
    )
    assert counted.total() >= LEAST
    record_property("invariant_steps", dict(counted))
    record_property("invariant_accesses", dict(outcomes))
