"""Every bit of every live stage-2 descriptor flips, one at a time, and each outcome is foretold.

Those that let the guest out of its memory are those that the shipped campaign finds.

The flip comes where the guest has mapped all that it uses, and then uses it again. TLBs are empty
at that moment, which they may be at any: before, an entry in a TLB would hide the flip for as
long as it stays there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from emu.arch.a64.access import AccessKind, effective_address
from emu.arch.a64.loadstore import decode
from emu.arch.address import PA, VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import ESR_EL1, ESR_EL2, SP_EL1, VBAR_EL1
from emu.arch.registers.virtualization import VTCR_EL2, VTTBR_EL2
from hyp.events import KvmGuestFault
from hyp.host import HVA
from hyp.host.tables import PRESENT
from hyp.stats import Resolution
from lab.campaign.outcome import Outcome
from lab.campaign.planning import plan_campaign
from lab.campaign.prepare import prepare
from lab.campaign.read import read_campaign
from lab.campaign.shipped import find_campaign
from lab.campaign.symbols import symbols_of_guest
from lab.commands.run import configuration
from lab.loader import load
from lab.monitor import EndReason
from lab.snapshot import restore, take
from lab.target import open_target
from lab.vmm import Vmm
from tests.lab.campaign import flip_model as model
from tests.lab.campaign.flip_model import Access, Event, Host, Model, Prediction
from tests.lab.campaign.stage2_format import (
    Controls,
    Effect,
    Found,
    descriptor_at,
    field_of,
    live,
)

if TYPE_CHECKING:
    from emu.mmu.tlb import TlbEntry
    from lab.monitor import End

GUESTS = ("isolation", "first_touch")
"""The guest of the experiment, and that of ``make demo``."""
DATA = range(0x4100_0000, 0x6000_0000)
"""IPAs of what the guests touch on purpose."""
PAGE = 0x1000
LONG_ENOUGH = 1_400
"""Instructions: twice what the guests take. What goes on beyond has left its way."""
EXTERNAL_ABORT = 0x10
CURRENT_SPX = 0x200
"""Offset from VBAR_EL1 of the vector for synchronous exceptions from EL1 with SP_EL1."""


@dataclass
class Seen:
    """What the machine did with a flip."""

    events: list[Event]
    reached: list[int]
    """Pages of physical memory, in the order in which they were."""
    end: End
    console: str
    exception: int
    """ESR_EL1: the last exception that the guest took."""
    walk_aborts: int
    outside: list[int]
    """Of the pages, those that backed no slot then."""


class Lab:
    """A guest, stopped with empty TLBs when it has mapped all that it uses."""

    def __init__(self, guest: str) -> None:
        with open_target(guest) as target:
            config = configuration(target, ())
            image = load(target.image, config.memory, config.flash)
        self.vmm = Vmm(config, image)
        moment = self._moment()
        self.vmm = Vmm(config, image)
        assert self.vmm.monitor.run(moment).reason is EndReason.BUDGET
        if guest == "isolation":
            second_pass = symbols_of_guest(guest)["use"].start
            while self.vmm.vcpu.pc != second_pass:
                self.vmm.monitor.run(self.vmm.retired + 1)
        pe = self.vmm.pe
        self.controls = Controls.of(int(pe.read(VTTBR_EL2)), int(pe.read(VTCR_EL2)))
        self._forget()
        self.start = take(self.vmm)
        self._events: list[Event] = []
        self._reached: dict[int, bool] = {}
        self.vmm.vm.events.subscribe(self._hear)
        self.descriptors = live(self.word, self.controls)
        self.host = self._host()
        vector = int(pe.read(VBAR_EL1)) + CURRENT_SPX
        frame = self.host.frames[vector & -PAGE] + vector % PAGE
        word = self.vmm.machine.memory.read(PA(frame), 4)
        self.vector = Access("fetch", vector, 4, int.from_bytes(word, "little"))
        self.accesses = self._record()
        self._inside = set(self.host.frames.values())
        self.untouched = self.flip(None, 0)

    def _moment(self) -> int:
        """Return the number of the instruction behind the last one that needed a mapping."""
        mapped: list[int] = []

        def hear(event: object) -> None:
            if isinstance(event, KvmGuestFault) and event.ipa in DATA:
                mapped.append(self.vmm.pe.retired)

        self.vmm.vm.events.subscribe(hear)
        self.vmm.monitor.run(LONG_ENOUGH)
        return mapped[-1] + 1

    def _forget(self) -> None:
        """Empty the TLBs, which they may be at any time."""
        pe = self.vmm.pe
        for context in pe.mmu.tlb.contexts.values():
            context.clear()
        for entries in pe.mmu.tlb.stage2.values():
            entries.clear()
        pe.mmu.forget_walk()
        pe.engine.flush_tlb()

    def word(self, at: int) -> int | None:
        """Return a word of physical memory, as it is at the moment."""
        memory = self.vmm.machine.memory
        return memory.read_u64(at) if memory.contains(at, 8) else None  # type: ignore[arg-type]

    def _host(self) -> Host:
        """Read the VMM's own tables: which frame is behind which page of the slots."""
        vm, frames, blocks = self.vmm.vm, {}, []
        for slot in vm.memslots:
            start = int(slot.base_gfn) * PAGE
            for offset in range(0, slot.size, PAGE):
                hva = HVA(slot.userspace_addr + offset)
                vma = vm.host.vma_lookup(hva)
                assert vma is not None
                entry, shift = vm.host.tables.lookup(vma, hva)
                if entry & PRESENT:
                    frames[start + offset] = (entry & -PAGE) + (hva & (1 << shift) - 1 & -PAGE)
                if not offset and vma.page_shift == 21:
                    blocks.append(range(start, start + slot.size))
        memory = vm.machine.memory
        spare = tuple(map(int, reversed(self.vmm.vcpu.memcache._pages)))
        there = range(memory.base, memory.base + memory.size)
        return Host(frames, tuple(blocks), there, spare)

    def _record(self) -> list[Access]:
        """Step through the second pass, and write down every access that it makes."""
        vmm = self.vmm
        accesses: list[Access] = []
        memory = vmm.machine.memory

        def at(ipa: int, size: int) -> int:
            frame = self.host.frames.get(ipa & -PAGE)
            if frame is None:
                return 0
            return int.from_bytes(memory.read(PA(frame + ipa % PAGE), size), "little")

        def note(kind: str, ipa: int, size: int, unit: int) -> None:
            accesses.extend(
                Access(kind, i, unit, at(i, unit)) for i in range(ipa, ipa + size, unit)
            )

        while True:
            pc = vmm.vcpu.pc
            note("fetch", pc, 4, 4)
            found, ipa = decode(at(pc, 4)), 0
            if found is not None:
                sp = VA(int(vmm.vcpu.read(SP_EL1)))
                ipa = effective_address(found, vmm.vcpu.read_x, sp, pc)
                if found.kind is AccessKind.LOAD:
                    note("read", ipa, found.size, found.unit)
            end = vmm.monitor.run(vmm.retired + 1)
            if found is not None and found.kind is AccessKind.STORE:
                note("write", ipa, found.size, found.unit)
            if end.reason is not EndReason.BUDGET:
                return accesses

    def _hear(self, event: object) -> None:
        if isinstance(event, KvmGuestFault):
            esr = ESR_EL2(event.hsr)
            code = FaultStatusCode(event.hsr & 0x3F)
            write = IssDataAbort(esr.ISS).WnR
            access = "fetch" if esr.EC == ExceptionClass.IABT_LOW else "write" if write else "read"
            self._events.append(Event(code.fault.value, code.level or 0, access, event.ipa & -PAGE))

    def _filled(self, _va: VA, entry: TlbEntry) -> None:
        page = int(entry.page)
        if page in self._reached:
            return
        # The host may have given the slots another page since the start: look again.
        is_inside = page in self._inside or page in self._host().frames.values()
        self._reached[page] = is_inside

    def flip(self, descriptor: Found | None, bit: int) -> Seen:
        """Flip a bit, run the guest to its end, and say what became of it."""
        vmm = self.vmm
        restore(vmm, self.start)
        self._events, self._reached = [], {}
        if descriptor is not None:
            at: Any = descriptor.at
            vmm.machine.memory.write_u64(at, descriptor.word ^ 1 << bit)
        vmm.pe.mmu.on_fill = self._filled
        end = vmm.monitor.run(LONG_ENOUGH)
        vmm.pe.mmu.on_fill = None
        aborts = sum(
            count
            for (_, _, resolution), count in vmm.vm.stats.aborts.items()
            if resolution is Resolution.SEA
        )
        return Seen(
            self._events,
            list(self._reached),
            end,
            vmm.console.text,
            int(vmm.vcpu.read(ESR_EL1)),
            aborts,
            [page for page, is_inside in self._reached.items() if not is_inside],
        )


