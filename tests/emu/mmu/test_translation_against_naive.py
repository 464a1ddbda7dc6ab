"""The whole translation against a second, naive one, over random registers and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hypothesis import given, settings

from emu.arch.address import PA, PAGE_MASK, VA
from emu.arch.esr.fsc import FaultType
from emu.mmu.fault import Fault
from emu.mmu.mmu import Mmu
from emu.mmu.permissions import EL0, EL1, EL1_PAN, EXECUTE, READ, WRITE
from emu.mmu.regime import ControlRegisters
from tests.emu.mmu.naive import Naive, Refused
from tests.emu.mmu.world import World, worlds

if TYPE_CHECKING:
    from emu.memory import PhysicalMemory

NEEDS: Final = {"r": READ, "w": WRITE, "x": EXECUTE}
PRIVILEGES: Final = {"EL0": EL0, "EL1": EL1, "PAN": EL1_PAN}
NAMES: Final = {
    FaultType.TRANSLATION: "translation",
    FaultType.ACCESS_FLAG: "access flag",
    FaultType.ADDRESS_SIZE: "address size",
    FaultType.PERMISSION: "permission",
    FaultType.EXTERNAL_ON_WALK: "external on walk",
    FaultType.EXTERNAL: "external",
}


class Answer(NamedTuple):
    """What a translation comes to: a PA, or a fault with its IPA, and the descriptors changed."""

    result: int | tuple[str, int | None, int, int, bool]
    written: dict[int, int]


def naive_answer(world: World, need: str, privilege: str) -> Answer:
    """Translate naively, without changing memory."""
    written: dict[int, int] = {}

    def read(pa: int) -> int | None:
        return written.get(pa, world.memory.fetch_u64(PA(pa)))

    naive = Naive(world.cpu, world.registers, read, written.__setitem__)
    try:
        pa = naive.translate(world.va, need, privilege)
    except Refused as refused:
        name, level, stage, ipa, s1ptw = refused.args
        return Answer((name, level, stage, ipa, s1ptw), written)
    if not world.memory.contains(PA(pa & ~PAGE_MASK), 4096):
        return Answer(("external", None, 1, 0, False), written)
    return Answer(pa & ~PAGE_MASK, written)


def machine_answer(world: World, need: str, privilege: str) -> Answer:
    """Translate on the machine's MMU with an empty TLB, and put memory back as it was."""
    mmu = Mmu(world.memory, world.features())
    mmu.load(ControlRegisters(*world.registers))
    log = Recorder(world.memory)
    with log:
        found = mmu.translate(VA(world.va), NEEDS[need], PRIVILEGES[privilege])
    if isinstance(found, Fault):
        ipa = int(found.ipa) if found.stage == 2 else 0
        return Answer((NAMES[found.type], found.level, found.stage, ipa, found.s1ptw), log.written)
    return Answer(int(found.page), log.written)


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


EXAMPLES: Final = 5 * settings().max_examples


@settings(max_examples=EXAMPLES)
@given(worlds())
def test_every_access_comes_to_the_same(world: World) -> None:
    for need in NEEDS:
        for privilege in PRIVILEGES:
            machine = machine_answer(world, need, privilege)
            assert machine == naive_answer(world, need, privilege), (need, privilege)
