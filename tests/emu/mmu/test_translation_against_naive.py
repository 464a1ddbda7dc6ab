"""The whole translation against a second, naive one, over random registers and tables."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.arch.a64.maintenance import AT
from emu.arch.address import PA, PAGE_MASK, VA
from emu.arch.esr.fsc import FaultType
from emu.mmu import fault as machine
from emu.mmu.at import address_translate
from emu.mmu.mmu import Mmu
from emu.mmu.permissions import EL0, EL1, EL1_PAN, EXECUTE, READ, WRITE
from emu.mmu.regime import ControlRegisters
from tests.emu.mmu import naive_memory
from tests.emu.mmu.naive import Fault, Naive, Refused
from tests.emu.mmu.world import World, draw_world, features_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.memory import PhysicalMemory

NEEDS: Final = {"r": READ, "w": WRITE, "x": EXECUTE}
PRIVILEGES: Final = {"EL0": EL0, "EL1": EL1, "PAN": EL1_PAN}
PRIVILEGE_CHOICES: Final = ("EL0", "EL0", "EL1", "EL1", "EL1", "PAN")
ACCESSES: Final = [(need, privilege) for need in NEEDS for privilege in PRIVILEGES]
NAMES: Final = {
    FaultType.TRANSLATION: "translation",
    FaultType.ACCESS_FLAG: "access flag",
    FaultType.ADDRESS_SIZE: "address size",
    FaultType.PERMISSION: "permission",
    FaultType.EXTERNAL_ON_WALK: "external on walk",
    FaultType.EXTERNAL: "external",
    FaultType.ALIGNMENT: "alignment",
}
OPERATIONS: Final = {
    ("r", "EL0"): AT.S12E0R,
    ("r", "EL1"): AT.S12E1R,
    ("w", "EL0"): AT.S12E0W,
    ("w", "EL1"): AT.S12E1W,
}


class Found(NamedTuple):
    """A translation that succeeded."""

    page: int
    """The PA of its 4 KiB page."""
    device: bool | None
    """Whether it is Device memory; None for a fetch, which does not ask."""


class Answer(NamedTuple):
    """What a translation comes to, and the descriptors that it changed."""

    result: object
    """:class:`Found`, a fault, or for AT a PA and a memory type."""
    written: dict[int, int]


class Access(NamedTuple):
    """What is asked."""

    need: str
    privilege: str
    unaligned: bool


def ask_naive(
    world: World, access: Access
) -> tuple[tuple[int, naive_memory.Memory] | Fault, Answer]:
    """Translate naively, without changing memory; return what it says and what the PE sees."""
    written: dict[int, int] = {}

    def read(pa: int) -> int | None:
        return written.get(pa, world.memory.fetch_u64(PA(pa)))

    naive = Naive(world.cpu, world.registers, read, written.__setitem__, access.unaligned)
    try:
        pa, memory = naive.translate(world.va, access.need, access.privilege)
    except Refused as refused:
        fault: Fault = refused.args[0]
        return fault, Answer(fault, written)
    page = pa & ~PAGE_MASK
    if not world.memory.contains(PA(page), 4096):
        return (pa, memory), Answer(Fault("external", None, 1), written)
    device = None if access.need == "x" else isinstance(memory, naive_memory.Device)
    return (pa, memory), Answer(Found(page, device), written)


def fault_of(found: machine.Fault) -> Fault:
    """Return a fault of the machine in the naive form."""
    ipa = int(found.ipa) if found.stage == 2 else 0
    return Fault(NAMES[found.type], found.level, found.stage, ipa, found.s1ptw, found.update)


def ask_machine(world: World, ask: Callable[[Mmu], object]) -> Answer:
    """Ask the machine's MMU, its TLB empty, and put memory back as it was."""
    mmu = Mmu(world.memory, features_of(world.cpu))
    mmu.load(ControlRegisters(*world.registers))
    log = Recorder(world.memory)
    with log:
        found = ask(mmu)
    return Answer(fault_of(found) if isinstance(found, machine.Fault) else found, log.written)


def machine_access(world: World, access: Access) -> Answer:
    """Translate on the machine."""

    def ask(mmu: Mmu) -> object:
        refuses = (lambda: access.unaligned) if access.need != "x" else None
        found = mmu.walk(VA(world.va), NEEDS[access.need], PRIVILEGES[access.privilege], refuses)
        if isinstance(found, machine.Fault):
            return found
        return Found(int(found.page), None if access.need == "x" else found.is_device)

    return ask_machine(world, ask)


