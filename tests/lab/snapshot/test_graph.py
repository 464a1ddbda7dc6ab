"""What a snapshot finds, what it refuses, and what it leaves alone."""

from __future__ import annotations

import random
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pytest

from emu.machine import Machine
from lab.snapshot import SnapshotError, digest, first_difference, restore, take
from lab.snapshot.attributes import attributes
from lab.snapshot.graph import Graph
from tests.lab.snapshot.machines import Recorded

if TYPE_CHECKING:
    from collections.abc import Callable


class Slotted:
    __slots__ = ("unset", "value")

    def __init__(self) -> None:
        self.value = [1]


@dataclass(frozen=True)
class Frozen:
    inner: list[int]


@dataclass
class Plain:
    a: int = 0
    b: dict[str, int] = field(default_factory=dict)


class Root:
    """One of everything."""

    NOT_STATE = frozenset({"listener"})
    NOT_COMPARED = frozenset({"hits"})

    def __init__(self) -> None:
        self.machine = Machine(1 << 20)
        self.number, self.text = 1, "a"
        self.list = [1, [2]]
        self.dict: dict[Any, Any] = {"x": {}, 3: (4, [5])}
        self.counter = Counter("aab")
        self.deque = deque([1, 2], maxlen=5)
        self.set = {1, 2}
        self.bytes = bytearray(b"abc")
        self.array = array("I", [1, 2])
        self.random = random.Random(1)  # noqa: S311  # repeatable
        self.slotted = Slotted()
        self.frozen = Frozen([1])
        self.plain = Plain()
        self.partial = partial(self.change, [7])
        self.count = self._counted()
        self.listener: Any = None
        self.hits = [0]

    @staticmethod
    def _counted() -> Callable[[], int]:
        calls = 0

        def count() -> int:
            nonlocal calls
            calls += 1
            return calls

        return count

    def change(self, inner: list[int]) -> None:
        """Change all that can change."""
        self.number, self.text = 2, "b"
        self.list[1] = 9
        self.list.append(3)
        self.dict["x"]["y"] = 1
        self.dict[3][1].append(6)
        del self.dict["x"]
        self.counter["a"] += 5
        self.deque.append(3)
        self.set.add(3)
        self.bytes += b"d"
        self.array[0] = 8
        self.random.random()
        self.slotted.value.append(2)
        self.frozen.inner.append(2)
        self.plain.a, self.plain.b = 5, {"z": 1}
        inner.append(8)
        self.count()
        self.machine.pes[0].write_x(3, 77)
        self.machine.memory.write_u64(self.machine.memory.base, 5)
        self.hits[0] += 1


def seen(root: Root) -> list[Any]:
    return [
        root.number,
        root.text,
        root.list,
        {key: value for key, value in root.dict.items() if key == "x" or value},
        root.counter,
        list(root.deque),
        root.set,
        bytes(root.bytes),
        list(root.array),
        root.random.getstate(),
        root.slotted.value,
        root.frozen.inner,
        root.plain.a,
        root.plain.b,
        root.partial.args[0],
        root.hits[0],
        root.machine.pes[0].read_x(3),
        root.machine.memory.read_u64(root.machine.memory.base),
    ]


def test_everything_that_can_change_is_restored_in_place() -> None:
    import copy  # noqa: PLC0415  # of this test alone

    root = Root()
    snapshot = take(root)
    before, objects = copy.deepcopy(seen(root)), dict(vars(root))
    for _ in range(2):
        root.partial()
        assert all(one != other for one, other in zip(seen(root), before, strict=True))
        restore(root, snapshot)
        assert seen(root) == before
        assert all(vars(root)[name] is value for name, value in objects.items())
        assert root.count() == 1, "the variable of a function"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: setattr(root, "number", 12), "root.number was 1, is 0xc"),
        (lambda root: root.list[1].append(1), "root.list[1] was [2], is [2, 1]"),
        (lambda root: root.dict[3][1].pop(), "root.dict[3][1] was [5], is []"),
        (lambda root: root.dict.pop(3), "root.dict.keys() was 3, is nothing"),
        (lambda root: root.bytes.pop(), "root.bytes was b'abc', is b'ab'"),
        (lambda root: root.count(), "root.count.__closure__[0].cell_contents was 0, is 1"),
        (lambda root: setattr(root.plain, "b", []), "root.plain.b was {}, is []"),
        (lambda root: root.set.add(5), "root.set was {1, 2}, is {1, 2, 5}"),
        (lambda root: root.machine.pes[0].write_x(3, 9), "PE 0: X3 was 0x0, is 0x9"),
        (lambda root: root.machine.pes[0].write_q(4, 9), "PE 0: Q4 was 0x0, is 0x9"),
        (
            lambda root: root.machine.memory.write_u64(root.machine.memory.base + 8, 1),
            "memory at PA 0x800000008 was 0x0000000000000000, is 0x0000000000000001",
        ),
    ],
)
def test_a_difference_is_named(change: Callable[[Root], object], words: str) -> None:
    root = Root()
    snapshot, before = take(root), digest(root)
    assert first_difference(root, snapshot) is None
    change(root)
    assert first_difference(root, snapshot) == words
    assert digest(root) != before
    restore(root, snapshot)
    assert first_difference(root, snapshot) is None
    assert digest(root) == before


