"""Says in one sentence why a translation came out as it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.descriptors import Stage1Leaf, Stage1Table, Stage2Leaf
from emu.arch.esr.fsc import FaultType
from emu.mmu import stage1
from emu.mmu.explain import Kind
from emu.mmu.fault import Fault
from emu.mmu.permissions import EL0, EL1_PAN, EXECUTE, WRITE

if TYPE_CHECKING:
    from emu.mmu.explain import Lookup, Walk
    from emu.mmu.regime import Stage1Half

WHO: Final = ("EL0", "EL1", "EL1 with PSTATE.PAN")
"""By privilege."""


def access(need: int) -> str:
    """Return what an access with these permissions does."""
    if need & EXECUTE:
        return "fetch from"
    return "write to" if need & WRITE else "read from"


def reason(walk: Walk) -> str:
    """Return why an address was refused, or that it was not."""
    fault = walk.result
    if not isinstance(fault, Fault):
        return f"{WHO[walk.privilege]} may {access(walk.need)} it."
    lookups = _lookups(walk, fault)
    if fault.type is FaultType.TRANSLATION:
        return _translation(walk, fault, lookups)
    if fault.type is FaultType.ADDRESS_SIZE:
        return _address_size(walk, fault, lookups)
    if fault.type is FaultType.ACCESS_FLAG:
        control = "VTCR_EL2.HA" if fault.stage == 2 else "TCR_EL1.HA"  # a stage
        return f"AF of {_name(lookups[-1])} is 0, and {control} does not have hardware set it."
    if fault.type is FaultType.PERMISSION:
        return _permission(walk, fault, lookups)
    if fault.type is FaultType.PARITY_ON_WALK:
        return f"{_name(lookups[-1])} has an ECC error."
    if fault.type is FaultType.EXTERNAL_ON_WALK:
        return f"{_name(lookups[-1])} would lie where there is no memory."
    return "There is no memory at the output address."


def _lookups(walk: Walk, fault: Fault) -> tuple[Lookup, ...]:
    """Return the lookups of the walk that was refused, the refusing one last."""
    if fault.s1ptw and not fault.update:
        return walk.stage1[-1].nested
    return walk.stage1 if fault.stage == 1 else walk.stage2


def _name(lookup: Lookup) -> str:
    space = "IPA" if lookup.stage == 1 else "PA"
    return f"the level {lookup.level} descriptor at {space} {lookup.address:#x}"


def _translation(walk: Walk, fault: Fault, lookups: tuple[Lookup, ...]) -> str:
    if lookups:
        last = lookups[-1]
        if last.kind is Kind.RESERVED:
            return f"{_name(last)} has the form of a block, which level {last.level} does not have."
        return f"{_name(last)} is invalid: its bit 0 is 0."
    if fault.stage == 1:
        return _refused_by_half(walk, stage1.half_of(walk.regime.stage1, walk.va))
    if not walk.regime.stage2.consistent:
        return "VTCR_EL2.T0SZ and SL0 do not fit together, so that there is no first lookup."
    return f"The IPA has more than the {walk.regime.stage2.input_bits} bits of VTCR_EL2.T0SZ."


def _refused_by_half(walk: Walk, half: Stage1Half) -> str:
    number = int(half is walk.regime.stage1.upper)
    if half.e0pd and walk.privilege == EL0:
        return f"TCR_EL1.E0PD{number} keeps EL0 out of this half of the address space."
    if not half.walks:
        return f"TCR_EL1.EPD{number} is 1, or T{number}SZ is no possible size: nothing is walked."
    return (
        f"The address lies outside the {half.input_bits} bits that TTBR{number}_EL1 translates "
        f"(TCR_EL1.T{number}SZ)."
    )


def _address_size(walk: Walk, fault: Fault, lookups: tuple[Lookup, ...]) -> str:
    if fault.stage == 1:
        if not walk.regime.stage1.enabled:
            return "Stage 1 is off, and the address is larger than a physical one."
        bits, base = stage1.half_of(walk.regime.stage1, walk.va).output_bits, "TTBRn_EL1"
    else:
        bits, base = walk.regime.stage2.output_bits, "VTTBR_EL2"
    if not lookups:
        return f"{base} holds an address of more than {bits} bits."
    return f"{_name(lookups[-1])} points to {lookups[-1].output:#x}, beyond {bits} bits."


def _permission(walk: Walk, fault: Fault, lookups: tuple[Lookup, ...]) -> str:
    if fault.stage == 1:
        return _stage1_permission(walk, lookups)
    if not lookups:
        return "The TLB holds a stage-2 entry that refuses it."
    leaf = Stage2Leaf(lookups[-1].word or 0)
    shown = f"{_name(lookups[-1])} has S2AP {leaf.S2AP:#04b}, XN {leaf.XN:#04b}"
    if fault.update:
        return f"Hardware would write to a stage 1 descriptor, and {shown}."
    if fault.s1ptw:
        readable = leaf.S2AP & 1
        why = (
            f", MemAttr {leaf.MemAttr:#06b}: Device, which HCR_EL2.PTW forbids" if readable else ""
        )
        return f"The stage 1 walk may not read its table: {shown}{why}."
    return f"{WHO[walk.privilege]} may not {access(walk.need)} it: {shown}."


def _stage1_permission(walk: Walk, lookups: tuple[Lookup, ...]) -> str:
    leaf = Stage1Leaf(lookups[-1].word or 0)
    shown = f"AP {leaf.AP:#04b}, UXN {leaf.UXN}, PXN {leaf.PXN}"
    half = stage1.half_of(walk.regime.stage1, walk.va)
    tables = 0
    for lookup in lookups[:-1]:
        tables |= lookup.word or 0
    above = Stage1Table(tables)
    if not half.hpd and (above.APTable or above.UXNTable or above.PXNTable):
        shown += (
            f" below tables with APTable {above.APTable:#04b}, UXNTable {above.UXNTable}, "
            f"PXNTable {above.PXNTable}"
        )
    if walk.regime.stage1.wxn:
        shown += ", SCTLR_EL1.WXN 1"
    pan = ", and PAN keeps EL1 off what EL0 can access" if walk.privilege == EL1_PAN else ""
    who = WHO[walk.privilege]
    return f"{who} may not {access(walk.need)} it: {_name(lookups[-1])} has {shown}{pan}."
