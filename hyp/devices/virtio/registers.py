"""The registers of a virtio-mmio transport as data (virtio 1.2, sections 4.2.2 and 4.2.4)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

SIZE: Final = 0x200
"""What a transport takes of the address space, in bytes."""

CONFIG: Final = 0x100
"""Where the configuration space of the device begins; registers are below."""

MAGIC: Final = int.from_bytes(b"virt", "little")
VENDOR: Final = int.from_bytes(b"STG2", "little")


class Version(IntEnum):
    """The VERSION register: which of the two interfaces a transport has."""

    LEGACY = 1
    """Queues are given as one page number."""
    MODERN = 2
    """Queues are given as three addresses."""


class Register(IntEnum):
    """Register offsets, with the names of Linux."""

    MAGIC_VALUE = 0x000
    VERSION = 0x004
    DEVICE_ID = 0x008
    VENDOR_ID = 0x00C
    DEVICE_FEATURES = 0x010
    DEVICE_FEATURES_SEL = 0x014
    DRIVER_FEATURES = 0x020
    DRIVER_FEATURES_SEL = 0x024
    GUEST_PAGE_SIZE = 0x028
    QUEUE_SEL = 0x030
    QUEUE_NUM_MAX = 0x034
    QUEUE_NUM = 0x038
    QUEUE_ALIGN = 0x03C
    QUEUE_PFN = 0x040
    QUEUE_READY = 0x044
    QUEUE_NOTIFY = 0x050
    INTERRUPT_STATUS = 0x060
    INTERRUPT_ACK = 0x064
    STATUS = 0x070
    QUEUE_DESC_LOW = 0x080
    QUEUE_DESC_HIGH = 0x084
    QUEUE_AVAIL_LOW = 0x090
    QUEUE_AVAIL_HIGH = 0x094
    QUEUE_USED_LOW = 0x0A0
    QUEUE_USED_HIGH = 0x0A4
    SHM_SEL = 0x0AC
    SHM_LEN_LOW = 0x0B0
    SHM_LEN_HIGH = 0x0B4
    SHM_BASE_LOW = 0x0B8
    SHM_BASE_HIGH = 0x0BC
    CONFIG_GENERATION = 0x0FC


class Access(IntFlag):
    """What a driver may do with a register."""

    R = 1
    W = 2


class Rule(NamedTuple):
    """What there is to know of a register."""

    access: Access
    versions: tuple[Version, ...] = (Version.LEGACY, Version.MODERN)
    placeholder: bool = False
    """Whether a transport without a device has it: the others read as zero there."""


_LEGACY: Final = (Version.LEGACY,)
_MODERN: Final = (Version.MODERN,)
_R, _W, _RW = Access.R, Access.W, Access.R | Access.W

RULES: Final = {
    Register.MAGIC_VALUE: Rule(_R, placeholder=True),
    Register.VERSION: Rule(_R, placeholder=True),
    Register.DEVICE_ID: Rule(_R, placeholder=True),
    Register.VENDOR_ID: Rule(_R, placeholder=True),
    Register.DEVICE_FEATURES: Rule(_R),
    Register.DEVICE_FEATURES_SEL: Rule(_W),
    Register.DRIVER_FEATURES: Rule(_W),
    Register.DRIVER_FEATURES_SEL: Rule(_W),
    Register.GUEST_PAGE_SIZE: Rule(_W, _LEGACY),
    Register.QUEUE_SEL: Rule(_W),
    Register.QUEUE_NUM_MAX: Rule(_R),
    Register.QUEUE_NUM: Rule(_W),
    Register.QUEUE_ALIGN: Rule(_W, _LEGACY),
    Register.QUEUE_PFN: Rule(_RW, _LEGACY),
    Register.QUEUE_READY: Rule(_RW, _MODERN),
    Register.QUEUE_NOTIFY: Rule(_W),
    Register.INTERRUPT_STATUS: Rule(_R),
    Register.INTERRUPT_ACK: Rule(_W),
    Register.STATUS: Rule(_RW),
    Register.QUEUE_DESC_LOW: Rule(_W, _MODERN),
    Register.QUEUE_DESC_HIGH: Rule(_W, _MODERN),
    Register.QUEUE_AVAIL_LOW: Rule(_W, _MODERN),
    Register.QUEUE_AVAIL_HIGH: Rule(_W, _MODERN),
    Register.QUEUE_USED_LOW: Rule(_W, _MODERN),
    Register.QUEUE_USED_HIGH: Rule(_W, _MODERN),
    Register.SHM_SEL: Rule(_W, _MODERN),
    Register.SHM_LEN_LOW: Rule(_R, _MODERN),
    Register.SHM_LEN_HIGH: Rule(_R, _MODERN),
    Register.SHM_BASE_LOW: Rule(_R, _MODERN),
    Register.SHM_BASE_HIGH: Rule(_R, _MODERN),
    Register.CONFIG_GENERATION: Rule(_R, _MODERN),
}
"""By register. Other accesses have no effect and read as 0."""


class Status(IntFlag):
    """STATUS: how far the driver is (section 2.1)."""

    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    DEVICE_NEEDS_RESET = 64
    FAILED = 128


class InterruptStatus(IntFlag):
    """INTERRUPT_STATUS: why the line is high."""

    USED_BUFFER = 1
    CONFIG_CHANGE = 2


class Feature(IntFlag):
    """Feature bits that are no device's own (section 6)."""

    ANY_LAYOUT = 1 << 27
    """Legacy: messages may be cut into descriptors anyhow; later that goes without saying."""
    INDIRECT_DESC = 1 << 28
    EVENT_IDX = 1 << 29
    VERSION_1 = 1 << 32


RING_FEATURES: Final = {
    Version.LEGACY: Feature.ANY_LAYOUT | Feature.INDIRECT_DESC | Feature.EVENT_IDX,
    Version.MODERN: Feature.INDIRECT_DESC | Feature.EVENT_IDX | Feature.VERSION_1,
}
"""What every device offers, by version."""
