"""The attributes of an object, without a look at its ``__dict__``.

CPython keeps attributes in the object itself until somebody asks for the dictionary; from then on
each access to them is slower, by a quarter in the paths that matter here. So names are collected
from the code of the class, and the garbage collector's list of what the object refers to says
whether that were all. Compiled classes list their attributes themselves.
"""

from __future__ import annotations

import dis
import gc
from collections import Counter
from functools import cached_property
from types import CodeType, FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MISSING: Final = object()


def has_dictionary(cls: type) -> bool:
    """Whether instances may have attributes in a dictionary.

    Compiled classes have a place for one if a base class is not compiled, and never use it.
    """
    return bool(cls.__dictoffset__) and "__mypyc_attrs__" not in vars(cls)


class _Class:
    """What is known of the instances of one class.

    Attributes
    ----------
    slots
        Names of attributes that every instance has a place for.
    stored
        Other names that its instances may have.
    """

    def __init__(self, cls: type) -> None:
        slots: dict[str, None] = {}
        stored: dict[str, None] = {}
        for base in reversed(cls.__mro__):
            own = vars(base)
            slots.update(dict.fromkeys(own.get("__mypyc_attrs__", ())))
            slots.update(
                (name, None) for name, at in own.items() if isinstance(at, MemberDescriptorType)
            )
            stored.update(dict.fromkeys(own.get("__annotations__", {})))
            for member in own.values():
                stored.update(dict.fromkeys(_stored_by(member)))
        self.slots = tuple(name for name in slots if name not in {"__dict__", "__weakref__"})
        self.has_dict = has_dictionary(cls)
        self._cls = cls
        self.stored = {name: None for name in stored if self.may_store(name)}

    def may_store(self, name: str) -> bool:
        """Whether an instance can have an attribute of this name in its dictionary, to be read."""
        if name in self.slots:
            return False
        for base in self._cls.__mro__:
            found = vars(base).get(name, MISSING)
            if found is not MISSING:
                return not hasattr(type(found), "__get__")
        return True


_classes: dict[type, _Class] = {}


def _stored_by(member: object) -> Iterator[str]:
    """Yield names of attributes that the code of a class's member stores."""
    if isinstance(member, property):
        for function in (member.fget, member.fset, member.fdel):
            yield from _stored_by(function)
        return
    if isinstance(member, classmethod | staticmethod):
        member = member.__func__
    elif isinstance(member, cached_property):
        member = member.func
    if isinstance(member, FunctionType):
        yield from _stored_in(member.__code__)


def _stored_in(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_ATTR":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _stored_in(constant)


def attributes(obj: object) -> dict[str, Any]:
    """Return all attributes of an instance of a Python class by name, sorted."""
    cls = type(obj)
    known = _classes.get(cls)
    if known is None:
        known = _classes[cls] = _Class(cls)
    found = {name: getattr(obj, name, MISSING) for name in known.slots}
    if known.has_dict:
        found.update((name, getattr(obj, name, MISSING)) for name in known.stored)
    found = {name: value for name, value in found.items() if value is not MISSING}
    if known.has_dict and not _are_all(obj, found):
        # Its dictionary is there already, or was written to from elsewhere.
        for name, value in vars(obj).items():
            found[name] = value
            if known.may_store(name):
                known.stored[name] = None
    return dict(sorted(found.items()))


def references(obj: object) -> int:
    """Return a number that changes when an instance gets an attribute, or loses one."""
    return len(gc.get_referents(obj))


def in_dictionary(obj: object) -> int:
    """Return the same for an instance that has its attributes in a dictionary already."""
    return len(vars(obj))


def measure(obj: object, found: dict[str, Any]) -> Callable[[object], int]:
    """Return which of the two does for an instance, whose attributes have been found."""
    has_own = references(obj) == len(found) + 1  # and its type
    return references if has_own or not has_dictionary(type(obj)) else in_dictionary


def _are_all(obj: object, found: dict[str, Any]) -> bool:
    referred = Counter(map(id, gc.get_referents(obj)))
    referred -= Counter(map(id, found.values()))
    referred -= Counter([id(type(obj))])
    return not referred