@cache
def lab(guest: str) -> Lab:
    return Lab(guest)


@cache
def predictions(guest: str) -> dict[tuple[Found, int], Prediction]:
    """Return what must come of each flip."""
    here = lab(guest)
    restore(here.vmm, here.start)
    foretold = Model(here.word, here.controls, here.host, here.vector)
    return {
        (descriptor, bit): foretold.predict(descriptor.at, bit, here.accesses)
        for descriptor in here.descriptors
        for bit in range(64)
    }


def surprises(here: Lab, said: Prediction, seen: Seen) -> list[str]:
    """Return what is otherwise than it was foretold."""
    untouched = here.untouched
    known, pages = len(said.events), len(said.reached)
    if said.end == model.AS_EVER:
        checks = {
            "the end": (seen.end, seen.console) == (untouched.end, untouched.console),
            "no further abort": len(seen.events) == known,
            "no further page": len(seen.reached) == pages,
        }
    else:
        checks = {"the end": _ended(said.end, seen)}
    checks["the aborts"] = seen.events[:known] == said.events
    checks["the pages reached"] = seen.reached[:pages] == list(said.reached)
    return [name for name, holds in checks.items() if not holds]


def _ended(foretold: str, seen: Seen) -> bool:
    match foretold:
        case model.GIVEN_UP:
            return seen.end.reason is EndReason.CRASHED and "Unsupported FSC" in seen.end.detail
        case model.WALKS_FOR_EVER:
            return seen.end.reason is EndReason.STUCK and seen.walk_aborts > 1
        case model.ABORTED:
            return seen.exception & 0x3F == EXTERNAL_ABORT
        case model.VECTOR_LOST:
            return seen.end.reason is EndReason.STUCK
    return foretold.startswith(model.WRONG_WORD)


