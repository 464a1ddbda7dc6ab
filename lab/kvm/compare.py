"""Lines up two reports and shows where they part."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

from lab.kvm.known import comparable

if TYPE_CHECKING:
    from lab.kvm.report import Report


class Part(NamedTuple):
    """A stretch of events that only one side has, or that differ."""

    at: int
    """The place of the first event in KVM's sequence."""
    theirs: tuple[str, ...]
    ours: tuple[str, ...]


class Comparison(NamedTuple):
    """How two runs of one guest compare."""

    equal: int
    """Events that both have, in the same order."""
    parts: tuple[Part, ...]
    dirty_only_theirs: tuple[tuple[int, int], ...]
    dirty_only_ours: tuple[tuple[int, int], ...]
    dirty_equal: int

    @property
    def same(self) -> bool:
        """Whether there is no difference at all."""
        return not (self.parts or self.dirty_only_theirs or self.dirty_only_ours)


def compare(theirs: Report, ours: Report) -> Comparison:
    """Compare the events and the dirty pages of two runs."""
    their_events = comparable(theirs.events)
    our_events = comparable(ours.events)
    matcher = SequenceMatcher(None, their_events, our_events, autojunk=False)
    equal, parts = 0, []
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            equal += b - a
        else:
            parts.append(Part(a, tuple(their_events[a:b]), tuple(our_events[c:d])))
    return Comparison(
        equal,
        tuple(parts),
        tuple(sorted(theirs.dirty - ours.dirty)),
        tuple(sorted(ours.dirty - theirs.dirty)),
        len(theirs.dirty & ours.dirty),
    )
