"""Everything that a VM is, as values: equal before and after a call that changed nothing."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest

from emu.memory import PhysicalMemory
from hyp.errors import KvmError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def refusal(call: Callable[[], object], *roots: object) -> KvmError:
    """Return the refusal of a call, which has changed nothing of what objects are."""
    before = snapshot(*roots)
    with pytest.raises(KvmError) as caught:
        call()
    assert changes(before, snapshot(*roots)) == {}, "a refusal changes nothing"
    return caught.value


def changes(before: dict[str, object], after: dict[str, object]) -> dict[str, tuple[object, ...]]:
    """Return what differs, by path."""
    return {
        path: (before.get(path), after.get(path))
        for path in before | after
        if before.get(path) != after.get(path)
    }


def snapshot(*roots: object) -> dict[str, object]:
    """Return every value that can be reached from objects, public or not, by its path.

    An object that was met before is shown as the path of the first time, so that it also
    matters who shares what. Memory is shown as a digest of all of it.
    """
    found: dict[str, object] = {}
    paths: dict[int, str] = {}
    kept: list[object] = []
    todo: deque[tuple[str, object]] = deque((type(root).__name__, root) for root in roots)
    while todo:
        path, value = todo.popleft()
        if value is None or isinstance(value, int | str | bytes | float | Enum):
            found[path] = value
        elif isinstance(value, bytearray):
            found[path] = bytes(value)
        elif isinstance(value, type) or callable(value):
            found[path] = getattr(value, "__qualname__", type(value).__name__)
        elif id(value) in paths:
            found[path] = f"is {paths[id(value)]}"
        elif isinstance(value, PhysicalMemory):
            paths[id(value)] = path
            found[path] = hashlib.blake2b(value.view(value.base, value.size)).hexdigest()
        else:
            paths[id(value)] = path
            kept.append(value)
            children = list(_children(value))
            found[path] = f"{type(value).__name__} of {len(children)}"
            todo.extend((f"{path}{name}", child) for name, child in children)
    return found


def _children(value: object) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield f"[{getattr(key, '__name__', key)!r}]", item
    elif isinstance(value, set | frozenset):
        yield ".sorted", repr(sorted(value, key=repr))
    elif isinstance(value, list | tuple | deque):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    for cls in type(value).__mro__:
        for name in getattr(cls, "__slots__", ()):
            if name != "__weakref__" and hasattr(value, name):
                yield f".{name}", getattr(value, name)
    for name, item in getattr(value, "__dict__", {}).items():
        yield f".{name}", item