def test_equal_objects_that_are_others_are_equal() -> None:
    root = Root()
    snapshot = take(root)
    root.list = [1, [2]]
    root.plain = Plain()
    assert first_difference(root, snapshot) is None
    root.dict["x"] = root.plain.b
    words = first_difference(root, snapshot)
    assert words is not None, "one object now stands where two stood"


def test_what_is_declared_so_is_left_alone_or_not_compared() -> None:
    root = Root()
    snapshot = take(root)
    root.listener = listener = object()
    root.hits[0] = 7
    assert first_difference(root, snapshot) is None
    restore(root, snapshot)
    assert root.listener is listener
    assert root.hits == [0]


def test_an_attribute_that_comes_from_elsewhere_is_found() -> None:
    plain: Any = Plain()
    plain.late = 5
    assert attributes(plain) == {"a": 0, "b": {}, "late": 5}
    assert attributes(Slotted()) == {"value": [1]}


def test_attributes_that_came_later_go_again() -> None:
    root: Any = Root()
    snapshot = take(root)
    root.plain.late, root.slotted.unset, root.machine.pes[0].refill.fill = 1, 2, print
    root.late = 3
    restore(root, snapshot)
    assert attributes(root.plain) == {"a": 0, "b": {}}
    assert attributes(root.slotted) == {"value": [1]}
    assert root.machine.pes[0].refill.fill is not print
    assert not hasattr(root, "late")


class Lazy:
    def __init__(self) -> None:
        self.evaluated = 0

    @cached_property
    def answer(self) -> int:
        self.evaluated += 1
        return 42

    @property
    def other(self) -> int:
        raise AssertionError("no property is to be evaluated")


def test_no_property_is_evaluated() -> None:
    lazy = Lazy()
    assert attributes(lazy) == {"evaluated": 0}
    assert lazy.answer == 42
    assert attributes(lazy) == {"answer": 42, "evaluated": 1}


def test_what_cannot_be_restored_is_refused_with_its_path() -> None:
    root = Root()
    root.dict["x"]["deep"] = (value for value in "")
    with pytest.raises(SnapshotError, match=r"root\.dict\['x'\]\['deep'\] is a generator"):
        take(root)


def test_a_snapshot_is_of_one_machine() -> None:
    root = Root()
    snapshot = take(root)
    with pytest.raises(SnapshotError, match="of another machine"):
        restore(Root(), snapshot)
    with pytest.raises(SnapshotError, match="with one memory, not 0"):
        take(Plain())


def test_a_machine_that_runs_is_refused() -> None:
    root = Root()
    root.machine.pes[0].execution.running = True
    with pytest.raises(SnapshotError, match="PE 0 is running the guest"):
        take(root)


def test_objects_keep_their_attributes_in_themselves() -> None:
    import gc  # noqa: PLC0415  # of this test alone

    plain = Plain()
    Graph(plain, "plain")
    referred = gc.get_referents(plain)
    assert any(value is plain.b for value in referred), "else every access would be slower"


def test_images_share_the_pages_that_nobody_wrote() -> None:
    root = Root()
    memory = root.machine.memory
    for page in range(4):
        memory.write_u64(memory.base + (page << 12), page + 1)  # type: ignore[arg-type]  # an address
    first = take(root)
    memory.write_u64(memory.base, 9)
    second = take(root)
    shared = [pa for pa, page in first.memory.pages.items() if second.memory.pages[pa] is page]
    assert len(shared) == 3
    assert take(root).memory is second.memory
    memory.fill(memory.base, 0x1000)
    assert len(take(root).memory.pages) == 3, "pages of zeroes take no room"


def test_no_object_gets_attributes_after_its_constructor() -> None:
    # A snapshot would not take them away again.
    for options in (("smp_tlbi", "--pmu"), ("dirty_pattern", "--dirty-log"), ("timer_irq",)):
        guest = Recorded(*options)
        before = names(guest.vmm)
        guest.finish()
        after = names(guest.vmm)
        assert {cls: after[cls] - before[cls] for cls in before} == {cls: set() for cls in before}


def names(root: object) -> dict[type, set[str]]:
    found: dict[type, set[str]] = {}
    for entry in Graph(root, "root").entries:
        found.setdefault(type(entry.object), set()).update(entry.names)
    return found
