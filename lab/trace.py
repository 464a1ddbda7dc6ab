"""Traces of the hypervisor's events: as ftrace prints them, and as JSON lines.

Both show an event at the number of instructions retired, never at a time of the
host: equal runs give equal traces, byte for byte.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from hyp.events import Event

_RESET = "\x1b[0m"
_DIM = "\x1b[2m"
_COLOURS = {
    "kvm_entry": _DIM,
    "kvm_exit": _DIM,
    "kvm_guest_fault": "\x1b[33m",
    "kvm_access_fault": "\x1b[33m",
    "kvm_mmio": "\x1b[36m",
    "kvm_mmio_nisv": "\x1b[31m",
    "kvm_hvc_arm64": "\x1b[35m",
    "kvm_userspace_exit": "\x1b[32m",
}
"""The colour of an event's line on a terminal; events not named have none."""


def event_line(event: Event) -> str:
    """Return the line that ftrace would print.

    The task is the vCPU, the time is in instructions. An event of the VM as a whole has
    no vCPU.
    """
    task, cpu = (f"vcpu-{event.vcpu}", event.vcpu) if event.vcpu >= 0 else ("vm", 0)
    return f"  {task} [{cpu:03d}] {event.time:>10}: {event.name}: {event.text()}"


class TextTrace:
    """Prints each event on a line of its own.

    Parameters
    ----------
    stream : TextIO
        Where to.
    colour : bool
        Whether the stream shows ANSI colours.
    """

    def __init__(self, stream: TextIO, *, colour: bool = False) -> None:
        self._stream, self._colour = stream, colour

    def __call__(self, event: Event) -> None:
        """Take an event."""
        line = event_line(event)
        if self._colour and event.name in _COLOURS:
            line = f"{_COLOURS[event.name]}{line}{_RESET}"
        self._stream.write(line + "\n")


class JsonTrace:
    """Writes each event as one JSON object on a line, keys in the order of the event's fields."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self._stream.write(json.dumps(event.as_dict(), separators=(",", ":")) + "\n")
