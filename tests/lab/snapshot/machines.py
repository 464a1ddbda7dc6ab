"""Virtual machines for these tests, with a record of what happens in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from hyp.events import KvmEntry, KvmExit, KvmUserspaceExit
from hyp.exits import ExitReason
from lab.commands.run import configuration
from lab.loader import load
from lab.target import open_target
from lab.vmm import Vmm

if TYPE_CHECKING:
    from hyp.events import Event
    from lab.monitor import End


class Outcome(NamedTuple):
    """What a run came to."""

    end: End
    instructions: int
    console: str
    trace: list[str]
    """The events, but for entries and exits that only the end of a budget brings about."""


class Recorded:
    """A guest that has not started."""

    def __init__(self, guest: str, *options: str) -> None:
        self.events: list[Event] = []
        with open_target(guest) as target:
            config = configuration(target, options)
            image = load(target.image, config.memory, config.flash)
        self.vmm = Vmm(config, image, listeners=[self.events.append])

    def finish(self) -> Outcome:
        """Run it to its end."""
        del self.events[:]
        end, instructions = self.vmm.run_to_end()
        return Outcome(end, instructions, self.vmm.console.text, trace(self.events))


def trace(events: list[Event]) -> list[str]:
    """Return the events as text, without those that only the end of a budget brings about."""
    return [repr(event) for event in events if not _is_of_budget(event)]


def _is_of_budget(event: Event) -> bool:
    if isinstance(event, KvmUserspaceExit):
        return event.reason is ExitReason.INTR
    return isinstance(event, KvmEntry) or (isinstance(event, KvmExit) and event.ret == 0)
