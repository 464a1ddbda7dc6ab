"""All that can change in a machine and in what runs on it, found from one object on.

Whatever that object refers to, directly or not, is visited once, breadth first, in an order that
depends on the contents alone. Of each object that can change, the contents are noted as they are:
references are kept, not followed into copies. So objects stay themselves when they are restored.
"""

from __future__ import annotations

import dataclasses
import gc
from collections import deque
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from emu.cpu.pe import ProcessingElement
from lab.snapshot.attributes import attributes, measure, references
from lab.snapshot.kinds import IMMUTABLE, LEAVES, Kind, SnapshotError, declared, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emu.memory import PhysicalMemory


class Entry:
    """One object that can change.

    Attributes
    ----------
    object, kind
        The object.
    contents
        What it held: of attributes the values, of collections an equal one, of others their
        state.
    names, get
        Of attributes: their names, and what returns all of them.
    measure, size
        Of attributes: how one can see that there are more or fewer, and what that was.
    is_plain
        Whether it refers to nothing that can change.
    place
        Where it was found first: the entry that refers to it, and how.
    """

    __slots__ = (
        "contents",
        "get",
        "is_plain",
        "kind",
        "measure",
        "names",
        "object",
        "place",
        "size",
    )

    def __init__(self, obj: Any, kind: Kind, place: Place) -> None:  # noqa: ANN401  # any object
        self.object = obj
        self.kind = kind
        self.place = place
        self.contents: Any = None
        self.names: tuple[str, ...] = ()
        self.is_plain = False
        self.measure: Callable[[object], int] = references
        self.size: int | None = None
        self.get: Callable[[Any], Any] = tuple

    def path(self) -> str:
        """Return how it is reached, in Python's words."""
        return path_of(self.place)


Place = tuple[Entry | None, Any]
"""An entry, and the way from it: a text, or a shorter way and one step more."""


def path_of(place: Place) -> str:
    """Return how a place is reached."""
    steps: list[str] = []
    entry: Entry | None
    entry, way = place
    while True:
        steps.append(_way(way))
        if entry is None:
            return "".join(reversed(steps))
        entry, way = entry.place


def _way(way: Any) -> str:  # noqa: ANN401  # see Place
    if isinstance(way, tuple):
        before, (sort, step) = way
        return _way(before) + (f".{step}" if sort == "attribute" else f"[{step!r}]")
    return str(way)


_NOTHING: Final = ""
_OF_FUNCTION: Final = ("__closure__", "__defaults__", "__kwdefaults__")


