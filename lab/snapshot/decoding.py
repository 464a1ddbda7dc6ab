"""Contents of a machine from JSON values, for a machine that has been built in the same way.

Objects that this machine has at the same place are taken, others are made, without running any
code of theirs. What a file names is looked for in this project alone.
"""

from __future__ import annotations

import base64
import builtins
import dataclasses
import importlib
from collections import Counter, deque
from enum import Enum
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final

from emu.arch.registers import BY_NAME
from hyp.stats import Tally
from lab.snapshot.attributes import MISSING
from lab.snapshot.graph import Entry, parts, set_attributes
from lab.snapshot.kinds import Kind, SnapshotError, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lab.snapshot.graph import Graph

_PACKAGES: Final = ("emu", "hyp", "lab")
_COLLECTIONS: Final[dict[str, type]] = {
    f"{cls.__module__}:{cls.__qualname__}": cls
    for cls in (dict, list, set, deque, bytearray, Counter, Tally)
}
"""What can be made of Python's own types, and of kinds of them."""


class Decoder:
    """Brings the objects of a file and those of a machine together.

    Parameters
    ----------
    nodes, aside
        As :class:`~lab.snapshot.encoding.Encoder` returns them.
    graph
        The machine's objects.
    """

    def __init__(self, nodes: list[list[Any]], aside: list[list[Any]], graph: Graph) -> None:
        self._nodes = nodes
        self._aside = aside
        self._present = {id(entry.object): entry for entry in graph.entries}
        for entry in graph.others:
            self._present.setdefault(id(entry.object), entry)
        self._extra = [entry for entry in graph.others if self._is_aside(entry)]
        self._objects: list[Any] = [MISSING] * len(nodes)
        self._taken: dict[int, object] = {}
        self._queue: deque[int] = deque()
        self._pair(["r", 0], graph.entries[0].object)
        self._find_present()
        self._made = [number for number, obj in enumerate(self._objects) if obj is MISSING]
        for number in self._made:
            self._objects[number] = _new(*nodes[number][:2])

    def _is_aside(self, entry: Entry) -> bool:
        return self._present[id(entry.object)] is not entry

    # Which objects of the machine are which of the file

    def _find_present(self) -> None:
        """Follow both from the root on, breadth first."""
        self._follow()
        extra = {id(entry.object): entry for entry in self._extra}
        for number, contents in self._aside:
            entry = extra.get(id(self._objects[number]))
            if entry is not None:
                self._pair_contents(Kind.OBJECT.name, contents, entry)
        self._follow()

    def _follow(self) -> None:
        while self._queue:
            number = self._queue.popleft()
            entry = self._present[id(self._objects[number])]
            _cls, kind, contents = self._nodes[number]
            self._pair_contents(kind, contents, entry)

    def _pair_contents(self, kind: str, contents: Any, entry: Entry) -> None:  # noqa: ANN401  # JSON
        for encoded, value in _side_by_side(kind, contents, entry, self):
            self._pair(encoded, value)

    def _pair(self, encoded: Any, value: Any) -> None:  # noqa: ANN401  # JSON; any value
        """Note that a value of the machine stands where one of the file does."""
        if not isinstance(encoded, list) or value is MISSING:
            return
        if encoded[0] == "r":
            number = encoded[1]
            free = self._objects[number] is MISSING and id(value) not in self._taken
            if free and id(value) in self._present and self._may_be(number, value):
                self._objects[number] = value
                self._taken[id(value)] = value
                self._queue.append(number)
        for part, at in _parts_side_by_side(encoded, value):
            self._pair(part, at)

    def _may_be(self, number: int, value: object) -> bool:
        """Whether a value of the machine may be an object of the file: not another of its kind.

        A vCPU that is the current one in one of them need not be that in the other.
        """
        cls, kind, contents = self._nodes[number]
        if name_of_type(value) != cls:
            return False
        if kind != Kind.OBJECT.name:
            return True
        index = contents.get("index")
        if isinstance(index, int) and index != getattr(value, "index", index):
            return False
        pe = contents.get("pe")
        return not isinstance(pe, list) or self._may_be(pe[1], getattr(value, "pe", None))

    # Contents

    def entries(self) -> tuple[list[Entry], list[Entry]]:
        """Return what all objects are to hold, and further attributes of some."""
        made = set(self._made)
        entries = []
        for number, (cls, kind, contents) in enumerate(self._nodes):
            obj = self._objects[number]
            known = self._present.get(id(obj)) if number not in made else None
            if kind_of(type(obj)).name != kind:
                raise SnapshotError(f"the snapshot says that a {cls} is of the kind {kind}")
            place = known.place if known is not None else (None, f"object {number}")
            entry = Entry(obj, Kind[kind], place)
            self._fill(entry, contents, known)
            entries.append(entry)
        others = []
        extra = {id(entry.object): entry for entry in self._extra}
        for number, contents in self._aside:
            entry = Entry(self._objects[number], Kind.OBJECT, entries[number].place)
            self._fill(entry, contents, extra.get(id(entry.object)))
            others.append(entry)
        return entries, others

    def _fill(self, entry: Entry, contents: Any, known: Entry | None) -> None:  # noqa: ANN401  # JSON
        kind = entry.kind
        if kind is Kind.OBJECT:
            if known is not None and set(known.names) - contents.keys():
                missing = min(set(known.names) - contents.keys())
                raise SnapshotError(
                    f"the snapshot has no {entry.path()}.{missing}: it was written by another "
                    "version of stage2; take it again"
                )
            before = dict(zip(known.names, known.contents, strict=True)) if known else {}
            found = {
                name: self._value(value, before.get(name, MISSING), entry)
                for name, value in contents.items()
            }
            set_attributes(entry, found)
        elif kind is Kind.DICT:
            old = known.contents if known else {}
            entry.contents = {}
            for encoded, value in contents:
                key = self._value(encoded, MISSING, entry)
                entry.contents[key] = self._value(value, old.get(key, MISSING), entry)
        elif kind in {Kind.LIST, Kind.DEQUE, Kind.SET}:
            was = known.contents if known and kind is not Kind.SET else ()
            values = [
                self._value(value, was[index] if index < len(was) else MISSING, entry)
                for index, value in enumerate(contents)
            ]
            entry.contents = set(values) if kind is Kind.SET else values
        elif kind is not Kind.MEMORY:
            entry.contents = self._value(contents, known.contents if known else MISSING, entry)

    def _value(self, encoded: Any, present: Any, entry: Entry) -> Any:  # noqa: ANN401  # JSON; any value
        """Return a value; ``present`` is what the machine has in its place."""
        if not isinstance(encoded, list):
            return encoded
        sort, *rest = encoded
        if sort == "r":
            return self._objects[rest[0]]
        inner = [self._value(part, at, entry) for part, at in _parts_side_by_side(encoded, present)]
        if sort == "T":
            return tuple(inner) if rest[0] is None else tuple.__new__(_type(rest[0], tuple), inner)
        if sort == "F":
            return frozenset(inner)
        if sort == "D":
            return _frozen(_type(rest[0]), dict(zip(rest[1], inner, strict=True)))
        if sort == "m":
            return _method(inner[0], rest[1])
        if sort == "P":
            count = len(rest[1])
            keywords = dict(zip(rest[2], inner[1 + count :], strict=True))
            return partial(inner[0], *inner[1 : 1 + count], **keywords)
        if sort == "p":
            if present is MISSING or not _stands_for(present, rest[0]):
                raise SnapshotError(
                    f"{entry.path()} refers to {rest[0]}, which this machine has not; "
                    "restore the snapshot with the options it was taken with"
                )
            return present
        return _leaf(sort, rest)


