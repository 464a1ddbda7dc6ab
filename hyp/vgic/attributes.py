"""The GIC as a device of user space: KVM_CREATE_DEVICE and its attributes (vgic-kvm-device.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA
from emu.arch.bits import bits
from emu.arch.fields import Encoding, Layout
from hyp.errors import Errno, KvmError
from hyp.vgic import v2_cpu, v2_dist, v3_dist, v3_redist, v3_sysregs
from hyp.vgic.addresses import UNDEFINED
from hyp.vgic.irq import NR_SGIS, Config
from hyp.vgic.vgic import Vgic

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vgic.bank import Bank, View
    from hyp.vgic.vmlike import VcpuLike, VmLike


class DeviceType(IntEnum):
    """The KVM_DEV_TYPE_ARM_* numbers."""

    VGIC_V2 = 5
    VGIC_V3 = 7
    VGIC_ITS = 8


CREATE_DEVICE_TEST: Final = 1
"""KVM_CREATE_DEVICE_TEST: only ask."""

_VERSIONS: Final[dict[int, int]] = {DeviceType.VGIC_V2: 2, DeviceType.VGIC_V3: 3}


class Group(IntEnum):
    """The KVM_DEV_ARM_VGIC_GRP_* numbers."""

    ADDR = 0
    DIST_REGS = 1
    CPU_REGS = 2
    NR_IRQS = 3
    CTRL = 4
    REDIST_REGS = 5
    CPU_SYSREGS = 6
    LEVEL_INFO = 7


class Address(IntEnum):
    """The KVM_VGIC_V*_ADDR_TYPE_* numbers: attributes of ADDR."""

    V2_DIST = 0
    V2_CPU = 1
    V3_DIST = 2
    V3_REDIST = 3
    V3_REDIST_REGION = 5


class Control(IntEnum):
    """The attributes of CTRL."""

    INIT = 0
    SAVE_PENDING_TABLES = 3


class RegionValue(Layout):
    """The value of KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION."""

    count = bits(63, 52)
    base_64k = bits(51, 16)
    flags = bits(15, 12)
    index = bits(11, 0)


class RegisterAttr(Layout):
    """An attribute of DIST_REGS, CPU_REGS, REDIST_REGS, CPU_SYSREGS and LEVEL_INFO."""

    mpidr = bits(63, 32)
    cpuid = bits(39, 32)
    offset = bits(31, 0)
    info = bits(31, 10)
    intid = bits(9, 0)
    op0 = bits(15, 14)
    op1 = bits(13, 11)
    CRn = bits(10, 7)
    CRm = bits(6, 3)
    op2 = bits(2, 0)

    @property
    def encoding(self) -> Encoding:
        """The system register that it names."""
        return Encoding(self.op0, self.op1, self.CRn, self.CRm, self.op2)


_ADDRESSES: Final = {
    2: (Address.V2_DIST, Address.V2_CPU),
    3: (Address.V3_DIST, Address.V3_REDIST, Address.V3_REDIST_REGION),
}
_CONTROLS: Final = {2: (Control.INIT,), 3: (Control.INIT, Control.SAVE_PENDING_TABLES)}
_BANKS: Final[dict[tuple[int, int], Bank]] = {
    (2, Group.DIST_REGS): v2_dist.GICD,
    (2, Group.CPU_REGS): v2_cpu.GICC,
    (3, Group.DIST_REGS): v3_dist.GICD,
    (3, Group.REDIST_REGS): v3_redist.GICR,
}
_V3_GROUPS: Final = (Group.CPU_SYSREGS, Group.LEVEL_INFO)


def create_device(
    vm: VmLike,
    type_: int,
    flags: int = 0,
    *,
    existing: Vgic | None = None,
    kick: Callable[[VcpuLike], None] | None = None,
) -> VgicDevice | None:
    """Create a GIC (KVM_CREATE_DEVICE).

    Parameters
    ----------
    vm
        The VM.
    type_
        Of :class:`DeviceType`.
    flags
        CREATE_DEVICE_TEST to only ask whether it is possible.
    existing
        The GIC that the VM has.
    kick
        As for :class:`~hyp.vgic.vgic.Vgic`.

    Returns
    -------
    VgicDevice or None
        The device; ``None`` if it was only asked for.

    Raises
    ------
    KvmError
        ENODEV for another type, EEXIST if the VM has a GIC, EBUSY if a vCPU has run, E2BIG for
        too many vCPUs.
    """
    version = _VERSIONS.get(type_)
    if version is None:
        raise KvmError(
            Errno.ENODEV, f"there is no device of type {type_}; use 5 (GICv2) or 7 (GICv3)"
        )
    if flags & CREATE_DEVICE_TEST:
        return None
    if existing is not None:
        raise KvmError(Errno.EEXIST, f"the VM has a GICv{existing.version} already")
    for vcpu in vm.vcpus.values():
        if vcpu.has_run_once:
            raise KvmError(
                Errno.EBUSY, f"vCPU {vcpu.index} has run; create the GIC before the first run"
            )
    return VgicDevice(Vgic(vm, version, kick=kick))


class VgicDevice:
    """What user space has of a GIC.

    Values are passed as integers; ``None`` is a pointer that leads nowhere.

    Parameters
    ----------
    vgic
        The GIC.
    """

    def __init__(self, vgic: Vgic) -> None:
        self.vgic = vgic

    def set_attr(self, group: int, attr: int, value: int | None = None) -> None:
        """Set an attribute (KVM_SET_DEVICE_ATTR).

        Raises
        ------
        KvmError
            ENXIO for an unknown attribute, EFAULT without a value where one is needed, EBUSY
            while a vCPU runs or before initialisation, and what the attribute refuses.
        """
        if group == Group.ADDR:
            self._set_address(attr, value)
        elif group == Group.NR_IRQS:
            self.vgic.set_nr_irqs(_given(value))
        elif group == Group.CTRL and attr in _CONTROLS[self.vgic.version]:
            self._control(attr)
        elif self._is_register_group(group):
            self._set_register(group, RegisterAttr(attr), value)
        else:
            raise _unknown(group, attr)

    def get_attr(self, group: int, attr: int, value: int | None = None) -> int:
        """Return an attribute (KVM_GET_DEVICE_ATTR).

        Parameters
        ----------
        group, attr
            Which.
        value
            What the memory holds before: the index of a redistributor region.

        Raises
        ------
        KvmError
            As :meth:`set_attr`; ENOENT for a redistributor region that there is not.
        """
        if group == Group.ADDR:
            return self._get_address(attr, value)
        if group == Group.NR_IRQS:
            return self.vgic.nr_irqs
        if self._is_register_group(group):
            return self._get_register(group, RegisterAttr(attr))
        raise _unknown(group, attr)

    def has_attr(self, group: int, attr: int) -> None:
        """Return if there is such an attribute (KVM_HAS_DEVICE_ATTR).

        Raises
        ------
        KvmError
            ENXIO if there is not, EINVAL if it names a vCPU that does not exist.
        """
        version = self.vgic.version
        known = (
            group == Group.NR_IRQS
            or (group == Group.ADDR and attr in _ADDRESSES[version])
            or (group == Group.CTRL and attr in _CONTROLS[version])
        )
        if known:
            return
        if not self._is_register_group(group):
            raise _unknown(group, attr)
        register = RegisterAttr(attr)
        if group == Group.LEVEL_INFO:
            if register.info:
                raise _unknown(group, attr)
            return
        self._number_of(group, register)
        if group != Group.CPU_SYSREGS:
            _BANKS[version, group].user_register(self.vgic.nr_irqs, register.offset)
        elif register.encoding not in v3_sysregs.MISSING_APRS:
            v3_sysregs.user_register(register.encoding)

    # --- addresses -----------------------------------------------------------------------

    def _set_address(self, attr: int, value: int | None) -> None:
        addresses, nr_vcpus = self.vgic.addresses, len(self.vgic.vm.vcpus)
        given = _given(value)
        if attr not in _ADDRESSES[self.vgic.version]:
            raise _unknown(Group.ADDR, attr)
        if attr in (Address.V2_DIST, Address.V3_DIST):
            addresses.set_dist(IPA(given))
        elif attr == Address.V2_CPU:
            addresses.set_cpu(IPA(given))
        elif attr == Address.V3_REDIST:
            addresses.add_region(0, IPA(given), 0, nr_vcpus)
        else:
            region = RegionValue(given)
            if not region.count or region.flags:
                raise KvmError(
                    Errno.EINVAL,
                    f"a redistributor region has a count that is not 0, and no flags, "
                    f"unlike {region}",
                )
            base = IPA(region.base_64k << 16)
            addresses.add_region(region.index, base, region.count, nr_vcpus)

    def _get_address(self, attr: int, value: int | None) -> int:
        addresses = self.vgic.addresses
        if attr not in _ADDRESSES[self.vgic.version]:
            raise _unknown(Group.ADDR, attr)
        if attr == Address.V3_REDIST_REGION:
            index = RegionValue(_given(value)).index
            region = addresses.region(index)
            return RegionValue.build(
                count=region.count, base_64k=region.base >> 16, index=region.index
            )
        if attr == Address.V3_REDIST:
            return addresses.regions[0].base if addresses.regions else UNDEFINED
        base = addresses.cpu if attr == Address.V2_CPU else addresses.dist
        return UNDEFINED if base is None else base

    def _control(self, attr: int) -> None:
        if attr == Control.INIT:
            self.vgic.init()
        else:  # SAVE_PENDING_TABLES: without LPIs, there is nothing to save
            self._refuse_if_running()

    # --- registers -----------------------------------------------------------------------

    def _is_register_group(self, group: int) -> bool:
        version = self.vgic.version
        return (version, group) in _BANKS or (version == 3 and group in _V3_GROUPS)

    def _set_register(self, group: int, attr: RegisterAttr, value: int | None) -> None:
        number = self._number_of(group, attr)
        given = _given(value)
        view = self._open(number)
        if group == Group.CPU_SYSREGS:
            v3_sysregs.user_write(view, attr.encoding, given)
        elif group == Group.LEVEL_INFO:
            _check_level_info(attr)
            _set_levels(view, attr.intid, given)
        else:
            _BANKS[self.vgic.version, group].user_write(view, attr.offset, given)
        view.dist.settle()

    def _get_register(self, group: int, attr: RegisterAttr) -> int:
        view = self._open(self._number_of(group, attr))
        if group == Group.CPU_SYSREGS:
            return v3_sysregs.user_read(view, attr.encoding)
        if group == Group.LEVEL_INFO:
            _check_level_info(attr)
            return _levels(view, attr.intid)
        return _BANKS[self.vgic.version, group].user_read(view, attr.offset)

    def _open(self, number: int) -> View:
        """Make registers accessible: no vCPU runs, and the GIC is initialised."""
        self._refuse_if_running()
        self.vgic.lazy_init()
        return self.vgic.user_view(number)

    def _refuse_if_running(self) -> None:
        if self.vgic.is_busy:
            raise KvmError(Errno.EBUSY, "a vCPU runs; access the GIC when all have returned")

    def _number_of(self, group: int, attr: RegisterAttr) -> int:
        """Return the vCPU that an attribute names, by its place in the order of creation."""
        vcpus = list(self.vgic.vm.vcpus.values())
        for number, vcpu in enumerate(vcpus):
            if self.vgic.version == 2:
                found = vcpu.index == attr.cpuid
            elif group == Group.DIST_REGS:
                found = True
            else:
                found = _affinity_value(vcpu) == attr.mpidr
            if found:
                return number
        raise KvmError(
            Errno.EINVAL, f"attribute {int(attr):#x} names a vCPU that the VM does not have"
        )


def _affinity_value(vcpu: VcpuLike) -> int:
    """Return the affinity in the 32 bits that attributes have for it."""
    return vcpu.mpidr & 0xFF_FFFF | (vcpu.mpidr >> 32 & 0xFF) << 24


def _given(value: int | None) -> int:
    if value is None:
        raise KvmError(Errno.EFAULT, "the attribute needs a value")
    return value


def _unknown(group: int, attr: int) -> KvmError:
    return KvmError(Errno.ENXIO, f"the GIC has no attribute {attr:#x} of group {group}")


# --- levels ----------------------------------------------------------------------------------


def _check_level_info(attr: RegisterAttr) -> None:
    if attr.info or attr.intid % 32:
        raise KvmError(
            Errno.EINVAL,
            f"attribute {int(attr):#x}: LEVEL_INFO has kind 0, for 32 interrupts from a "
            f"multiple of 32 on",
        )


def _levels(view: View, first: int) -> int:
    """Return the input levels of 32 interrupts, SGIs and edge-triggered ones excepted."""
    value = 0
    for n in range(32):
        irq = view.dist.irq(view.number, first + n)
        if irq is not None and irq.intid >= NR_SGIS and irq.config is Config.LEVEL:
            value |= irq.line_level << n
    return value


def _set_levels(view: View, first: int, value: int) -> None:
    """Set them, whatever ICFGR says: it may be restored later."""
    for n in range(32):
        irq = view.dist.irq(view.number, first + n)
        if irq is not None and irq.intid >= NR_SGIS:
            irq.line_level = bool(value >> n & 1)
            view.dist.requeue(irq)
