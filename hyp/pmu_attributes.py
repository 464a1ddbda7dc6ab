"""KVM_ARM_VCPU_PMU_V3_CTRL: the overflow interrupt, the event filter, the counters (pmu-emul.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from emu.arch.bits import bits
from emu.arch.fields import Layout
from hyp.errors import Errno, KvmError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.pmu import Pmu
    from hyp.vcpu import VCPU


class PmuAttr(IntEnum):
    """The KVM_ARM_VCPU_PMU_V3_* attributes."""

    IRQ = 0
    """The INTID of the overflow interrupt: a PPI, the same for all vCPUs, or an SPI each."""
    INIT = 1
    FILTER = 2
    """A range of events that count, or do not: :class:`PmuEventFilter`."""
    SET_NR_COUNTERS = 4


class FilterAction(IntEnum):
    """What a range of the filter says of its events."""

    ALLOW = 0
    DENY = 1


class PmuEventFilter(Layout):
    """``struct kvm_pmu_event_filter``, as one little-endian number."""

    action = bits(39, 32)
    nevents = bits(31, 16)
    base_event = bits(15, 0)


_PPIS: Final = range(16, 32)
_SPIS: Final = range(32, 1020)


def set_attr(vcpu: VCPU, attr: int, value: int) -> None:
    """Set an attribute (``kvm_arm_pmu_v3_set_attr``).

    Raises
    ------
    KvmError
        ENODEV without the feature, ENXIO for no such attribute, EBUSY where it is too late,
        EINVAL for a value that is not possible.
    """
    pmu = _pmu_of(vcpu)
    if pmu.created:
        raise KvmError(Errno.EBUSY, f"the PMU of vCPU {vcpu.index} is initialised already")
    setter = _SETTERS.get(attr)
    if setter is None:
        raise _unknown(attr)
    setter(vcpu, pmu, value)


def get_attr(vcpu: VCPU, attr: int) -> int:
    """Return an attribute: there is the interrupt alone (``kvm_arm_pmu_v3_get_attr``).

    Raises
    ------
    KvmError
        ENODEV without the feature, EINVAL without a GIC, ENXIO if none has been chosen.
    """
    if attr != PmuAttr.IRQ:
        raise _unknown(attr)
    _require_gic(vcpu)
    irq = _pmu_of(vcpu).irq
    if irq is None:
        raise KvmError(Errno.ENXIO, f"vCPU {vcpu.index} has no PMU interrupt yet; set IRQ first")
    return irq


def has_attr(vcpu: VCPU, attr: int) -> bool:
    """Whether an attribute can be set (``kvm_arm_pmu_v3_has_attr``)."""
    return vcpu.pmu is not None and attr in _SETTERS


def kvm_arm_pmu_v3_enable(vcpu: VCPU) -> None:
    """See that user space has set the PMU up, before the first run.

    Raises
    ------
    KvmError
        EINVAL if it is not initialised, or has an interrupt and no GIC.
    """
    pmu = vcpu.pmu
    if pmu is None:
        return
    if not pmu.created:
        raise KvmError(
            Errno.EINVAL,
            f"the PMU of vCPU {vcpu.index} is not initialised; set attribute INIT of PMU_V3",
        )
    if pmu.irq is not None:
        _require_gic(vcpu)


def _set_irq(vcpu: VCPU, pmu: Pmu, irq: int) -> None:
    _require_gic(vcpu)
    if irq not in _PPIS and irq not in _SPIS:
        raise KvmError(Errno.EINVAL, f"interrupt {irq} is neither a PPI (16 to 31) nor an SPI")
    others = {v.pmu.irq for v in vcpu.vm.vcpus.values() if v.pmu is not None} - {None}
    if others and (others != {irq} if irq in _PPIS else irq in others or others & set(_PPIS)):
        raise KvmError(
            Errno.EINVAL,
            f"interrupt {irq} does not go with those of the other vCPUs, "
            f"{sorted(other for other in others if other is not None)}; "
            "all have one PPI, or each an SPI of its own",
        )
    if pmu.irq is not None:
        raise KvmError(Errno.EBUSY, f"the PMU interrupt is {pmu.irq} and cannot be changed")
    pmu.irq = irq


def _init(vcpu: VCPU, pmu: Pmu, _value: int) -> None:
    vgic = vcpu.vm.vgic
    if vgic is not None:
        if not vgic.initialized:
            raise KvmError(Errno.ENODEV, "the GIC is not initialised; set its CTRL INIT first")
        if pmu.irq is None:
            raise KvmError(Errno.ENXIO, "with a GIC the PMU needs an interrupt; set IRQ first")
        irq = pmu.irq
        pmu.on_level = lambda level: vgic.kvm_vgic_inject_irq(vcpu, irq, level=level)
    pmu.created = True


def _filter(vcpu: VCPU, _pmu: Pmu, value: int) -> None:
    """Add a range; the first decides what holds for all events that none names."""
    shared = vcpu.vm.arm_pmu
    entry = PmuEventFilter(value)
    last = entry.base_event + entry.nevents
    if last > shared.event_mask + 1 or entry.action not in tuple(FilterAction):
        raise KvmError(
            Errno.EINVAL,
            f"events {entry.base_event:#x} to {last - 1:#x} with action {entry.action}; events "
            f"are up to {shared.event_mask:#x}, actions are 0 (allow) and 1 (deny)",
        )
    _refuse_after_run(vcpu)
    if shared.counts_others is None:
        shared.counts_others = entry.action == FilterAction.DENY
    events = set(range(entry.base_event, last))
    if (entry.action == FilterAction.ALLOW) is shared.counts_others:
        shared.exceptions -= events
    else:
        shared.exceptions |= events


def _set_nr_counters(vcpu: VCPU, _pmu: Pmu, number: int) -> None:
    _refuse_after_run(vcpu)
    limit = vcpu.vm.features.pmu_counters
    if not 0 <= number <= limit:
        raise KvmError(Errno.EINVAL, f"the PE has {limit} event counters, not {number}")
    vcpu.vm.arm_pmu.nr_counters = number


_SETTERS: Final[dict[int, Callable[[VCPU, Pmu, int], None]]] = {
    PmuAttr.IRQ: _set_irq,
    PmuAttr.INIT: _init,
    PmuAttr.FILTER: _filter,
    PmuAttr.SET_NR_COUNTERS: _set_nr_counters,
}


def _pmu_of(vcpu: VCPU) -> Pmu:
    if vcpu.pmu is None:
        raise KvmError(Errno.ENODEV, f"vCPU {vcpu.index} has no PMU; use init(pmu=True)")
    return vcpu.pmu


def _require_gic(vcpu: VCPU) -> None:
    if vcpu.vm.vgic is None:
        raise KvmError(Errno.EINVAL, "a PMU interrupt needs a GIC in the VM")


def _refuse_after_run(vcpu: VCPU) -> None:
    if vcpu.vm.has_run_once:
        raise KvmError(Errno.EBUSY, "a vCPU of the VM has run; set the PMU up before")


def _unknown(attr: int) -> KvmError:
    names = ", ".join(f"{known.name} ({known:d})" for known in PmuAttr)
    return KvmError(Errno.ENXIO, f"PMU_V3 has no attribute {attr}; there are {names}")
