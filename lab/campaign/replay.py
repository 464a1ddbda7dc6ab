"""One run of a campaign again, beside the golden run: where they part, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from emu.arch.a64.text import disassemble
from hyp.events import KvmEntry, KvmExit, KvmUserspaceExit
from lab.campaign.runner import CampaignRunner
from lab.monitor import EndReason
from lab.sizes import format_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.address import VA
    from hyp.events import Event
    from lab.campaign.plan import Experiment
    from lab.campaign.prepare import Prepared
    from lab.campaign.row import Row
    from lab.loader.symbols import Symbols
    from lab.vmm import Vmm

STEPS: Final = 20_000
"""Instructions behind the fault that are looked at one by one."""
_CONTEXT: Final = 24
"""Characters of the console that are shown where two differ."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What a second run came to.

    Attributes
    ----------
    before, now : Row
        As stored, and as it came out now.
    story : tuple[str, ...]
        Sentences: the fault, where the run first left the golden one, and how it ended.
    """

    before: Row
    now: Row
    story: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether both runs came to the same, to the last column."""
        return self.before == self.now

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "same": self.is_same,
            "row": self.before._asdict(),
            "now": self.now._asdict(),
            "story": list(self.story),
        }


def replay(
    prepared: Prepared,
    experiment: Experiment,
    before: Row,
    listener: Callable[[Event], None] | None = None,
) -> Replay:
    """Make a run again.

    Parameters
    ----------
    prepared : Prepared
        The campaign.
    experiment : Experiment
        Of its plan.
    before : Row
        What came of it.
    listener : Callable[[Event], None] or None
        Hears the events of the run, from the snapshot at which it starts.
    """
    runner = CampaignRunner(prepared)
    now = runner.run(experiment)
    story = _Story(prepared.symbols)
    if now.injected_at is None:
        story.tell(f"No fault was injected ({now.status}): {now.change}.")
    else:
        _compare(runner, CampaignRunner(prepared), experiment, now, story, listener)
    story.tell(
        f"The run {now.end} after {now.instructions:,} instructions: {now.outcome}, {now.why}."
    )
    return Replay(before, now, tuple(story.sentences))


class _State(NamedTuple):
    """What is compared after each instruction."""

    pc: VA
    x: list[int]


class _Recorder:
    """Writes down events as text, without their time and without what stepping adds."""

    def __init__(self, heard: list[str]) -> None:
        self._heard = heard

    def __call__(self, event: Event) -> None:
        if not isinstance(event, KvmEntry | KvmExit | KvmUserspaceExit):
            self._heard.append(str(event))


class _Story:
    """Sentences about a guest whose symbols are known."""

    def __init__(self, symbols: Symbols | None) -> None:
        self.sentences: list[str] = []
        self._symbols = symbols

    def tell(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def place(self, vmm: Vmm, pc: VA) -> str:
        """Return an address with its symbol and instruction."""
        word = vmm.pe.word_at(pc)
        text = f" ({disassemble(word, pc)})" if word else ""
        name = "" if self._symbols is None else self._symbols.describe(pc)
        return f"{format_address(pc)}{f' {name}' if name != f'{pc:#x}' else ''}{text}"


def _compare(
    runner: CampaignRunner,
    golden: CampaignRunner,
    experiment: Experiment,
    row: Row,
    story: _Story,
    listener: Callable[[Event], None] | None,
) -> None:
    """Run both in step, and say where they part."""
    assert row.injected_at is not None, "there is a fault to look at"
    golden.start_before(experiment)
    runner.start_before(experiment)
    events: tuple[list[str], list[str]] = ([], [])
    vmms = runner.vmm, golden.vmm
    for vmm, heard in zip(vmms, events, strict=True):
        vmm.vm.events.subscribe(_Recorder(heard))
    if listener is not None:
        runner.vmm.vm.events.subscribe(listener)
    runner.injector.arm(experiment.faults)
    _step(vmms, row, story)
    runner.vmm.monitor.run(runner.limit)
    runner.injector.disarm()
    golden.vmm.monitor.run(runner.limit)
    _first_event(events, story)
    _first_output(runner.vmm.console.text, golden.vmm.console.text, story)


def _step(vmms: tuple[Vmm, Vmm], row: Row, story: _Story) -> None:
    """Run both one instruction at a time from the fault on, and say where they part."""
    golden = vmms[1]
    at = row.injected_at or 0
    for vmm in vmms:
        vmm.monitor.run(at)
    states = _states(vmms)
    place = story.place(golden, states[1].pc)
    story.tell(f"After {at:,} instructions, before the one at {place}, {row.change}.")
    spread = False
    changed = _different(states)
    for time in range(at + 1, at + STEPS):
        last = states
        ends = [vmm.monitor.run(time) for vmm in vmms]
        if any(end.reason is not EndReason.BUDGET for end in ends):
            return
        states = _states(vmms)
        if states[0].pc != states[1].pc:
            here, there = (story.place(v, s.pc) for v, s in zip(vmms, states, strict=True))
            story.tell(
                f"After {time:,} instructions it leaves the golden run: behind "
                f"{story.place(golden, last[1].pc)} the golden run goes to {there}, "
                f"this one to {here}."
            )
            return
        new = _different(states) - changed
        if new and not spread and time > at + 1:
            spread = True
            number = min(new)
            story.tell(
                f"After {time:,} instructions it shows in another register: "
                f"{story.place(golden, last[1].pc)} leaves {states[0].x[number]:#x} in "
                f"x{number}, in the golden run {states[1].x[number]:#x}."
            )
        changed |= new
    story.tell(f"For {STEPS:,} instructions from there on it executes the same instructions.")


def _states(vmms: tuple[Vmm, Vmm]) -> tuple[_State, _State]:
    faulty, golden = (_State(vmm.vcpu.pc, vmm.pe.read_all_x()) for vmm in vmms)
    return faulty, golden


def _different(states: tuple[_State, _State]) -> set[int]:
    """Return the general registers that differ."""
    both = zip(states[0].x, states[1].x, strict=True)
    return {number for number, (one, other) in enumerate(both) if one != other}


def _first_event(events: tuple[list[str], list[str]], story: _Story) -> None:
    """Say which event of the hypervisor is the first that differs."""
    faulty, golden = events
    for number, (one, other) in enumerate(zip(faulty, golden, strict=False)):
        if one != other:
            story.tell(f"The first event that differs is number {number}: {one}; golden: {other}.")
            return
    if len(faulty) > len(golden):
        story.tell(f"The golden run's events are over before this one: {faulty[len(golden)]}.")
    elif len(golden) > len(faulty):
        story.tell(f"It has not the golden run's event: {golden[len(faulty)]}.")


def _first_output(faulty: str, golden: str, story: _Story) -> None:
    """Say where the consoles differ."""
    if faulty == golden:
        return
    both = zip(faulty, golden, strict=False)
    length = min(len(faulty), len(golden))
    at = next((place for place, (a, b) in enumerate(both) if a != b), length)
    begin = max(0, at - _CONTEXT // 2)
    one, other = (text[begin : begin + _CONTEXT] for text in (faulty, golden))
    story.tell(f"It prints {one!r} where the golden run prints {other!r}.")
