"""What a field of a campaign can hold, by its annotation, and what that is called in a file."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Final, NamedTuple

WORDS: Final[dict[type, str]] = {
    bool: "true or false",
    int: "a number",
    float: "a number such as 0.01",
    str: "a text",
    tuple: "a list",
}
"""What a value is called."""
PLURALS: Final = {bool: "true and false", int: "numbers", float: "numbers", str: "texts"}
"""What the members of a list are called."""
_NAMES: Final = {"bool": bool, "int": int, "float": float, "str": str}


class Kinds(NamedTuple):
    """What a field can hold."""

    plain: frozenset[type]
    inner: type | None
    """What the members of a list are."""


@cache
def kinds_of(kind: type, name: str) -> Kinds:
    """Read the annotation of a field, which is text: ``int | None``, ``tuple[str, ...]``."""
    annotation = next(f.type for f in fields(kind) if f.name == name)
    plain: set[type] = set()
    inner = None
    for part in str(annotation).split("|"):
        outer, _, rest = part.strip().partition("[")
        if outer == "tuple":
            plain.add(tuple)
            inner = _NAMES[rest.split(",")[0]]
        elif outer != "None":
            # An enumeration or the like is written as its text.
            plain.add(_NAMES.get(outer, str))
    return Kinds(frozenset(plain), inner)
