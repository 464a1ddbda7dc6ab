"""The user-space VMM: builds the machine, loads the guest, runs it, says what came of it."""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from emu.arch.address import IPA, PAGE_SIZE
from emu.machine import Machine
from hyp import one_reg
from hyp.devices.pl011 import PL011
from hyp.devices.pl031 import PL031
from hyp.icache import RULES
from hyp.vm import VM, Cap
from lab import tlbtrace, virtmap
from lab.alarm import Alarm
from lab.boot import check_page_size, plan
from lab.config import MIN_IPA_BITS
from lab.console import Console
from lab.cpu import cpu_of
from lab.dirtylog import DirtyTracker, enable_dirty_log
from lab.errors import UserError, hypervisor_refusals
from lab.gic import create_gic, interrupt_line, set_up_pmu
from lab.inputs import Inputs, Port
from lab.interrupts import Interrupt, catch_interrupt
from lab.monitor import INTERRUPTED, End, EndReason, Monitor
from lab.result import DirtyPages, MachineFacts, RunResult, TlbCounts
from lab.schedule import Schedule
from lab.sizes import format_size
from lab.slotmemory import SlotMemory
from lab.virtio import VirtioDevices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from emu.arch.features import CpuFeatures
    from emu.cpu.pe import ProcessingElement
    from hyp.event_stream import Events
    from hyp.events import Event
    from hyp.vcpu import VCPU
    from lab.config import RunConfig
    from lab.disk import Disk
    from lab.inputs import Input
    from lab.loader import Image
    from lab.slots import Slot

TABLE_SHARE = 256
"""Physical memory for translation tables: this part of what they map, and some more."""

TABLE_MINIMUM = 8 << 20

_STOPPED = {EndReason.INTERRUPTED, EndReason.LEFT}
"""Ends that nothing in the guest is to blame for."""

_EXITED = End(EndReason.EXITED, "the guest ended its run through the test device")