def name_of_type(value: object) -> str:
    """Return the name of a value's type, with its module's."""
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _side_by_side(
    kind: str,
    contents: Any,  # noqa: ANN401  # JSON
    entry: Entry,
    decoder: Decoder,
) -> Iterator[tuple[Any, Any]]:
    """Yield encoded values beside those that stand in the same place."""
    now = entry.contents
    if kind == Kind.OBJECT.name:
        before = dict(zip(entry.names, now, strict=True))
        for name, value in contents.items():
            yield value, before.get(name, MISSING)
    elif kind == Kind.DICT.name:
        for key, value in contents:
            yield value, now.get(decoder._value(key, MISSING, entry), MISSING)  # noqa: SLF001
    elif kind in {Kind.LIST.name, Kind.DEQUE.name}:
        yield from zip(contents, now, strict=False)
    elif kind == Kind.CELL.name:
        yield contents, now


def _parts_side_by_side(encoded: list[Any], value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401  # JSON; any value
    """Yield the parts of an encoded value beside those of a value in the same place."""
    sort, *rest = encoded
    if sort in {"T", "F"}:
        inner: Sequence[Any] = rest[-1]
        theirs: Sequence[Any] = value if sort == "T" and isinstance(value, tuple) else ()
    elif sort == "D":
        inner = list(rest[1].values())
        theirs = [getattr(value, name, MISSING) for name in rest[1]]
    elif sort == "m":
        inner, theirs = [rest[0]], [getattr(value, "__self__", MISSING)]
    elif sort == "P":
        inner = [rest[0], *rest[1], *rest[2].values()]
        theirs = [part for _way, part in parts(value, Kind.PARTIAL)] if _is_partial(value) else []
        if theirs:
            theirs = [theirs[0], *value.args, *value.keywords.values()]
    elif sort == "p":
        inner, theirs = rest[1], getattr(value, "__closure__", None) or ()
    else:
        return
    for index, part in enumerate(inner):
        yield part, theirs[index] if index < len(theirs) else MISSING


def _is_partial(value: object) -> bool:
    return isinstance(value, partial)


def _type(name: str, base: type = object) -> type:
    """Return a type of this project, or one of Python's that does no harm."""
    module, _, path = name.partition(":")
    is_builtin = module == "builtins"
    found = getattr(builtins, path, None) if is_builtin else _in_project(module, path)
    if not isinstance(found, type) or not issubclass(found, base):
        raise SnapshotError(f"the snapshot names {name}, which is no such type here")
    return found


def _in_project(module: str, path: str) -> Any:  # noqa: ANN401  # anything a module holds
    if module.partition(".")[0] not in _PACKAGES:
        raise SnapshotError(f"the snapshot names {module}:{path}, which is none of its own")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found or BY_NAME.get(path)


def _leaf(sort: str, rest: list[Any]) -> Any:  # noqa: ANN401  # any leaf
    if sort == "i":
        cls: Any = _type(rest[0], int)
        return cls(rest[1]) if issubclass(cls, Enum) else int.__new__(cls, rest[1])
    if sort == "e":
        return _type(rest[0], Enum)[rest[1]]  # type: ignore[index]  # of an enumeration
    if sort == "b":
        return base64.b64decode(rest[0], validate=True)
    if sort == "R":
        return range(*rest)
    if sort == "t":
        return _type(rest[0])
    if sort == "f":
        found = _in_project(*rest[0].split(":", 1))
        if not isinstance(found, FunctionType):
            raise SnapshotError(f"the snapshot names {rest[0]}, which is no function here")
        return found
    raise SnapshotError(f"the snapshot holds a value of the unknown sort {sort!r}")


def _frozen(cls: type, fields: dict[str, Any]) -> object:
    if kind_of(cls) is not Kind.FROZEN:
        raise SnapshotError(f"the snapshot names {cls.__qualname__}, which is no dataclass here")
    made: Any = object.__new__(cls)
    for field in dataclasses.fields(made):
        object.__setattr__(made, field.name, fields[field.name])
    return made


def _method(owner: object, name: str) -> object:
    found = getattr(type(owner), name, None)
    if not isinstance(found, FunctionType):
        raise SnapshotError(f"the snapshot names {name_of_type(owner)}.{name}, which is no method")
    return MethodType(found, owner)


def _stands_for(value: Any, name: str) -> bool:  # noqa: ANN401  # any value
    """Whether what the machine has is what the file says was there."""
    of = value if isinstance(value, FunctionType) else type(value)
    return name == f"{of.__module__}:{of.__qualname__}"


def _new(name: str, kind: str) -> object:
    """Return an object without contents."""
    if kind == Kind.CELL.name:
        return CellType()
    if name in _COLLECTIONS:
        return _COLLECTIONS[name]()
    cls: Any = _type(name)
    if kind_of(cls) is not Kind.OBJECT or kind != Kind.OBJECT.name:
        raise SnapshotError(
            f"the snapshot holds a {cls.__qualname__} where this machine has none; "
            "restore it with the options it was taken with"
        )
    return cls.__new__(cls)
