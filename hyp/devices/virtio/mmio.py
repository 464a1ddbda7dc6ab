"""The virtio-mmio transport: 0x200 bytes of registers in front of a device (virtio 1.2, 4.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from hyp.devices.virtio.device import Transport
from hyp.devices.virtio.queue import Virtqueue
from hyp.devices.virtio.registers import (
    CONFIG,
    MAGIC,
    RING_FEATURES,
    RULES,
    VENDOR,
    Access,
    Feature,
    InterruptStatus,
    Register,
    Status,
    Version,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.devices.virtio.device import VirtioDevice
    from hyp.devices.virtio.queue import GuestMemory

_U32: Final = 0xFFFF_FFFF

_AREAS: Final = {
    Register.QUEUE_DESC_LOW: ("descriptors", 0),
    Register.QUEUE_DESC_HIGH: ("descriptors", 32),
    Register.QUEUE_AVAIL_LOW: ("available", 0),
    Register.QUEUE_AVAIL_HIGH: ("available", 32),
    Register.QUEUE_USED_LOW: ("used", 0),
    Register.QUEUE_USED_HIGH: ("used", 32),
}
"""What each half of an address sets of a queue, and from which bit on."""


class VirtioMmio(Transport):
    """A transport on the io bus.

    Everything happens within the access that asks for it: when a store to QUEUE_NOTIFY is
    done, so is what the driver asked of the device.

    Parameters
    ----------
    device
        What is behind it; ``None`` for a place where nothing is plugged in.
    memory
        The guest's memory, such as a :class:`hyp.vm.VM`.
    interrupt
        Called with the level of the interrupt line whenever it changes. The line is high
        while INTERRUPT_STATUS is not zero.
    version
        The interface.

    Attributes
    ----------
    status
        STATUS: how far the driver is.
    failure
        Why the device needs a reset, for people; ``None`` if it does not.
    """

    def __init__(
        self,
        device: VirtioDevice | None,
        memory: GuestMemory,
        interrupt: Callable[[bool], None] | None = None,
        *,
        version: Version = Version.LEGACY,
    ) -> None:
        self._device = device
        self._version = version
        self._interrupt = interrupt
        self.status = Status(0)
        self.failure: str | None = None
        self._interrupt_status = InterruptStatus(0)
        self._features_sel = 0
        self._driver_features_sel = 0
        self._page_size = 0
        self._queue_sel = 0
        self._generation = 0
        sizes = () if device is None else device.QUEUE_SIZES
        self._queues = tuple(Virtqueue(memory, size, self._needs_reset) for size in sizes)
        if device is not None:
            device.attach(self, self._queues)

    # --- the io bus ----------------------------------------------------------------------

    def read(self, offset: int, length: int) -> int:
        """Return a register, or part of the configuration space; 0 where nothing is."""
        if offset >= CONFIG:
            return self._read_config(offset - CONFIG, length)
        register = self._accessed(offset, length, Access.R)
        return 0 if register is None else self._READ[register](self)

    def write(self, offset: int, length: int, value: int) -> None:
        """Write a register, or the configuration space; ignored where nothing is."""
        if offset >= CONFIG:
            self._write_config(offset - CONFIG, length, value)
            return
        register = self._accessed(offset, length, Access.W)
        if register in _AREAS:
            self._write_area(register, value & _U32)
        elif register is not None:
            self._WRITE[register](self, value & _U32)

    def _accessed(self, offset: int, length: int, access: Access) -> Register | None:
        """Return the register of an access that is allowed: registers have 32 bits."""
        if length != 4 or offset not in RULES:
            return None
        register = Register(offset)
        rule = RULES[register]
        allowed = rule.access & access and self._version in rule.versions
        return register if allowed and (rule.placeholder or self._device is not None) else None

    def _read_config(self, offset: int, length: int) -> int:
        config = b"" if self._device is None else self._device.config()
        return int.from_bytes(config[offset : offset + length], "little")

    def _write_config(self, offset: int, length: int, value: int) -> None:
        if self._device is not None and offset + length <= len(self._device.config()):
            self._device.write_config(offset, value.to_bytes(length, "little"))

    # --- what devices ask for ------------------------------------------------------------

    def kick(self, index: int) -> None:
        """Have the device look at a queue, as if the driver had notified it."""
        # Legacy drivers may use queues without having said that they are ready.
        if self._version is Version.MODERN and not self.status & Status.DRIVER_OK:
            return
        if self._device is None or not self._queues[index].ready:
            return
        self._device.notify(index)
        signals = [queue.take_signal() for queue in self._queues]
        if any(signals):
            self._raise(InterruptStatus.USED_BUFFER)

    def signal_config(self) -> None:
        """Interrupt the driver: the configuration space has changed."""
        self._generation = (self._generation + 1) & _U32
        if self.status & Status.DRIVER_OK:
            self._raise(InterruptStatus.CONFIG_CHANGE)

    def _needs_reset(self, reason: str) -> None:
        """Stop until the driver resets the device (section 2.1.2)."""
        self.failure = reason
        for queue in self._queues:
            queue.broken = True
        if self._version is Version.MODERN:
            # Only with DRIVER_OK are there queues that can fail.
            self.status |= Status.DEVICE_NEEDS_RESET
            self._raise(InterruptStatus.CONFIG_CHANGE)

    def _raise(self, event: InterruptStatus) -> None:
        self._set_interrupt_status(self._interrupt_status | event)

    def _set_interrupt_status(self, status: InterruptStatus) -> None:
        changed = bool(status) != bool(self._interrupt_status)
        self._interrupt_status = status
        if changed and self._interrupt is not None:
            self._interrupt(bool(status))

    # --- registers -----------------------------------------------------------------------

    @property
    def _features(self) -> int:
        assert self._device is not None, "only a transport with a device has features"
        return self._device.features | RING_FEATURES[self._version]

    @property
    def _queue(self) -> Virtqueue | None:
        """The queue that QUEUE_SEL has chosen."""
        return self._queues[self._queue_sel] if self._queue_sel < len(self._queues) else None

    @property
    def _idle_queue(self) -> Virtqueue | None:
        """The same, if it may still be set up."""
        return None if self._queue is None or self._queue.ready else self._queue

    def _read_device_id(self) -> int:
        return 0 if self._device is None else self._device.DEVICE_ID

    def _read_features(self) -> int:
        return self._features >> 32 * self._features_sel & _U32 if self._features_sel < 2 else 0

    def _write_features_sel(self, value: int) -> None:
        self._features_sel = value

    def _write_driver_features_sel(self, value: int) -> None:
        self._driver_features_sel = value

    def _write_driver_features(self, value: int) -> None:
        if self.status & Status.FEATURES_OK or self._driver_features_sel > 1:
            return
        assert self._device is not None
        shift = 32 * self._driver_features_sel
        others = self._device.driver_features & ~(_U32 << shift)
        self._device.driver_features = others | value << shift

    def _write_page_size(self, value: int) -> None:
        if value:
            self._page_size = value & -value  # the driver's is a power of two

    def _write_queue_sel(self, value: int) -> None:
        self._queue_sel = value

    def _read_shm(self) -> int:
        return _U32  # no device has shared memory

    def _write_shm_sel(self, value: int) -> None:
        """Choose among no regions."""

    def _read_queue_num_max(self) -> int:
        return 0 if self._queue is None else self._queue.max_size

    def _write_queue_num(self, value: int) -> None:
        queue = self._idle_queue
        if queue is not None and 0 < value <= queue.max_size and not value & (value - 1):
            queue.size = value

    def _write_queue_align(self, value: int) -> None:
        queue = self._idle_queue
        if queue is not None and value and not value & (value - 1):
            queue.align = value

    def _read_queue_pfn(self) -> int:
        queue = self._queue
        if queue is None or not queue.ready:
            return 0
        return queue.descriptors // self._page_size & _U32

    def _write_queue_pfn(self, value: int) -> None:
        queue = self._queue
        if queue is None or (value and not self._page_size):
            return
        queue.place_legacy(value * self._page_size)
        self._start(queue, ready=value != 0)

    def _read_queue_ready(self) -> int:
        return 0 if self._queue is None else int(self._queue.ready)

    def _write_queue_ready(self, value: int) -> None:
        if self._queue is not None and value in {0, 1} and value != self._queue.ready:
            self._start(self._queue, ready=bool(value))

    def _start(self, queue: Virtqueue, *, ready: bool) -> None:
        assert self._device is not None
        accepted = self._device.driver_features & self._features
        queue.indirect = bool(accepted & Feature.INDIRECT_DESC)
        queue.event_idx = bool(accepted & Feature.EVENT_IDX)
        queue.start(ready=ready)

    def _write_queue_notify(self, value: int) -> None:
        if value < len(self._queues):
            self.kick(value)

    def _write_interrupt_ack(self, value: int) -> None:
        self._set_interrupt_status(self._interrupt_status & ~InterruptStatus(value & 3))

    def _write_status(self, value: int) -> None:
        assert self._device is not None
        if not value:
            self._reset()
            return
        new = Status(value & 0xFF & ~Status.DEVICE_NEEDS_RESET)
        if new & Status.FEATURES_OK and not self._accepts_features():
            new &= ~Status.FEATURES_OK
        begins = new & ~self.status & Status.DRIVER_OK
        self.status = new | self.status & Status.DEVICE_NEEDS_RESET
        if begins and self._version is Version.MODERN:
            # Chains that were there before may be used from now on.
            for index in range(len(self._queues)):
                self.kick(index)

    def _accepts_features(self) -> bool:
        """Whether the driver's choice is one that the device can work with (section 2.2.2)."""
        assert self._device is not None
        if self._version is Version.LEGACY:
            return True
        accepted = self._device.driver_features
        return bool(accepted & Feature.VERSION_1) and not accepted & ~self._features

    def _reset(self) -> None:
        """Make everything as it was, but for what legacy drivers write once: the page size."""
        assert self._device is not None
        self.status = Status(0)
        self.failure = None
        self._queue_sel = self._features_sel = self._driver_features_sel = 0
        for queue in self._queues:
            queue.reset()
        self._device.reset()
        self._set_interrupt_status(InterruptStatus(0))

    def _write_area(self, register: Register, value: int) -> None:
        queue = self._idle_queue
        if queue is not None:
            name, shift = _AREAS[register]
            other = getattr(queue, name) & ~(_U32 << shift)
            setattr(queue, name, other | value << shift)

    _READ: ClassVar[dict[Register, Callable[[VirtioMmio], int]]] = {
        Register.MAGIC_VALUE: lambda _: MAGIC,
        Register.VERSION: lambda self: self._version,
        Register.DEVICE_ID: _read_device_id,
        Register.VENDOR_ID: lambda _: VENDOR,
        Register.DEVICE_FEATURES: _read_features,
        Register.QUEUE_NUM_MAX: _read_queue_num_max,
        Register.QUEUE_PFN: _read_queue_pfn,
        Register.QUEUE_READY: _read_queue_ready,
        Register.INTERRUPT_STATUS: lambda self: self._interrupt_status,
        Register.STATUS: lambda self: self.status,
        Register.SHM_LEN_LOW: _read_shm,
        Register.SHM_LEN_HIGH: _read_shm,
        Register.SHM_BASE_LOW: _read_shm,
        Register.SHM_BASE_HIGH: _read_shm,
        Register.CONFIG_GENERATION: lambda self: self._generation,
    }

    _WRITE: ClassVar[dict[Register, Callable[[VirtioMmio, int], None]]] = {
        Register.DEVICE_FEATURES_SEL: _write_features_sel,
        Register.DRIVER_FEATURES: _write_driver_features,
        Register.DRIVER_FEATURES_SEL: _write_driver_features_sel,
        Register.GUEST_PAGE_SIZE: _write_page_size,
        Register.QUEUE_SEL: _write_queue_sel,
        Register.QUEUE_NUM: _write_queue_num,
        Register.QUEUE_ALIGN: _write_queue_align,
        Register.QUEUE_PFN: _write_queue_pfn,
        Register.QUEUE_READY: _write_queue_ready,
        Register.QUEUE_NOTIFY: _write_queue_notify,
        Register.INTERRUPT_ACK: _write_interrupt_ack,
        Register.STATUS: _write_status,
        Register.SHM_SEL: _write_shm_sel,
    }