class Vmm:
    """One guest on one machine, from reset to its end.

    Parameters
    ----------
    config : RunConfig
        The machine and its limits.
    image : Image
        The guest.
    output : Callable[[bytes], None] or None
        Takes the console's bytes as they come.
    listeners : Iterable[Callable[[Event], None]]
        Each is called with every event of the hypervisor.
    caps : Iterable[tuple[Cap, int]]
        Capabilities of the VM to enable before it has slots, with their arguments.
    inputs : Sequence[Input]
        Who sends something to the console.
    disks : Sequence[Disk]
        The drives of the configuration, open.

    Raises
    ------
    UserError
        If the configuration is impossible, or the host has no memory for it.
    """

    NOT_STATE: ClassVar = frozenset({"_heard", "boot", "config", "image"})

    def __init__(
        self,
        config: RunConfig,
        image: Image,
        *,
        output: Callable[[bytes], None] | None = None,
        listeners: Iterable[Callable[[Event], None]] = (),
        caps: Iterable[tuple[Cap, int]] = (),
        inputs: Sequence[Input] = (),
        disks: Sequence[Disk] = (),
    ) -> None:
        config.check()
        cpu = cpu_of(config)
        if config.ipa_bits > cpu.pa_bits:
            raise UserError(
                f"--ipa-bits is {MIN_IPA_BITS} to {cpu.pa_bits} on a {cpu.name}, "
                f"not {config.ipa_bits}; choose less"
            )
        check_page_size("the guest", image, cpu)
        self.config, self.image = config, image
        transports = range(len(config.virtio_devices))
        self.boot = plan(image, config, virtio=transports, pmu=config.pmu)
        self.console = Console(output)
        self._interrupt = Interrupt()
        self._inputs, self._disks = Inputs(inputs), disks
        self._end: End | None = None
        with hypervisor_refusals():
            self.machine = _build_machine(config, cpu)
            self.vm = VM(
                self.machine, config.ipa_bits, profile=config.kvm_profile, seed=config.seed
            )
            if config.cache_rules:
                self.vm.pgt.use_cache_rules(RULES[int(config.cache_rules)])
            if config.nisv_to_user:
                self.vm.enable_cap(Cap.ARM_NISV_TO_USER)
            enable_dirty_log(self.vm, config)
            for cap, value in caps:
                self.vm.enable_cap(cap, value)
            self._memory = SlotMemory(self.vm, config)
            vcpus = [self.vm.create_vcpu(index) for index in range(config.smp)]
            create_gic(self.vm, config.gic)
            self._alarms: list[Alarm] = []
            self._add_devices()
            self._schedule = Schedule(self.vm, config.quantum, config.seed)
            self._load()
            self._dirty = DirtyTracker(
                self.vm, config, [v.dirty_ring for v in vcpus], retired=lambda: self.retired
            )
            if not config.dirty_after:
                self._dirty.start()
        self.monitor = Monitor(
            self._schedule if config.smp > 1 else vcpus[0],
            retired=lambda: self.retired,
            inject_abort=lambda: self.vcpu.set_vcpu_events(ext_dabt_pending=True),
            interrupt=self._interrupt,
            tracker=self._dirty,
            attendants=(*self._alarms, self._inputs),
            wait=self._wait,
        )
        self._heard: list[tuple[Events, Callable[[Event], None]]] = []
        for listener in listeners:
            self._hear(self.vm.events, listener)
        self._inputs.connect(
            Port(
                self.uart,
                lambda: self.retired,
                self._end_run,
                lambda: self._interrupt.requested,
            )
        )

    @property
    def vcpu(self) -> VCPU:
        """The vCPU that ran last."""
        return self._schedule.current

    @property
    def pe(self) -> ProcessingElement:
        """What it ran on."""
        return self.vcpu.pe

    @property
    def retired(self) -> int:
        """The instructions that all vCPUs have retired."""
        return self._schedule.retired

    @property
    def guest_code(self) -> int:
        """The exit code that the guest gave, 0 if it gave none."""
        codes = (self.monitor.device.exit_code, self.virtio.exit_code, self.console.status)
        return next((code for code in codes if code is not None), 0)

    @property
    def disk_digests(self) -> tuple[str, ...]:
        """A hash of what the guest has written to each disk."""
        return tuple(disk.digest() for disk in self._disks)

    def run(self, name: str) -> RunResult:
        """Run the guest until it ends, and return what came of it under the title ``name``.

        Ctrl-C ends the run, not the process: the result says so.
        """
        started = time.perf_counter()
        end, instructions = self.run_to_end()
        seconds = time.perf_counter() - started
        return self._result(name, end, instructions, seconds)

    def run_to(self, instructions: int) -> End | None:
        """Run the guest until so many instructions have retired in all, as one run would.

        Parameters
        ----------
        instructions : int
            How many; ``max_insns`` of the configuration does not count.

        Returns
        -------
        End or None
            How the guest ended, if it did before that. None if it can go on.
        """
        end = self.monitor.run(instructions)
        return None if end.reason is EndReason.BUDGET else end

    def run_to_end(self) -> tuple[End, int]:
        """Run the guest until it ends, and leave everything as it is then.

        Returns
        -------
        tuple[End, int]
            How it ended, Ctrl-C included, and the instructions it retired.
        """
        with catch_interrupt(self._interrupt, self._stop_at_next_event):
            try:
                end, instructions = self.monitor.run(self.config.max_insns), self.retired
            except _Stopped:
                end, instructions = INTERRUPTED, self.retired
        self._interrupt.requested = False
        if end.reason is EndReason.INTERRUPTED and self._end is not None:
            end = self._end
        return end, instructions

    def trace_mmu(self, listeners: Iterable[Callable[[Event], None]]) -> None:
        """Have listeners called with what KVM has no tracepoints for, too.

        That is cache maintenance, and how aborts are answered.
        """
        for stream in (self.vm.mmu_events, self.vm.pgt.cmo.events):
            for listener in listeners:
                self._hear(stream, listener)

    def _hear(self, stream: Events, listener: Callable[[Event], None]) -> None:
        stream.subscribe(listener)
        self._heard.append((stream, listener))

    def trace_tlb(self, listeners: Iterable[Callable[[Event], None]]) -> None:
        """Have listeners called with every TLB fill and every TLBI, too."""
        heard = tuple(listeners)

        def tell(event: Event) -> None:
            for listener in heard:
                listener(event)

        for pe in self.machine.pes:
            tlbtrace.listen(pe, tell)

    def _end_run(self, end: End) -> None:
        """End the run as soon as possible, in this way."""
        self._end = end
        self._interrupt.requested = True
        self._stop_at_next_event()

    def _wait(self) -> bool:
        """Let time pass to the alarm of the clock, or else ask who sends to the console."""
        for alarm in self._alarms:
            if alarm.wait():
                return True
        return self._inputs.wait()

    def _printed(self, data: bytes) -> None:
        self.console.write(data)
        self._inputs.printed(data)

    def _stop_at_next_event(self) -> None:
        """End the run where the hypervisor is next entered, however long the slice still is."""

        def stop(_event: Event) -> None:
            if self._interrupt.requested:
                raise _Stopped

        self.vm.events.subscribe(stop)

    def _result(self, name: str, end: End, instructions: int, seconds: float) -> RunResult:
        # Reading a dirty log flushes the TLB, which is not the guest's doing.
        stats = copy.deepcopy(self.vm.stats)
        harvest = self._dirty.finish()
        dirty = self._all_dirty_pages()
        result = RunResult(
            guest=name,
            end=end,
            guest_code=self.guest_code,
            console=self.console.text,
            instructions=instructions,
            stats=stats,
            tlb=TlbCounts(
                sum(pe.mmu.hits for pe in self.machine.pes),
                sum(pe.mmu.misses for pe in self.machine.pes),
                sum(pe.tlbi_count for pe in self.machine.pes),
                sum(pe.tlbi_without_hit for pe in self.machine.pes),
            ),
            dirty=dirty,
            harvest=harvest,
            unclaimed=tuple(
                (page, access, count)
                for (page, access), count in sorted(self.monitor.unclaimed.items())
            ),
            nisv=self.monitor.nisv,
            virtio=self.virtio.failures(),
            machine=MachineFacts.of(self.config, self.boot),
            unmet="" if end.reason in _STOPPED else self._inputs.unfinished(),
            host_seconds=seconds,
        )
        if end.reason.is_normal or end.reason in _STOPPED:
            return result
        from lab.autopsy import diagnose  # noqa: PLC0415  # start-up time

        # From here on the guest may run on, unheard.
        self._mute()
        return replace(result, crash=diagnose(self, end, self._again))

    def collect_dirty_pages(self) -> tuple[DirtyPages, ...]:
        """Collect the dirty logs a last time; return what they ever held."""
        self._dirty.finish()
        return self._all_dirty_pages()

    def _all_dirty_pages(self) -> tuple[DirtyPages, ...]:
        return tuple(self._dirty_pages(slot) for slot in self.config.all_slots if slot.log_dirty)

    def _dirty_pages(self, slot: Slot) -> DirtyPages:
        pages = slot.region.size // PAGE_SIZE
        return DirtyPages(slot.id, slot.region.base, pages, self._dirty.bitmap(slot.id))

    def _mute(self) -> None:
        for stream, listener in self._heard:
            stream.unsubscribe(listener)
        self.console.sink = None
        self._inputs.close()

    def _again(self) -> Vmm:
        disks = [disk.again() for disk in self._disks]
        return Vmm(self.config, self.image, inputs=self._inputs.again(), disks=disks)

    # Building

    def _add_devices(self) -> None:
        """Put the devices in process on the io bus."""
        place = virtmap.PL011
        self.uart = PL011(
            self._printed,
            interrupt_line(self.vm, place),
            self._inputs.looked if self._inputs else None,
        )
        self.vm.register_device(place.base, place.size, self.uart)
        if self.config.gic:
            place, clock = virtmap.PL031, self.machine.clock
            line = interrupt_line(self.vm, place)
            self.rtc = PL031(lambda: clock.now, self.config.rtc_base, line)
            self.vm.register_device(place.base, place.size, self.rtc)
            self._alarms.append(Alarm(self.rtc, clock, lambda: self.retired))
        self.virtio = VirtioDevices(
            self.vm, self.config, self._disks, lambda: self._end_run(_EXITED)
        )

    def _load(self) -> None:
        """Put the guest into memory, and the vCPU at its entry point: :mod:`lab.boot`."""
        for segment in self.image.segments:
            self._memory.write(segment.address, segment.data)
            # Memory is zero already, unless a slot was filled from a file.
            if self._memory.slot_of(segment.address).file is not None:
                rest = segment.memory_size - len(segment.data)
                self._memory.write(IPA(segment.address + len(segment.data)), bytes(rest))
        boot = self.boot
        for address, data in boot.loads:
            self._memory.write(address, data)
        for vcpu in self.vm.vcpus.values():
            vcpu.init(power_off=vcpu.index > 0, pmu=self.config.pmu)
            if self.config.pmu:
                set_up_pmu(vcpu)
        self.vcpu.set_one_reg(one_reg.PC, self.image.entry)
        self.vcpu.set_one_reg(one_reg.core_x(0), boot.device_tree)


class _Stopped(Exception):  # noqa: N818  # no error: the user asked for it
    """Raised in the hypervisor, between two instructions, to get out of it after Ctrl-C."""


def _build_machine(config: RunConfig, features: CpuFeatures) -> Machine:
    areas = {slot.mapping: slot.backing for slot in config.all_slots}
    memory = sum(backing.footprint(area.size) for area, backing in areas.items())
    size = memory + memory // TABLE_SHARE + TABLE_MINIMUM
    size = -(-size // PAGE_SIZE) * PAGE_SIZE
    try:
        machine = Machine(size, config.smp, features)
    except (ValueError, OSError, MemoryError, OverflowError) as error:
        raise UserError(
            f"the host has no {format_size(config.memory_size)} of memory for the guest "
            f"({error}); give less with --mem"
        ) from error
    for pe in machine.pes:
        pe.random_numbers.seed(config.seed)
    return machine
