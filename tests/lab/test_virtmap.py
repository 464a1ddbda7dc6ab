"""The machine map."""

from itertools import pairwise

import pytest

from emu.arch.address import IPA
from lab import virtmap
from lab.virtmap import Place


def places() -> list[Place]:
    found = [value for value in vars(virtmap).values() if isinstance(value, Place)]
    found.remove(virtmap.VIRTIO_FIRST)
    return found + [virtmap.virtio(n) for n in range(virtmap.VIRTIO_COUNT)]


def test_nothing_overlaps_and_all_is_below_ram() -> None:
    ordered = sorted(places())
    assert all(low.end <= high.base for low, high in pairwise(ordered))
    assert ordered[-1].end <= virtmap.RAM_BASE


def test_no_interrupt_is_given_twice() -> None:
    spis = [place.spi for place in places() if place.spi is not None]
    assert len(spis) == len(set(spis)) == 2 + virtmap.VIRTIO_COUNT


def test_the_last_virtio_transport_is_where_other_machines_have_it() -> None:
    assert virtmap.virtio(31) == Place(IPA(0x0A00_3E00), 0x200, spi=47)


def test_interrupts_have_the_numbers_of_the_gic() -> None:
    assert virtmap.intid(virtmap.PL011) == 33
    assert virtmap.intid(virtmap.virtio(0)) == 48


@pytest.mark.parametrize(("gic", "cpus"), [(0, 512), (2, 8), (3, 123)])
def test_a_gic_has_room_for_so_many_cpus(gic: int, cpus: int) -> None:
    assert virtmap.MAX_CPUS[gic] == cpus
