"""Finds the differences between a recorded answer and what the machine did.

Not every bit that was recorded is architected. What may differ is here, rule by rule; what
may differ in some cases only is in ``deviations.toml``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.a64.loadstore import decode
from emu.arch.a64.maintenance import DC
from emu.arch.a64.system import decode_system
from emu.arch.address import VA
from emu.arch.esr.fsc import EXTERNAL_ABORTS, FaultType
from emu.arch.esr.iss import IssDataAbort
from emu.arch.esr.report import DATA_ABORTS, Report
from emu.arch.registers.exceptions import ExceptionSyndrome
from emu.arch.registers.identification import DCZID_EL0
from lab.conformance.cases import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from emu.arch.features import CpuFeatures
    from lab.conformance.cases import Case, Expectation, StepResult
    from lab.conformance.execute import Run

Value = int | str | None

FINAL: Final = -1
"""The step number of what is compared once, after all steps."""

FIELDS: Final = (
    "outcome",
    "taken_to",
    "esr",
    "far",
    "hpfar",
    "elr",
    "spsr",
    "el1_vector",
    "imm",
    "via",
    "par",
    "gpr_changed",
    "q_changed",
    "descs_after",
    "mem_after",
    "second_seen",
)
"""What is compared."""

_PLAIN: Final = ("taken_to", "elr", "spsr", "el1_vector", "imm", "via", "par")
_HPFAR_FAULTS: Final = frozenset(
    {FaultType.TRANSLATION, FaultType.ACCESS_FLAG, FaultType.ADDRESS_SIZE}
)
_ADDRESS: Final = (1 << 56) - 1
"""A VA without its tag."""
_WORD: Final = 4
_EXTERNAL_BITS: Final = 0x1FF_F800
"""ISS[24:11] of a data abort: the instruction syndrome, and SET with FEAT_RAS."""
_SET: Final = 0x1800


class Difference(NamedTuple):
    """One value that is not as recorded."""

    step: int
    """0 is the first run; :data:`FINAL` what is compared after all steps."""
    field: str
    """One of :data:`FIELDS`."""
    item: str
    """Which register, descriptor or memory cell, where the field has several."""
    recorded: Value
    """None: not changed, not there."""
    here: Value


def compare(
    case: Case, expectation: Expectation, run: Run, seen: str | None, features: CpuFeatures
) -> list[Difference]:
    """Return all differences, in the order of the steps.

    Parameters
    ----------
    case
        What was run.
    expectation
        The recorded answer.
    run
        What the machine did.
    seen
        Which tables the second access saw; None if it is not compared.
    features
        The CPU of the machine.
    """
    found = [*_steps(case, expectation, run, features)]
    if _may_be_stale(case, expectation, seen):
        return [each for each in found if each.step == 0]
    if not any(each.field == "outcome" for each in found):
        found += _descriptors(case, expectation, run)
        if not _stopped_half_way(case, len(case.steps), expectation.steps[-1]):
            found += _memory(case, expectation, run)
    if expectation.second_seen is not None and seen != expectation.second_seen:
        found.append(Difference(1, "second_seen", "", expectation.second_seen, seen))
    return found


def _may_be_stale(case: Case, expectation: Expectation, seen: str | None) -> bool:
    """Whether the second access may see either the old or the new tables, and saw one of them.

    How long a TLB keeps what it may keep is its own affair, and this machine's is not the
    recording's.
    """
    compared = expectation.second_seen is not None
    return compared and not case.must_be_new and seen != "neither"


def _steps(
    case: Case, expectation: Expectation, run: Run, features: CpuFeatures
) -> Iterator[Difference]:
    """Compare step by step, up to one that ends otherwise: what follows, follows from that."""
    for number, (recorded, here) in enumerate(zip(expectation.steps, run.steps, strict=True)):
        if recorded.outcome != here.outcome:
            yield Difference(number, "outcome", "", recorded.outcome, here.outcome)
            return
        yield from _step(case, number, recorded, here, features)


def _step(
    case: Case, number: int, recorded: StepResult, here: StepResult, features: CpuFeatures
) -> Iterator[Difference]:
    """Compare one step with the same outcome."""
    word = case.code.get(VA(recorded.elr), 0) if recorded.elr is not None else 0
    partial = _stopped_half_way(case, number, recorded)
    for name in _PLAIN:
        expected, value = getattr(recorded, name), getattr(here, name)
        if expected is not None and expected != value:
            yield Difference(number, name, "", expected, value)
    if recorded.esr is not None and not _same_esr(recorded.esr, here.esr, word):
        yield Difference(number, "esr", "", recorded.esr, here.esr)
    if recorded.far is not None and not _same_far(recorded.far, here.far, word, features):
        yield Difference(number, "far", "", recorded.far, here.far)
    has_hpfar = recorded.hpfar is not None and _hpfar_is_architected(recorded)
    if has_hpfar and recorded.hpfar != here.hpfar:
        yield Difference(number, "hpfar", "", recorded.hpfar, here.hpfar)
    if recorded.gpr_changed is not None:
        unknown = _destinations(word) if partial else ()
        yield from _registers(
            number, "gpr_changed", recorded.gpr_changed, here.gpr_changed, unknown
        )
    if recorded.q_changed is not None and not partial:
        yield from _registers(number, "q_changed", recorded.q_changed, here.q_changed)


def _registers(
    number: int,
    field: str,
    recorded: Mapping[str, int],
    here: Mapping[str, int] | None,
    unknown: tuple[str, ...] = (),
) -> Iterator[Difference]:
    """Compare which registers changed, and to what."""
    here = here or {}
    for name in sorted({*recorded, *here}, key=lambda name: (len(name), name)):
        if name not in unknown and recorded.get(name) != here.get(name):
            yield Difference(number, field, name, recorded.get(name), here.get(name))


def _descriptors(case: Case, expectation: Expectation, run: Run) -> Iterator[Difference]:
    """Compare what the walker wrote. No other descriptor may change."""
    for each in case.descriptors:
        recorded, here = expectation.descriptors.get(each.pa), run.descriptors.get(each.pa)
        if recorded != here:
            yield Difference(FINAL, "descs_after", each.name, recorded, here)


def _memory(case: Case, expectation: Expectation, run: Run) -> Iterator[Difference]:
    """Compare memory where changes were recorded: no other cell of the data may change then."""
    if expectation.memory is None:
        return
    for pa in sorted(run.memory):
        recorded = expectation.memory.get(pa, case.memory.get(pa, 0))
        if run.memory[pa] != recorded:
            yield Difference(FINAL, "mem_after", f"{pa:#x}", recorded, run.memory[pa])


# Rules


def _report(recorded: StepResult) -> Report:
    return Report(
        ExceptionSyndrome(recorded.esr or 0),
        None if recorded.far is None else VA(recorded.far),
        None,
        recorded.taken_to or 2,
    )


def _hpfar_is_architected(recorded: StepResult) -> bool:
    """Whether HPFAR_EL2 is defined: faults of a stage-1 walk, and those that have no IPA else.

    Permission faults, external aborts and others leave it UNKNOWN (Arm ARM, HPFAR_EL2).
    """
    report = _report(recorded)
    if recorded.taken_to != 2 or report.abort is None or report.status is None:
        return False
    return bool(report.abort.S1PTW) or report.status.fault in _HPFAR_FAULTS


def _same_esr(recorded: int, here: int | None, word: int) -> bool:
    """Compare syndromes, without the bits that a CPU is free to choose."""
    if here is None:
        return False
    esr = ExceptionSyndrome(recorded)
    free = 0
    if esr.EC in DATA_ABORTS:
        iss = IssDataAbort(esr.ISS)
        if iss.S1PTW:
            free |= IssDataAbort.WnR.in_place
        if iss.ISV and _is_limited_order(word):
            free |= IssDataAbort.AR.in_place
        external = iss.DFSC in _EXTERNAL_CODES
        if external and iss.ISV:
            # With FEAT_RAS an external abort has no instruction syndrome; SET may be there.
            free |= _SET if IssDataAbort(here).ISV else _EXTERNAL_BITS
    return not (recorded ^ here) & ~free


_EXTERNAL_CODES: Final = frozenset(
    code for code in IssDataAbort.DFSC.kind or () if code.fault in EXTERNAL_ABORTS
)


def _is_limited_order(word: int) -> bool:
    access = decode(word)
    return access is not None and access.limited_order


def _same_far(recorded: int, here: int | None, word: int, features: CpuFeatures) -> bool:
    """Compare fault addresses; DC ZVA may report any address of its block."""
    if here is None:
        return False
    instruction = decode_system(word)
    if instruction is not None and instruction.operation is DC.ZVA:
        block = _WORD << features.read(DCZID_EL0).BS
        return recorded // block == here // block
    return recorded == here


def _stopped_half_way(case: Case, number: int, recorded: StepResult) -> bool:
    """Whether the step ended in an access whose beginning had not faulted.

    What such an access leaves behind (destination registers, part of a store) is UNKNOWN.
    """
    if recorded.outcome != Outcome.EXCEPTION.value or recorded.far is None:
        return False
    if ExceptionSyndrome(recorded.esr or 0).EC not in DATA_ABORTS:
        return False
    start = case.access_va
    if number and case.second_va is not None:
        start = case.second_va
    return bool((recorded.far ^ start) & _ADDRESS)


def _destinations(word: int) -> tuple[str, ...]:
    """Return the general registers that a load writes."""
    access = decode(word)
    if access is None or access.simd or not access.reads:
        return ()
    return tuple(f"x{n}" for n in (access.rt, access.rt2) if n is not None)
