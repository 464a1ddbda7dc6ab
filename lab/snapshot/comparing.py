"""Where a machine differs from a snapshot of it.

Both start at the same object and are followed in step. Objects need not be the same ones, since
two runs make different ones; they need to be of one type, hold equal contents, and refer to each
other in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from lab.snapshot.attributes import MISSING
from lab.snapshot.graph import Entry, getter, parts, path_of
from lab.snapshot.kinds import IMMUTABLE, Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.snapshot.graph import Place

_LONGEST: Final = 100
"""Characters that are shown of a value."""


def described(value: object) -> str:
    """Return a value as people are to see it."""
    if isinstance(value, bool) or not isinstance(value, int):
        text = repr(value) if value is not MISSING else "nothing"
    else:
        text = f"{int(value):#x}" if abs(value) > 9 else str(int(value))  # one digit
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


class _Differs(Exception):  # noqa: N818  # no error
    """Raised where the first difference is."""

    def __init__(self, entry: Entry | None, way: Any, saved: object, now: object) -> None:  # noqa: ANN401  # see Place
        super().__init__()
        self.place: Place = (entry, way)
        self.saved, self.now = saved, now


class Comparison:
    """A comparison of what a machine is with what it was.

    Parameters
    ----------
    steps
        What it was, as :func:`steps` returns it.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._others: dict[int, object] = {}
        self._taken: dict[int, object] = {}
        self._at: Entry | None = None

    def first_difference(self) -> str | None:
        """Return the first difference in words; None if there is none."""
        others = self._others
        try:
            for compare, entry, what in self._steps:
                self._at = entry
                compare(self, what, others.get(id(entry.object), entry.object))
        except _Differs as differs:
            path = path_of(differs.place)
            return f"{path} was {described(differs.saved)}, is {described(differs.now)}"
        return None

    def _same(self, saved: Any, now: Any, way: Any) -> None:  # noqa: ANN401  # any values
        """Go on if two values are equal as far as can be seen; note objects to be compared."""
        if saved is now and id(saved) not in self._others:
            kind = kind_of(type(saved))
            if kind is not Kind.LEAF and kind not in IMMUTABLE:
                self._pair(saved, now, way)
            return
        kind = kind_of(type(saved))
        if kind is Kind.LEAF:
            if saved != now:
                raise _Differs(self._at, way, saved, now)
        elif type(saved) is not type(now):
            raise _Differs(self._at, way, saved, now)
        elif kind is Kind.FROZENSET:
            if saved != now:
                raise _Differs(self._at, way, saved, now)
        elif kind in IMMUTABLE:
            if kind is Kind.TUPLE and len(saved) != len(now):
                raise _Differs(self._at, way, saved, now)
            if kind is Kind.FUNCTION and saved.__code__ is not now.__code__:
                raise _Differs(self._at, way, saved, now)
            both = zip(parts(saved, kind), parts(now, kind), strict=True)
            for (step, one), (_step, other) in both:
                self._same(one, other, (way, step))
        else:
            self._pair(saved, now, way)

    def _pair(self, saved: object, now: object, way: Any) -> None:  # noqa: ANN401  # see Place
        """Note that ``now`` stands where ``saved`` stood."""
        known = self._others.setdefault(id(saved), now)
        if known is not now or self._taken.setdefault(id(now), saved) is not saved:
            raise _Differs(self._at, way, saved, now)

    def _all_same(self, saved: Any, now: Any, step: Callable[[int], Any]) -> None:  # noqa: ANN401  # sequences
        """Compare sequences of values."""
        if len(saved) != len(now):
            raise _Differs(self._at, "", saved, now)
        for index, (one, other) in enumerate(zip(saved, now, strict=True)):
            if one is not other or type(one) not in _QUICK:
                self._same(one, other, ("", step(index)))

    def _objects(self, split: _Split, now: Any) -> None:  # noqa: ANN401  # any object
        try:
            if split.get_leaves(now) == split.leaves:
                others, taken = self._others, self._taken
                for (name, one, can_change), other in zip(
                    split.references, split.get_references(now), strict=True
                ):
                    if one is not other:
                        self._same(one, other, ("", ("attribute", name)))
                    elif can_change and (
                        others.setdefault(id(one), one) is not one
                        or taken.setdefault(id(one), one) is not one
                    ):
                        raise _Differs(self._at, ("", ("attribute", name)), one, others[id(one)])
                return
        except AttributeError:
            pass  # one is missing
        entry = split.entry
        current = tuple(getattr(now, name, MISSING) for name in entry.names)
        self._all_same(entry.contents, current, lambda index: ("attribute", entry.names[index]))

    def _dicts(self, entry: Entry, now: Any) -> None:  # noqa: ANN401  # a dict
        saved = entry.contents
        keys, others = list(saved), list(now)
        if entry.is_plain and keys == others and saved == now:
            return
        if keys != others:
            for one, other in zip(keys, others, strict=False):
                if one != other:
                    raise _Differs(entry, ".keys()", one, other)
            raise _Differs(entry, ".keys()", *_beyond(keys, others))
        self._all_same(
            list(saved.values()), list(now.values()), lambda index: ("item", keys[index])
        )

    def _lists(self, entry: Entry, now: Any) -> None:  # noqa: ANN401  # a sequence
        saved = entry.contents
        if entry.is_plain and saved == list(now):
            return
        self._all_same(saved, now, lambda index: ("item", index))

    def _equal(self, entry: Entry, now: Any) -> None:  # noqa: ANN401  # any object
        current = _CURRENT[entry.kind](now)
        if entry.contents != current:
            raise _Differs(entry, "", entry.contents, current)

    def _cells(self, entry: Entry, now: Any) -> None:  # noqa: ANN401  # a cell
        self._same(entry.contents, now.cell_contents, ".cell_contents")

    def _stateful(self, entry: Entry, now: Any) -> None:  # noqa: ANN401  # Stateful
        saved, current = essence(now, entry.contents), essence(now, now.save_state())
        if saved != current:
            raise _Differs(entry, "", saved, current)