def machine_at(world: World, operation: AT) -> Answer:
    """Execute AT on the machine."""

    def ask(mmu: Mmu) -> object:
        found = address_translate(mmu, operation, VA(world.va), pan=False)
        if isinstance(found, machine.Fault):
            return found
        return found.PA << 12, naive_memory.of_mair(found.ATTR)

    return ask_machine(world, ask)


def compare(world: World, access: Access) -> Answer:
    """Compare one access, and the AT that corresponds to it; return the answer."""
    said, answer = ask_naive(world, access)
    assert machine_access(world, access) == answer, access
    operation = OPERATIONS.get((access.need, access.privilege))
    if operation is not None and not access.unaligned:
        result = said if isinstance(said, Fault) else (said[0] & ~PAGE_MASK, said[1])
        assert machine_at(world, operation) == Answer(result, answer.written), operation
    return answer


class Recorder:
    """Records descriptor updates and takes them back."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self._memory = memory
        self.written: dict[int, int] = {}
        self._before: dict[int, int] = {}

    def __enter__(self) -> None:
        write = self._memory.write_u64

        def record(pa: PA, value: int) -> None:
            self._before.setdefault(pa, self._memory.read_u64(pa))
            self.written[pa] = value
            write(pa, value)

        self._memory.write_u64 = record  # type: ignore[method-assign]  # taken back below

    def __exit__(self, *_: object) -> None:
        del self._memory.write_u64
        for pa, value in self._before.items():
            self._memory.write_u64(PA(pa), value)


@settings(max_examples=5 * settings().max_examples)
@given(st.randoms(use_true_random=False), st.booleans())
def test_every_access_comes_to_the_same(random: Random, unaligned: bool) -> None:
    world = draw_world(random)
    for need, privilege in ACCESSES:
        compare(world, Access(need, privilege, unaligned))


BATCHES: Final = 6
SETUPS: Final = 2000 * max(1, settings().max_examples // 60)
"""Distinct two-stage set-ups in a batch."""

OUTCOMES: Final = {
    "PA": 0.05,
    "PA, descriptors updated": 0.005,
    "alignment stage 1": 0.005,
    "alignment stage 2": 0.001,
    "external stage 1": 0.005,
    **{
        f"{name} {where}": 0.005
        for name in ("translation", "access flag", "address size", "permission")
        for where in ("stage 1", "stage 2", "stage 2 on walk")
    },
    "permission stage 2 on update": 0.001,
    "external on walk stage 1": 0.005,
    "external on walk stage 2": 0.0005,
    "external on walk stage 2 on walk": 0.005,
}
"""Every kind of outcome, and the share of all accesses that it must have at least."""

START_LEVELS: Final = {12: range(-1, 3), 14: range(1, 3), 16: range(1, 4)}
"""The start levels by granule that a batch must have, in either stage."""


def outcome(answer: Answer) -> str:
    """Return the kind of an answer."""
    if isinstance(answer.result, Found):
        return "PA, descriptors updated" if answer.written else "PA"
    assert isinstance(answer.result, Fault)
    name, _, stage, _, s1ptw, update = answer.result
    return f"{name} stage {stage}" + (" on update" if update else " on walk" if s1ptw else "")


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_two_stage_setups_agree(
    batch: int, record_property: Callable[[str, object], None]
) -> None:
    outcomes: Counter[str] = Counter()
    starts: set[tuple[str, int, int]] = set()
    setups: set[tuple[object, ...]] = set()
    number = 0
    while len(setups) < SETUPS:
        number += 1
        seed = f"{batch}.{number}"
        random = Random(seed)  # noqa: S311  # repeatable, not secret
        world = draw_world(random)
        answers = []
        for need in NEEDS:
            access = Access(need, random.choice(PRIVILEGE_CHOICES), not random.randrange(4))
            try:
                answers.append(compare(world, access))
            except AssertionError as difference:
                pytest.fail(f"draw_world(Random({seed!r})), {access}:\n{difference}")
        if world.has_two_stages:
            setups.add((world.cpu, world.registers, world.va))
            outcomes.update(map(outcome, answers))
            starts |= {(stage, tree.granule, tree.start) for stage, tree in world.trees()}
    record_property("two_stage_setups", len(setups))
    record_property("outcomes", dict(outcomes))
    shares = {kind: outcomes[kind] / outcomes.total() for kind in outcomes}
    assert shares.keys() == OUTCOMES.keys()
    assert {kind: share for kind, share in shares.items() if share < OUTCOMES[kind]} == {}
    expected = {
        (stage, granule, level)
        for stage in ("stage 1", "stage 2")
        for granule, levels in START_LEVELS.items()
        for level in levels
    }
    assert expected <= starts
