"""An experiment done here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from emu.arch.address import PAGE_SIZE
from hyp.dirty import dirty_pages
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from lab.kvm.report import Report, dirty_event
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lab.kvm.experiment import Experiment

_LOG: Final = MemoryRegionFlags.LOG_DIRTY_PAGES


def run(experiment: Experiment, profile: str) -> Report:
    """Run a guest as real KVM did, and report the same.

    Parameters
    ----------
    experiment
        The guest and its set-up.
    profile
        Which KVM to be: a name of :data:`hyp.profiles.PROFILES`.
    """
    return _Run(experiment, profile).report


class _Run:
    """User space of one run: what it does after each line that the guest prints."""

    def __init__(self, experiment: Experiment, profile: str) -> None:
        self.report = Report()
        self._setup = experiment.setup
        config = replace(experiment.config, kvm_profile=profile)
        self._vmm = Vmm(
            config,
            experiment.image,
            output=self._printed,
            listeners=[self.report.hear],
            caps=self._setup.all_caps,
        )
        self._ram = {slot.id for slot in config.all_slots if slot.mapping == config.ram}
        result = self._vmm.run(experiment.guest)
        asked = {log.slot for log in result.dirty}
        self.report.dirty = {(log.slot, page) for log in result.dirty for page in log.marked()}
        for slot in self._logged():
            if slot not in asked:
                pages = dirty_pages(self._vmm.vm.get_dirty_log(slot))
                self.report.dirty |= {(slot, page) for page in pages}

    def _printed(self, data: bytes) -> None:
        for _ in range(data.count(b"\n")):
            if self._setup.at_line.collect:
                for slot in self._logged():
                    self._collect(slot)
            if self._setup.at_line.toggle:
                self._toggle()

    def _logged(self) -> list[int]:
        """Return the slots that log now, in the order in which they were made."""
        vm = self._vmm.vm
        slots = (vm.memslots.by_id(slot.id) for slot in self._vmm.config.all_slots)
        return [slot.id for slot in slots if slot is not None and slot.flags & _LOG]

    def _toggle(self) -> None:
        vm = self._vmm.vm
        for number in sorted(self._ram):
            slot = vm.memslots.by_id(number)
            assert slot is not None, "slots stay as they were made"
            if not slot.readonly:
                vm.set_user_memory_region(
                    MemoryRegion(
                        number, slot.flags ^ _LOG, slot.base_ipa, slot.size, slot.userspace_addr
                    )
                )

    def _collect(self, number: int) -> None:
        vm = self._vmm.vm
        bitmap = vm.get_dirty_log(number)
        if self._setup.manual:
            slot = vm.memslots.by_id(number)
            assert slot is not None, "slots stay as they were made"
            vm.clear_dirty_log(number, 0, slot.size // PAGE_SIZE, bitmap)
        self.report.events += [
            dirty_event(number, first, last) for first, last in _ranges(dirty_pages(bitmap))
        ]


def _ranges(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last of pages that follow one another."""
    first = last = None
    for page in pages:
        if last is None or page != last + 1:
            if first is not None and last is not None:
                yield first, last
            first = page
        last = page
    if first is not None and last is not None:
        yield first, last
