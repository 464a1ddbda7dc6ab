"""A full two-stage walk with nothing cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench.guest import PAGES, Guest
from bench.programs import COUNT, TOUCH_PAGES
from bench.rows import Reference, Row, Unit
from bench.timing import best_of, clock
from emu.arch.a64.tlbi import TLBI
from emu.arch.address import PA, PAGE_SIZE, VA
from emu.mmu.fault import Fault
from emu.mmu.permissions import READ

if TYPE_CHECKING:
    from bench.timing import Scale
    from emu.memory import PhysicalMemory

WALKS: Final = 4000
GEOMETRIES: Final = {"4 levels + 3": 40, "4 levels + 4": 44}
"""Levels of stage 1 and of stage 2, and the size of the IPA space that needs the latter."""


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    return [_row(name, bits, scale) for name, bits in GEOMETRIES.items()]


def _row(name: str, ipa_bits: int, scale: Scale) -> Row:
    guest = Guest(TOUCH_PAGES, 1, ipa_bits=ipa_bits)
    guest.run({1: PAGES, 2: PAGE_SIZE, COUNT: 1})
    walks = scale.of(WALKS)
    addresses = _descriptors_of(guest)
    walk_seconds, read_seconds = best_of(
        scale.rounds,
        lambda: _walk(guest, walks),
        lambda: _read(guest.machine.memory, addresses, walks),
    )
    reads = Reference(f"its {len(addresses)} descriptor reads", read_seconds / walks * 1e6)
    return Row(f"walk, {name}", walk_seconds / walks * 1e6, Unit.MICROSECONDS, (reads,))


def _walk(guest: Guest, walks: int) -> float:
    """Time walks, each with an empty TLB."""
    mmu = guest.pe.mmu
    seconds = 0.0
    for _ in range(walks):
        guest.pe.tlbi(TLBI.ALLE1)
        started = clock()
        found = mmu.walk(VA(PAGES), READ, 1)
        seconds += clock() - started
        assert not isinstance(found, Fault)
    return seconds


def _read(memory: PhysicalMemory, addresses: list[PA], walks: int) -> float:
    """Time the reads of as many walks, and nothing else."""
    fetch = memory.fetch_u64
    started = clock()
    for _ in range(walks):
        for address in addresses:
            fetch(address)
    return clock() - started


def _descriptors_of(guest: Guest) -> list[PA]:
    """Return the addresses of the descriptors that the walk reads."""
    memory, addresses = guest.machine.memory, []
    memory.listener = lambda pa, _size, _reads: addresses.append(PA(pa))
    _walk(guest, 1)
    memory.listener = None
    return addresses
