from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.address import PA
from lab.campaign.axis import Pieces
from lab.campaign.draw import Generator
from lab.campaign.golden import GoldenRecorder
from lab.campaign.place import place_of
from lab.campaign.space import classes_of
from lab.faults.injector import Injector
from lab.faults.models.descriptors import DescriptorFlip
from lab.faults.models.memory import MemoryFlip
from lab.faults.models.registers import RegisterFlip
from lab.faults.planned import PlannedFault
from lab.faults.triggers.retired import Retired

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.campaign.trace import Trace
    from lab.faults.fault import Fault
    from lab.vmm import Vmm

    Start = Callable[..., Vmm]
    Record = Callable[[str], tuple[Vmm, Trace]]

GUESTS = ["hello", "first_touch", "exclusive", "self_modify", "psci"]


@pytest.mark.parametrize("guest", GUESTS)
def test_a_recorded_run_ends_as_one_that_nobody_watches(
    guest: str, start: Start, record: Record
) -> None:
    plain = start(guest)
    end, length = plain.run_to_end()
    watched, trace = record(guest)
    assert end.reason.is_normal
    assert trace.length == length == watched.retired
    assert watched.console.text == plain.console.text
    assert watched.vm.stats == plain.vm.stats
    size = plain.machine.memory.size
    base = plain.machine.memory.base
    assert watched.machine.memory.view(base, size) == plain.machine.memory.view(base, size)
    for one, other in zip(watched.machine.pes, plain.machine.pes, strict=True):
        assert [one.registers.x(n) for n in range(31)] == [other.registers.x(n) for n in range(31)]
        assert one.registers.controls() == other.registers.controls()
        assert (one.mmu.hits, one.mmu.misses) == (other.mmu.hits, other.mmu.misses)


def test_the_trace_begins_where_the_guest_does(record: Record) -> None:
    vmm, trace = record("hello")
    assert trace.pcs[0] == vmm.image.entry
    assert trace.vcpus == [0]
    assert list(trace.times_of(0)) == list(range(trace.length))
    first = Pieces([range(5)])
    assert trace.times_in([range(vmm.image.entry, vmm.image.entry + 4)]).common(first)[0] == 0


def test_code_is_read_where_it_executes(record: Record) -> None:
    vmm, trace = record("hello")
    pa = trace.pa_of(vmm.image.entry)
    assert pa is not None
    assert trace.of_byte(pa)[0].time == 0
    assert trace.of_byte(pa)[0].reads


def test_a_page_that_is_touched_first_comes_during_that_instruction(record: Record) -> None:
    _, trace = record("first_touch")
    pages = [frame for frame in trace.pages.values() if frame in trace.born]
    assert pages
    for frame in pages:
        time = trace.born[frame]
        accesses = trace.of_byte(frame, appears=True)
        assert accesses[0].time == time
        assert not accesses[0].reads


def test_descriptors_are_read_by_walks_and_by_the_hypervisor(record: Record) -> None:
    vmm, trace = record("first_touch")
    touched = next(ipa for ipa, frame in trace.pages.items() if frame in trace.born) << 12
    place = trace.descriptor_of(touched, 3)
    assert place is not None
    assert vmm.machine.memory.read_u64(PA(place)) & 3 == 3
    assert any(access.reads for access in trace.of_byte(place, appears=True))
    assert trace.descriptor_of(touched, 0) is None


def test_equal_runs_have_equal_traces(start: Start, record: Record) -> None:
    _, first = record("hello")
    _, second = GoldenRecorder(start("hello")).run()
    assert first.digest() == second.digest()
    second.memory(5, 0, 8, reads=True)
    assert first.digest() != second.digest()


def come_to(start: Start, guest: str, fault: Fault, time: int) -> tuple[object, ...]:
    vmm = start(guest)
    with Injector(vmm.vm, [PlannedFault(Retired(count=time), fault)]):
        try:
            end, length = vmm.run_to_end()
        except Exception as error:  # noqa: BLE001  # the hypervisor works with what was corrupted
            return type(error), vmm.console.text
    return end.reason, vmm.console.text, length


def faults(kind: str, trace: Trace, generator: Generator) -> Fault:
    if kind == "register":
        return RegisterFlip(register=f"x{generator.below(31)}", bit=generator.below(64))
    ipas = {frame: page << 12 for page, frame in trace.pages.items()}
    if kind == "memory":
        used = [pa for pa in trace.bytes_accessed() if pa & ~0xFFF in ipas]
        pa = used[generator.below(len(used))]
        ipa = ipas[pa & ~0xFFF] | pa & 0xFFF
        return MemoryFlip(space="ipa", address=ipa, bit=generator.below(8))
    ipa = sorted(ipas.values())[generator.below(len(ipas))]
    return DescriptorFlip(
        stage=2, address=ipa, level=2 + generator.below(2), bit=generator.below(64)
    )


@pytest.mark.parametrize("kind", ["register", "memory", "descriptor"])
def test_faults_come_to_what_the_one_that_stands_for_them_does(
    kind: str, start: Start, record: Record
) -> None:
    guest = "first_touch"
    _, trace = record(guest)
    plain = start(guest)
    end, length = plain.run_to_end()
    right = end.reason, plain.console.text, length
    generator = Generator(11)
    compared = 0
    for _ in range(16):
        fault = faults(kind, trace, generator)
        place = place_of(fault, trace)
        assert place is not None
        classes = classes_of(place, Pieces([range(trace.length)]), trace)
        time = generator.below(trace.length)
        last = next((c.time for c in classes if c.time - c.weight < time <= c.time), None)
        wanted = right if last is None else come_to(start, guest, fault, last)
        assert come_to(start, guest, fault, time) == wanted, (fault, time, last)
        compared += last != time
    assert compared > 8
