"""Putting contents back into the objects that had them."""

from __future__ import annotations

from operator import is_not
from typing import TYPE_CHECKING, Any, Final

from lab.snapshot.attributes import MISSING, attributes
from lab.snapshot.kinds import Kind, declared
from lab.snapshot.storage import storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lab.snapshot.graph import Entry


class _Stored:
    """An object whose attributes can be seen at one look.

    Attributes
    ----------
    entry
        The object, and what it held.
    window
        What it keeps them in.
    saved
        The bytes there when it last had these contents.
    values
        The attributes that it had then, so that no other values can come to lie where they are.
    """

    __slots__ = ("entry", "saved", "values", "window")

    def __init__(self, entry: Entry, window: Any) -> None:  # noqa: ANN401  # see storage()
        self.entry = entry
        self.window = window
        self.saved = b""
        self.values: Any = ()


def _stored(objects: list[_Stored]) -> None:
    for each in [each for each in objects if each.window.raw != each.saved]:
        entry = each.entry
        _attributes(entry)
        each.values = entry.get(entry.object)
        each.saved = each.window.raw


def _objects(entries: list[Entry]) -> None:
    for entry in entries:
        _attributes(entry)


def _attributes(entry: Entry) -> None:
    obj, contents = entry.object, entry.contents
    try:
        now = entry.get(obj)
    except AttributeError:  # one has been deleted
        now = tuple(getattr(obj, name, MISSING) for name in entry.names)
    if entry.size is not None and entry.measure(obj) != entry.size:
        _take_away(entry)
    if now == contents if entry.is_plain else not any(map(is_not, now, contents)):
        return
    for name, value, current in zip(entry.names, contents, now, strict=True):
        if value is not current:
            setattr(obj, name, value)


def _take_away(entry: Entry) -> None:
    """Delete the attributes that an object has got since."""
    not_state, not_compared = declared(type(entry.object))
    for name in attributes(entry.object).keys() - {*entry.names, *not_state, *not_compared}:
        delattr(entry.object, name)


def _dicts(entries: list[Entry]) -> None:
    for entry in entries:
        now: dict[Any, Any] = entry.object
        # Those of a counter, for instance, do otherwise.
        dict.clear(now)
        dict.update(now, entry.contents)


def _lists(entries: list[Entry]) -> None:
    for entry in entries:
        entry.object[:] = entry.contents


def _collections(entries: list[Entry]) -> None:
    for entry in entries:
        entry.object.clear()
        (entry.object.extend if entry.kind is Kind.DEQUE else entry.object.update)(entry.contents)


def _bytes(entries: list[Entry]) -> None:
    for entry in entries:
        now = entry.object
        if isinstance(now, bytearray):
            now[:] = entry.contents
        else:
            del now[:]
            now.frombytes(entry.contents)


def _cells(entries: list[Entry]) -> None:
    for entry in entries:
        entry.object.cell_contents = entry.contents


def _randoms(entries: list[Entry]) -> None:
    for entry in entries:
        entry.object.setstate(entry.contents)


def _stateful(entries: list[Entry]) -> None:
    for entry in entries:
        entry.object.load_state(entry.contents)


_RESTORE: Final[dict[Kind, Callable[[list[Entry]], None]]] = {
    Kind.OBJECT: _objects,
    Kind.DICT: _dicts,
    Kind.LIST: _lists,
    Kind.DEQUE: _collections,
    Kind.SET: _collections,
    Kind.BYTES: _bytes,
    Kind.CELL: _cells,
    Kind.RANDOM: _randoms,
    Kind.STATEFUL: _stateful,
}


class Plan:
    """Contents sorted by how they are put back.

    Parameters
    ----------
    entries
        What is to be restored.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_kind: dict[Kind, list[Entry]] = {}
        self._stored: list[_Stored] = []
        for entry in entries:
            window = storage(entry.object) if entry.kind is Kind.OBJECT else None
            if window is not None:
                self._stored.append(_Stored(entry, window))
            elif entry.kind in _RESTORE:
                self._by_kind.setdefault(entry.kind, []).append(entry)

    def carry_out(self) -> None:
        """Restore everything."""
        _stored(self._stored)
        for kind, entries in self._by_kind.items():
            _RESTORE[kind](entries)
