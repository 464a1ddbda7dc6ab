"""What can happen in one step, as values, and how often each is drawn.

There is one rule with a drawn action, not a rule for each: hypothesis leaves whole rules out
of most examples, and an example without accesses shows nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from hypothesis import strategies as st

from tests.hyp.invariants.guest import Setup
from tests.hyp.invariants.model import PAGE, Kind
from tests.hyp.invariants.world import BLOCK

WINDOW: Final = 0x4000_0000 // PAGE - BLOCK
"""The first page of the slots: a boundary of 1 GiB lies in the middle of them."""
MAX_BURST: Final = 220
"""More than fit in a ring."""
HAPPENINGS: Final = (
    *(
        "swap_out",
        "swap_out",
        "migrate",
        "discard",
        "read_only",
        "any_access",
        "any_access",
        "no_access",
    ),
    *("write", "write", "collapse", "collapse", "split", "age", "age", "fork", "fork", "fail"),
)
RACES: Final = ("swap_out", "migrate", "discard", "read_only", "write", "split", "fork", "collapse")


class Access(NamedTuple):
    """A guest accesses a page; ``again`` it does so twice."""

    who: int
    vcpu: int
    kind: Kind
    pick: int
    offset: int
    again: bool


class Overtaken(NamedTuple):
    """The host changes the page of an access after it was looked up."""

    who: int
    vcpu: int
    kind: Kind
    pick: int
    what: str


class Rivals(NamedTuple):
    """Two vCPUs fault on one page at once: the second after the first has looked it up."""

    who: int
    other: int
    vcpu: int
    kind: Kind
    second: Kind
    pick: int


class Burst(NamedTuple):
    """A guest writes to many pages."""

    who: int
    vcpu: int
    pick: int
    npages: int


class Create(NamedTuple):
    """A slot is created."""

    who: int
    area: int
    aligned: bool
    first: int
    at: int
    npages: int
    readonly: bool
    logging: bool


class Delete(NamedTuple):
    """A slot is deleted, and a guest may access it meanwhile."""

    who: int
    pick: int
    during: Kind | None


class Move(NamedTuple):
    """A slot is moved."""

    who: int
    pick: int
    at: int
    during: Kind | None


class TurnLogging(NamedTuple):
    """Logging of a slot is turned on or off."""

    who: int
    pick: int
    during: Kind | None


class TakeLogs(NamedTuple):
    """The logs are taken; a guest may write between copying and clearing them."""

    who: int
    pick: int
    during: Kind | None


class Reboot(NamedTuple):
    """A VM is destroyed, and another takes its place."""

    who: int
    setup: Setup


class Host(NamedTuple):
    """Something happens to pages of the host."""

    what: str
    area: int
    pick: int
    npages: int


class VmmReads(NamedTuple):
    """The VMM reads a page."""

    area: int
    pick: int


class Supply(NamedTuple):
    """User space stops supplying pages that are missed, or starts again."""


class Begin(NamedTuple):
    """An invalidation begins; it ends after some faults."""

    area: int
    pick: int
    npages: int
    faults: int


class End(NamedTuple):
    """The invalidation ends."""


Action = (
    Access
    | Overtaken
    | Rivals
    | Burst
    | Create
    | Delete
    | Move
    | TurnLogging
    | TakeLogs
    | Reboot
    | Host
    | VmmReads
    | Supply
    | Begin
    | End
)

_OLDER: Final = [
    Setup(profile, manual)
    for profile in ("6.1", "2021", "2021-granule", "2018", "2012")
    for manual in (0, 1, 3)
]
_NEWEST: Final = [
    Setup("2026", manual, ring, chunk)
    for manual, ring in ((0, False), (1, False), (3, False), (0, True), (1, True))
    for chunk in (0, BLOCK * PAGE)
]
"""Only this one has rings, and can split blocks before they are written."""
setups = st.sampled_from(_OLDER + _NEWEST)
_who = st.integers(0, 1)
_kinds = st.sampled_from([Kind.READ, Kind.WRITE, Kind.READ, Kind.WRITE, Kind.ATOMIC, Kind.EXEC])
_during = st.none() | _kinds
_picks = st.integers(0, 119)
_offsets = st.sampled_from([0, 8, 2048, PAGE - 8])
_areas = st.sampled_from([*range(8), 5, 6, 5, 6])
"""Those of huge pages more often."""
_places = st.sampled_from([0, 1, BLOCK - 8, BLOCK, 2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK])

creations = st.builds(
    Create,
    _who,
    _areas,
    st.sampled_from([True, True, False]),
    st.sampled_from([0, 0, 1, BLOCK]),
    _places,
    st.sampled_from([4, 16, BLOCK, 2 * BLOCK]),
    st.sampled_from([False, False, False, True]),
    st.booleans(),
)
_accesses = st.builds(Access, _who, _who, _kinds, _picks, _offsets, st.booleans())

_WEIGHTS: Final = (
    (8, _accesses),
    (3, st.builds(Overtaken, _who, _who, _kinds, _picks, st.sampled_from(RACES))),
    (2, st.builds(Rivals, _who, _who, _who, _kinds, _kinds, _picks)),
    (1, st.builds(Burst, _who, _who, _picks, st.sampled_from([3, 17, MAX_BURST]))),
    (3, creations),
    (1, st.builds(Delete, _who, _picks, _during)),
    (1, st.builds(Move, _who, _picks, _places, _during)),
    (2, st.builds(TurnLogging, _who, _picks, _during)),
    (2, st.builds(TakeLogs, _who, _picks, _during)),
    (1, st.builds(Reboot, _who, setups)),
    (6, st.builds(Host, st.sampled_from(HAPPENINGS), _areas, _picks, st.integers(1, 8))),
    (1, st.builds(VmmReads, _areas, _picks)),
    (1, st.builds(Supply)),
    (1, st.builds(Begin, _areas, _picks, st.integers(1, 8), st.integers(1, 3))),
    (1, st.builds(End)),
)
actions: st.SearchStrategy[Action] = st.sampled_from(
    [strategy for weight, strategy in _WEIGHTS for _ in range(weight)]
).flatmap(lambda strategy: strategy)
