"""What becomes of a value in a snapshot, by its type."""

from __future__ import annotations

import dataclasses
import re
import types
import weakref
from array import array
from collections import deque
from enum import Enum, auto
from functools import partial
from pathlib import PurePath
from random import Random
from typing import Final

from emu.memory import PhysicalMemory
from emu.state import Stateful
from lab.errors import UserError


class SnapshotError(UserError):
    """A snapshot cannot be taken, restored, written or read."""


class Kind(Enum):
    """How the contents of a value are read and put back."""

    LEAF = auto()
    """It never changes and refers to nothing that does."""
    TUPLE = auto()
    """It never changes, as those that follow; what it refers to may."""
    FROZENSET = auto()
    FROZEN = auto()
    """A frozen dataclass."""
    FUNCTION = auto()
    COMPILED = auto()
    """A function inside another one, or what it uses of that one, in a compiled module."""
    METHOD = auto()
    PARTIAL = auto()
    OBJECT = auto()
    """It has attributes. From here on all can change."""
    DICT = auto()
    LIST = auto()
    DEQUE = auto()
    SET = auto()
    BYTES = auto()
    """A bytearray or an array of numbers."""
    CELL = auto()
    """A variable of a function that another function uses."""
    RANDOM = auto()
    STATEFUL = auto()
    """It saves itself: :class:`emu.state.Stateful`."""
    MEMORY = auto()
    OPAQUE = auto()
    """Not known."""

    # Enum's own hash is Python code, and kinds are looked up for each value.
    __hash__ = object.__hash__


IMMUTABLE: Final = frozenset(
    {
        Kind.TUPLE,
        Kind.FROZENSET,
        Kind.FROZEN,
        Kind.FUNCTION,
        Kind.COMPILED,
        Kind.METHOD,
        Kind.PARTIAL,
    }
)

_LEAVES: Final = (
    int,
    str,
    bytes,
    float,
    complex,
    type(None),
    type(...),
    type(NotImplemented),
    Enum,
    type,
    range,
    slice,
    PurePath,
    re.Pattern,
    types.ModuleType,
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.MethodDescriptorType,
    types.CodeType,
    property,
    weakref.ref,
)
_KINDS: Final[tuple[tuple[type, Kind], ...]] = (
    (tuple, Kind.TUPLE),
    (frozenset, Kind.FROZENSET),
    (types.FunctionType, Kind.FUNCTION),
    (types.MethodType, Kind.METHOD),
    (partial, Kind.PARTIAL),
    (dict, Kind.DICT),
    (list, Kind.LIST),
    (deque, Kind.DEQUE),
    (set, Kind.SET),
    (bytearray, Kind.BYTES),
    (array, Kind.BYTES),
    (types.CellType, Kind.CELL),
    (Random, Kind.RANDOM),
    (PhysicalMemory, Kind.MEMORY),
)
_HEAP_TYPE: Final = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: a class that a class statement made, not one written in C."""

_of: dict[type, Kind] = {}
LEAVES: Final[set[type]] = set()
"""Types that :func:`kind_of` has found to be leaves: to look here is quicker."""


def kind_of(cls: type) -> Kind:
    """Return how values of a type are treated."""
    kind = _of.get(cls)
    if kind is None:
        kind = _of[cls] = _classify(cls)
        if kind is Kind.LEAF:
            LEAVES.add(cls)
    return kind


def _classify(cls: type) -> Kind:
    if issubclass(cls, _LEAVES):
        return Kind.LEAF
    for base, kind in _KINDS:
        if issubclass(cls, base):
            return kind
    if issubclass(cls, Stateful):
        return Kind.STATEFUL
    if _is_compiled_function(cls):
        return Kind.COMPILED
    if dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # not in typeshed
        return Kind.FROZEN
    return Kind.OBJECT if _is_python(cls) else Kind.OPAQUE


def _is_compiled_function(cls: type) -> bool:
    """Whether mypyc has made this class for functions that are made while others run.

    Their variables are set once: the build refuses modules in which they could change.
    """
    return "__internal_mypyc_setup" in vars(cls) and "__mypyc_attrs__" not in vars(cls)


def _is_python(cls: type) -> bool:
    """Whether no base class is written in C, and could have contents of its own."""
    return all(
        base is object
        or "__slots__" in vars(base)
        or "__mypyc_attrs__" in vars(base)
        or (base.__dictoffset__ and base.__flags__ & _HEAP_TYPE)
        for base in cls.__mro__
    )


_declared: dict[type, tuple[list[str], list[str]]] = {}


def declared(cls: type) -> tuple[list[str], list[str]]:
    """Return what a class and its bases list as NOT_STATE and NOT_COMPARED: :mod:`emu.state`."""
    found = _declared.get(cls)
    if found is None:
        found = _declared[cls] = (_listed(cls, "NOT_STATE"), _listed(cls, "NOT_COMPARED"))
    return found


def _listed(cls: type, name: str) -> list[str]:
    lists = (vars(base).get(name, ()) for base in cls.__mro__)
    return sorted({attribute for names in lists for attribute in names})
