"""What is wrong or odd about an ESR value: bits that no PE would set together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from emu.arch.bits import bit_range
from emu.arch.esr.classes import CLASSES
from emu.arch.esr.fsc import EXTERNAL_ABORTS, FaultStatusCode, FaultType
from emu.arch.esr.iss import (
    AccessSize,
    IssDataAbort,
    IssDataAbortExternal,
    IssDataAbortNoSyndrome,
)
from emu.arch.esr.layouts import iss2_layout, iss_layout
from emu.arch.esr.meanings import RESERVED, meaning
from emu.arch.registers.exceptions import ExceptionSyndrome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emu.arch.esr.report import Report


class Check(NamedTuple):
    """A warning and when it applies, for a layout of abort."""

    applies: Callable[[Report, IssDataAbort], bool]
    warning: str


def _external(report: Report) -> bool:
    return report.status is not None and report.status.fault in EXTERNAL_ABORTS


DATA_ABORT_CHECKS = (
    Check(
        lambda report, iss: bool(iss.ISV) and report.taken_to != 2 and not iss.LST,
        "ISV is 1 only for aborts taken to EL2, apart from LS64 instructions",
    ),
    Check(
        lambda report, iss: bool(iss.ISV and iss.S1PTW) and report.taken_to == 2,
        "ISV is 0 for a fault on a stage 1 walk, yet both ISV and S1PTW are 1",
    ),
    Check(
        lambda _, iss: bool(iss.ISV and iss.CM),
        "ISV is 0 for cache maintenance, yet both ISV and CM are 1",
    ),
    Check(
        lambda report, iss: bool(iss.ISV) and _external(report),
        "with FEAT_RAS, ISV is 0 for an external abort, yet it is 1",
    ),
    Check(
        lambda _, iss: bool(iss.CM) and not iss.WnR,
        "WnR is 1 for cache maintenance, yet CM is 1 and WnR is 0",
    ),
    Check(
        lambda _, iss: bool(iss.ISV and iss.SSE and iss.WnR),
        "only loads sign-extend, yet SSE and WnR are 1",
    ),
    Check(
        lambda _, iss: bool(iss.ISV and iss.SSE) and iss.SAS == AccessSize.DOUBLEWORD,
        "a doubleword cannot be sign-extended, yet SSE is 1",
    ),
    Check(
        lambda _, iss: bool(iss.ISV and iss.SSE) and iss.SAS == AccessSize.WORD and not iss.SF,
        "a word in a 32-bit register is not sign-extended, yet SSE is 1",
    ),
    Check(
        lambda _, iss: bool(iss.ISV) and iss.SAS == AccessSize.DOUBLEWORD and not iss.SF,
        "a doubleword needs a 64-bit register, yet SF is 0",
    ),
)
"""What cannot be in the ISS of a data abort (Arm ARM D24.2, ISS encoding for a Data Abort)."""


NO_SYNDROME = (IssDataAbortNoSyndrome, IssDataAbortExternal)
"""The layouts of data aborts with ISV 0."""

DATA_ONLY = frozenset(
    {
        FaultType.TAG_CHECK,
        FaultType.ALIGNMENT,
        FaultType.LOCKDOWN,
        FaultType.UNSUPPORTED_EXCLUSIVE,
    }
)
"""Faults that a fetch cannot take."""


def _ranges(bits: int) -> str:
    """Write the set bits as ranges, most significant first: ``[23:22], [5]``."""
    ranges = []
    while bits:
        msb = lsb = bits.bit_length() - 1
        while lsb and bits >> (lsb - 1) & 1:
            lsb -= 1
        ranges.append(bit_range(msb, lsb))
        bits &= (1 << lsb) - 1
    return ", ".join(ranges)


def _reserved_bits(report: Report) -> Iterator[str]:
    """Find bits that are RES0 in a class that is known."""
    esr = report.esr
    iss, iss2 = iss_layout(esr), iss2_layout(esr)
    extra = esr.unnamed
    if iss is not None:
        extra |= iss(esr.ISS).unnamed << ExceptionSyndrome.ISS.lsb
        above = esr.ISS2 if iss2 is None else iss2(esr.ISS2).unnamed
        extra |= above << ExceptionSyndrome.ISS2.lsb
    if extra:
        when = " when ISV is 0" if iss in NO_SYNDROME else ""
        yield f"bits that are RES0 for this class{when} are set: {_ranges(extra)}"


def _reserved_values(report: Report) -> Iterator[str]:
    """Find fields whose value has no meaning."""
    if report.ec not in CLASSES:
        yield f"EC {int(report.ec):#x} is reserved"
        return
    layout = iss_layout(report.esr)
    assert layout is not None  # every allocated class has one
    for field, value in layout(report.esr.ISS).describe():
        if meaning(layout, field.name, value) == RESERVED:
            yield f"{field.name} {int(value):#x} is reserved"


def _class(report: Report) -> Iterator[str]:
    """Find what contradicts the exception class."""
    facts = CLASSES.get(report.ec)
    if facts is None:
        return
    if report.taken_to < facts.lowest_el:
        yield (
            f"EC {int(report.ec):#x} ({report.ec.name}) is not reported in ESR_EL{report.taken_to}"
        )
    if report.il_is_fixed and not report.esr.IL:
        yield "IL is 1 for this exception whatever the instruction's length, yet it is 0"


def _abort(report: Report) -> Iterator[str]:
    """Find what contradicts the kind of abort."""
    abort = report.abort
    if abort is None:
        return
    if isinstance(abort, IssDataAbort):
        for check in DATA_ABORT_CHECKS:
            if check.applies(report, abort):
                yield check.warning
    elif report.status is not None and report.status.fault in DATA_ONLY:
        yield f"an instruction abort has no {report.status.fault.value}"
    if abort.FnV and report.status != FaultStatusCode.EXTERNAL:
        yield "FnV is RES0 unless the status code is 0x10, yet it is 1"
    if abort.EA and not _external(report):
        yield "EA is 0 for anything but an external abort, yet it is 1"
    if abort.S1PTW and report.taken_to != 2:
        yield "S1PTW is of stage 2 faults, which are taken to EL2, yet it is 1"


def _addresses(report: Report) -> Iterator[str]:
    """Find address registers that this exception does not write."""
    if report.far is not None and not report.far_is_valid:
        yield f"FAR_EL{report.taken_to} is not valid for this exception; its value is not used"
    if report.hpfar is None:
        return
    if not report.hpfar_is_valid:
        yield "HPFAR_EL2 is not valid for this exception; its value is not used"
    if report.hpfar.unnamed:
        yield f"RES0 bits of HPFAR_EL2 are set: {_ranges(report.hpfar.unnamed)}"


def warnings(report: Report) -> tuple[str, ...]:
    """Return every objection to the values, most fundamental first; empty if there is none."""
    checks = (_reserved_values, _reserved_bits, _class, _abort, _addresses)
    return tuple(text for check in checks for text in check(report))