class Graph:
    """What can change, from ``root`` on.

    Parameters
    ----------
    root
        The object.
    name
        What it is called in paths.

    Attributes
    ----------
    entries
        The objects that matter when two states are compared, the root first.
    others
        Those that are only restored.
    memories, pes
        The physical memories among them, and the processing elements.

    Raises
    ------
    SnapshotError
        If something is met of which nobody has said how it is restored.
    """

    def __init__(self, root: object, name: str) -> None:
        self.entries: list[Entry] = []
        self.others: list[Entry] = []
        self.memories: list[PhysicalMemory] = []
        self.pes: list[ProcessingElement] = []
        self._seen: dict[int, object] = {}
        self._queue: deque[Entry] = deque()
        self._aside: list[tuple[Entry, dict[str, Any]]] = []
        self._visit(root, (None, name))
        self._go_on(self.entries)
        for owner, found in self._aside:
            entry = Entry(owner.object, Kind.OBJECT, owner.place)
            set_attributes(entry, found)
            self.others.append(entry)
            self._visit_all(found, entry)
        self._go_on(self.others)

    def _go_on(self, entries: list[Entry]) -> None:
        while self._queue:
            entry = self._queue.popleft()
            entries.append(entry)
            _READ[entry.kind](self, entry)

    def _visit(self, value: Any, place: Place) -> None:  # noqa: ANN401  # any object
        kind = kind_of(type(value))
        if kind is Kind.LEAF or id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if kind in IMMUTABLE:
            for way, part in parts(value, kind):
                if type(part) not in LEAVES and kind_of(type(part)) is not Kind.LEAF:
                    self._visit(part, (place[0], (place[1], way)))
        elif kind is Kind.OPAQUE:
            raise SnapshotError(
                f"{path_of(place)} is a {type(value).__qualname__}, which a snapshot cannot take; "
                "name it in NOT_STATE of its class if it is no state"
            )
        else:
            self._queue.append(Entry(value, kind, place))

    def _visit_all(self, found: dict[str, Any], entry: Entry) -> None:
        entry.is_plain = True
        for name, value in found.items():
            if type(value) not in LEAVES and kind_of(type(value)) is not Kind.LEAF:
                entry.is_plain = False
                self._visit(value, (entry, (_NOTHING, ("attribute", name))))

    # What the contents of each kind are

    def _read_object(self, entry: Entry) -> None:
        obj = entry.object
        cls = type(obj)
        if isinstance(obj, ProcessingElement):
            self.pes.append(obj)
        found = attributes(obj)
        entry.measure = measure(obj, found)
        entry.size = entry.measure(obj)
        not_state, not_compared = declared(cls)
        for name in not_state:
            found.pop(name, None)
        aside = {name: found.pop(name) for name in not_compared if name in found}
        if aside:
            self._aside.append((entry, aside))
        set_attributes(entry, found)
        self._visit_all(found, entry)

    def _read_dict(self, entry: Entry) -> None:
        contents = entry.contents = dict(entry.object)
        self._visit_items(contents.items(), entry)
        for key in contents:
            if kind_of(type(key)) is not Kind.LEAF:
                self._visit(key, (entry, (_NOTHING, ("key", key))))

    def _read_list(self, entry: Entry) -> None:
        contents = entry.contents = list(entry.object)
        self._visit_items(enumerate(contents), entry)

    def _read_set(self, entry: Entry) -> None:
        contents = entry.contents = set(entry.object)
        for value in contents:
            if kind_of(type(value)) is not Kind.LEAF:
                self._visit(value, (entry, (_NOTHING, ("member", value))))

    def _visit_items(self, items: Any, entry: Entry) -> None:  # noqa: ANN401  # of a mapping or a sequence
        entry.is_plain = True
        for key, value in items:
            if type(value) not in LEAVES and kind_of(type(value)) is not Kind.LEAF:
                entry.is_plain = False
                self._visit(value, (entry, (_NOTHING, ("item", key))))

    def _read_bytes(self, entry: Entry) -> None:
        entry.contents = bytes(entry.object)

    def _read_cell(self, entry: Entry) -> None:
        entry.contents = entry.object.cell_contents
        self._visit(entry.contents, (entry, (_NOTHING, ("attribute", "cell_contents"))))

    def _read_random(self, entry: Entry) -> None:
        entry.contents = entry.object.getstate()

    def _read_stateful(self, entry: Entry) -> None:
        entry.contents = entry.object.save_state()

    def _read_memory(self, entry: Entry) -> None:
        self.memories.append(entry.object)


_READ: Final = {
    Kind.OBJECT: Graph._read_object,  # noqa: SLF001  # the table of this class
    Kind.DICT: Graph._read_dict,  # noqa: SLF001
    Kind.LIST: Graph._read_list,  # noqa: SLF001
    Kind.DEQUE: Graph._read_list,  # noqa: SLF001
    Kind.SET: Graph._read_set,  # noqa: SLF001
    Kind.BYTES: Graph._read_bytes,  # noqa: SLF001
    Kind.CELL: Graph._read_cell,  # noqa: SLF001
    Kind.RANDOM: Graph._read_random,  # noqa: SLF001
    Kind.STATEFUL: Graph._read_stateful,  # noqa: SLF001
    Kind.MEMORY: Graph._read_memory,  # noqa: SLF001
}


def set_attributes(entry: Entry, found: dict[str, Any]) -> None:
    """Note the attributes of an object."""
    entry.names = tuple(found)
    entry.contents = tuple(found.values())
    entry.get = getter(entry.names)


@cache
def getter(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """Return what returns the attributes of these names as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        return lambda obj: (getattr(obj, names[0]),)
    return lambda _obj: ()


def parts(value: Any, kind: Kind) -> Iterator[tuple[tuple[str, Any], Any]]:  # noqa: ANN401  # any object
    """Yield what an object that never changes refers to, and the way to it."""
    if kind is Kind.TUPLE:
        for index, part in enumerate(value):
            yield ("item", index), part
    elif kind is Kind.FROZENSET:
        for part in value:
            yield ("member", part), part
    elif kind is Kind.FROZEN:
        for field in dataclasses.fields(value):
            yield ("attribute", field.name), getattr(value, field.name)
    elif kind is Kind.METHOD:
        yield ("attribute", "__self__"), value.__self__
        yield ("attribute", "__func__"), value.__func__
    elif kind is Kind.PARTIAL:
        yield ("attribute", "func"), value.func
        yield ("attribute", "args"), value.args
        for name, part in value.keywords.items():
            yield ("item", name), part
    elif kind is Kind.COMPILED:
        for index, part in enumerate(gc.get_referents(value)):
            yield ("item", index), part
    else:
        for name in _OF_FUNCTION:
            yield ("attribute", name), getattr(value, name)