@pytest.mark.parametrize("guest", GUESTS)
def test_every_flip_of_every_live_descriptor_does_what_the_format_says(guest: str) -> None:
    here, wrong, escapes = lab(guest), [], set()
    foretold = predictions(guest)
    inside = set(here.host.frames.values())
    for (descriptor, bit), said in foretold.items():
        seen = here.flip(descriptor, bit)
        if seen.outside:
            escapes.add((descriptor.at, bit))
        wrong += [(descriptor, bit, said, seen, what) for what in surprises(here, said, seen)]
    assert wrong == []
    assert escapes == {
        (descriptor.at, bit)
        for (descriptor, bit), said in foretold.items()
        if not said.reached.keys() <= inside
    }


def test_the_shipped_campaign_finds_the_escapes_that_the_format_foretells() -> None:
    here, foretold = lab("isolation"), predictions("isolation")
    inside = set(here.host.frames.values())
    expected = {
        (descriptor.at, bit)
        for (descriptor, bit), said in foretold.items()
        if not said.reached.keys() <= inside
    }
    restore(here.vmm, here.start)
    prepared = prepare(read_campaign(find_campaign("stage2_flips")))
    experiments, runner = plan_campaign(prepared).experiments, prepared.runner()
    flipped, escapes = set(), set()
    for experiment in experiments:
        fault: Any = experiment.faults[0].fault
        flip = (descriptor_at(here.word, here.controls, fault.address, fault.level), fault.bit)
        row = runner.run(experiment)
        assert row.status == "injected, injected"
        flipped.add(flip)
        if row.outcome == Outcome.ESCAPE.value:
            escapes.add(flip)
    assert flipped == {(descriptor.at, bit) for descriptor, bit in foretold}
    assert escapes == expected


@pytest.mark.parametrize("guest", GUESTS)
def test_bits_that_mean_nothing_have_no_effect(guest: str) -> None:
    nothing = predictions(guest)[lab(guest).descriptors[0], 63]
    for (descriptor, bit), said in predictions(guest).items():
        effect = field_of(descriptor.word, descriptor.level, bit).effect
        if effect in {Effect.NOTHING, Effect.ATTRIBUTE}:
            assert (said.events, said.reached, said.end) == (
                nothing.events,
                nothing.reached,
                model.AS_EVER,
            )


@pytest.mark.parametrize("guest", GUESTS)
def test_there_is_a_flip_for_every_way_to_end(guest: str) -> None:
    ends = Counter(said.end for said in predictions(guest).values())
    assert ends.keys() >= {model.AS_EVER, model.GIVEN_UP, model.WALKS_FOR_EVER, model.ABORTED}
    assert any(end.startswith(model.WRONG_WORD) for end in ends)


def test_pages_and_blocks_and_tables_of_each_level_are_live() -> None:
    kinds = Counter((found.level, found.word & 3) for found in lab("isolation").descriptors)
    assert kinds == {(1, 3): 1, (2, 3): 2, (2, 1): 2, (3, 3): 8}


def test_a_guest_that_ends_as_ever_may_have_left_its_memory() -> None:
    inside = set(lab("isolation").host.frames.values())
    silent = [
        key
        for key, said in predictions("isolation").items()
        if said.end == model.AS_EVER and not said.reached.keys() <= inside
    ]
    assert silent
