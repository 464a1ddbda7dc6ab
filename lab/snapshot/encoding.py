"""Contents of a machine as JSON values: the same for equal states, in every process.

A value is itself if JSON has it; anything else is a list that begins with a letter:

====  ==========================================================================================
i     an integer of another type: type, number
e     a member of an enumeration: type, name
b     bytes, in base 64
R     a range: start, stop, step
t     a type: its name
T     a tuple: its type if it is none of Python's own, or null, and its elements
F     a frozenset: its elements, sorted
D     a frozen dataclass: type, fields
m     a method: the object, its name
P     a partial: function, arguments, keywords
f     a function of a module: its name
p     something that must be found at the same place: its closure's cells, if it is a function
r     an object that can change: its number
====  ==========================================================================================
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from lab.snapshot.comparing import essence
from lab.snapshot.kinds import Kind, SnapshotError, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lab.snapshot.graph import Entry

_PLAIN: Final = frozenset({bool, int, str, float, type(None)})


def name_of(thing: Any) -> str:  # noqa: ANN401  # a type or a function
    """Return the name of a type or a function, with its module's."""
    return f"{thing.__module__}:{thing.__qualname__}"


class Encoder:
    """Gives the objects of a graph numbers, and writes down what they hold.

    Parameters
    ----------
    entries
        What they held, in the order in which they were found.
    for_digest
        Leave out what does not matter when two states are compared.
    """

    def __init__(self, entries: Iterable[Entry], *, for_digest: bool = False) -> None:
        self._for_digest = for_digest
        self._numbers: dict[int, int] = {}
        self._entries: list[Entry] = []
        self._aside: list[Entry] = []
        for entry in entries:
            if id(entry.object) in self._numbers:
                self._aside.append(entry)
            else:
                self._numbers[id(entry.object)] = len(self._entries)
                self._entries.append(entry)

    def nodes(self) -> list[list[Any]]:
        """Return type, kind and contents of each object, in order."""
        return [
            [name_of(type(entry.object)), entry.kind.name, self._contents(entry)]
            for entry in self._entries
        ]

    def aside(self) -> list[list[Any]]:
        """Return the number and further attributes of objects that have some."""
        return [[self._numbers[id(entry.object)], self._contents(entry)] for entry in self._aside]

    def _contents(self, entry: Entry) -> Any:  # noqa: ANN401  # JSON
        contents, kind = entry.contents, entry.kind
        if kind is Kind.OBJECT:
            values = (self.value(value, entry) for value in contents)
            return dict(zip(entry.names, values, strict=True))
        if kind is Kind.DICT:
            return [[self.value(k, entry), self.value(v, entry)] for k, v in contents.items()]
        if kind in {Kind.LIST, Kind.DEQUE}:
            return [self.value(value, entry) for value in contents]
        if kind is Kind.SET:
            return self._sorted(contents, entry)
        if kind is Kind.STATEFUL and self._for_digest:
            return self.value(essence(entry.object, contents), entry)
        if kind is Kind.MEMORY:
            return None
        return self.value(contents, entry)

    def _sorted(self, values: Iterable[Any], entry: Entry) -> list[Any]:
        return sorted((self.value(value, entry) for value in values), key=json.dumps)

    def value(self, value: Any, entry: Entry) -> Any:  # noqa: ANN401  # any value
        """Return one value as JSON."""
        cls = type(value)
        if cls in _PLAIN:
            return value
        number = self._numbers.get(id(value))
        if number is not None:
            return ["r", number]
        kind = kind_of(cls)
        if kind is Kind.TUPLE:
            name = None if cls is tuple else name_of(cls)
            return ["T", name, [self.value(part, entry) for part in value]]
        if kind is Kind.LEAF:
            return _leaf(value)
        if kind is Kind.FROZENSET:
            return ["F", self._sorted(value, entry)]
        if kind is Kind.FROZEN:
            fields = {
                field.name: self.value(getattr(value, field.name), entry)
                for field in dataclasses.fields(value)
            }
            return ["D", name_of(cls), fields]
        if kind is Kind.METHOD:
            return ["m", self.value(value.__self__, entry), value.__func__.__name__]
        if kind is Kind.PARTIAL:
            keywords = {name: self.value(part, entry) for name, part in value.keywords.items()}
            arguments = [self.value(part, entry) for part in value.args]
            return ["P", self.value(value.func, entry), arguments, keywords]
        if kind is Kind.FUNCTION:
            return self._function(value, entry)
        raise SnapshotError(
            f"{entry.path()} refers to a {cls.__qualname__}, which cannot be written to a file"
        )

    def _function(self, function: Any, entry: Entry) -> list[Any]:  # noqa: ANN401  # a function
        if function.__closure__ is None and find(function) is function:
            return ["f", name_of(function)]
        cells = [self.value(cell, entry) for cell in function.__closure__ or ()]
        return ["p", name_of(function), cells]


def find(function: Any) -> Any:  # noqa: ANN401  # anything a module holds
    """Return what the module of a function holds by its name; None if nothing."""
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def _leaf(value: Any) -> list[Any]:  # noqa: ANN401  # any leaf
    cls = type(value)
    if isinstance(value, Enum) and value._name_ in cls.__members__:
        return ["e", name_of(cls), value._name_]
    if isinstance(value, int):
        return ["i", name_of(cls), int(value)]
    if isinstance(value, bytes):
        return ["b", base64.b64encode(value).decode()]
    if isinstance(value, range):
        return ["R", value.start, value.stop, value.step]
    if isinstance(value, type):
        return ["t", name_of(value)]
    return ["p", name_of(cls), []]