class _Split:
    """An object's attributes: those that can be compared at once, and references.

    Attributes
    ----------
    entry
        The object.
    leaves, get_leaves
        Values that never change, and what returns those of now.
    references, get_references
        Names, other values, and whether those can change; and what returns those of now.
    """

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        both = list(zip(entry.names, entry.contents, strict=True))
        kinds = {name: kind_of(type(value)) for name, value in both}
        self.leaves = tuple(value for name, value in both if kinds[name] is Kind.LEAF)
        names = tuple(name for name in entry.names if kinds[name] is Kind.LEAF)
        self.get_leaves = getter(names)
        self.references = [
            (name, value, kinds[name] not in IMMUTABLE)
            for name, value in both
            if kinds[name] is not Kind.LEAF
        ]
        self.get_references = getter(tuple(name for name, _value, _kind in self.references))


def essence(obj: Any, state: Any) -> Any:  # noqa: ANN401  # Stateful and its state
    """Return what matters of a state that an object has saved."""
    reduce = getattr(obj, "essence", None)
    return state if reduce is None else reduce(state)


def _beyond(saved: list[Any], now: list[Any]) -> Iterator[Any]:
    """Yield the first element that one of two lists has and the other, shorter one has not."""
    at = min(len(saved), len(now))
    for values in (saved, now):
        yield values[at] if at < len(values) else MISSING


_QUICK: Final = frozenset({int, str, bytes, float, bool, type(None)})
_CURRENT: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.SET: set,
    Kind.BYTES: bytes,
    Kind.RANDOM: lambda now: now.getstate(),
}
_Compare = Callable[[Comparison, Any, Any], None]
Step = tuple[_Compare, Entry, "Entry | _Split"]
"""What compares an object, the object, and how it was."""

_COMPARE: Final[dict[Kind, _Compare]] = {
    Kind.OBJECT: Comparison._objects,  # noqa: SLF001  # the table of this class
    Kind.DICT: Comparison._dicts,  # noqa: SLF001
    Kind.LIST: Comparison._lists,  # noqa: SLF001
    Kind.DEQUE: Comparison._lists,  # noqa: SLF001
    Kind.SET: Comparison._equal,  # noqa: SLF001
    Kind.BYTES: Comparison._equal,  # noqa: SLF001
    Kind.RANDOM: Comparison._equal,  # noqa: SLF001
    Kind.CELL: Comparison._cells,  # noqa: SLF001
    Kind.STATEFUL: Comparison._stateful,  # noqa: SLF001
}


def steps(entries: Sequence[Entry]) -> list[Step]:
    """Return the steps of a comparison with entries, in the order in which they were found."""
    return [
        (_COMPARE[entry.kind], entry, _Split(entry) if entry.kind is Kind.OBJECT else entry)
        for entry in entries
        if entry.kind in _COMPARE
    ]
