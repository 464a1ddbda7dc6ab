"""Executes a case: EL2's part, and what it reads from the machine after each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, assert_never

from emu.arch.address import PA, VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.registers.control import CPACR_EL1
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    ESR_EL2,
    FAR_EL1,
    FAR_EL2,
    HPFAR_EL2,
    PAR_EL1,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
)
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu.pe import EL2Entry
from lab.conformance.cases import (
    MEMORY_BASE,
    VECTOR_BYTES,
    VECTORS,
    Invalidate,
    Outcome,
    SetGeneral,
    SetRegister,
    StepKind,
    StepResult,
    Write,
)

if TYPE_CHECKING:
    from lab.conformance.cases import Case, Operation, Step
    from lab.conformance.setup import Bench

BUDGET: Final = 1000
"""Instructions after which a guest, which needs a few, is taken to run for ever."""

FIRST_VECTOR_IMMEDIATE: Final = 0x100
_IMMEDIATE: Final = 0xFFFF
_EL1H: Final = 0x3C5
_HVC: Final = 0xD400_0002
_PROBE_CODE: Final = VA(MEMORY_BASE)
_PROBE_VECTORS: Final = VA(MEMORY_BASE + 0x1_0000)
_PROBE_DATA: Final = MEMORY_BASE + 0x2_0000


class Tables(Enum):
    """Which translation tables the steps of a case leave the guest to see."""

    AS_RECORDED = "as the case says"
    NEW = "new"
    """The TLB is empty after the operations of each step."""
    OLD = "old"
    """Memory, system registers and TLB stay as they are."""


@dataclass(frozen=True, slots=True)
class Run:
    """What the machine did with a case.

    Attributes
    ----------
    steps
        The first run and each step.
    descriptors
        Descriptors that differ from what was stored there, by PA.
    memory
        All cells that are no descriptors, by PA: those that the case fills, and those that
        the answer names.
    """

    steps: tuple[StepResult, ...]
    descriptors: dict[PA, int]
    memory: dict[PA, int]


def execute(
    bench: Bench,
    case: Case,
    cells: frozenset[PA] = frozenset(),
    tables: Tables = Tables.AS_RECORDED,
) -> Run:
    """Run a case from its beginning.

    Parameters
    ----------
    bench
        The machine.
    case
        The case.
    cells
        Further memory to look at afterwards.
    tables
        Whether to make the guest see new or old tables, rather than what the TLB holds.
    """
    bench.prepare(case)
    steps = [_run_guest(bench)]
    for step in case.steps:
        for operation in step.operations:
            if tables is not Tables.OLD or isinstance(operation, SetGeneral):
                _carry_out(bench, operation)
        if tables is Tables.NEW:
            bench.forget()
        steps.append(_go_on(bench, step))
    descriptors = {each.pa for each in case.descriptors}
    changed = {pa: now for pa in descriptors if (now := bench.load(pa)) != bench.memory[pa]}
    memory = {pa: bench.load(pa) for pa in (case.data | cells) - descriptors}
    return Run(tuple(steps), changed, memory)


def _carry_out(bench: Bench, operation: Operation) -> None:
    match operation:
        case Write(pa, value):
            bench.store(pa, value)
        case SetRegister(value):
            bench.set_register(value)
        case SetGeneral(number, value):
            bench.set_x(number, value)
        case Invalidate(tlbi, argument):
            bench.pe.tlbi(tlbi, argument)
        case _:
            assert_never(operation)


def _go_on(bench: Bench, step: Step) -> StepResult:
    if step.translation is not None:
        bench.pe.at(*step.translation)
        return StepResult(Outcome.PAR.value, par=int(bench.pe.read(PAR_EL1)))
    if step.kind is StepKind.RESUME_AT and step.pc is not None:
        bench.pe.write(ELR_EL2(step.pc))
    return _run_guest(bench)


def _run_guest(bench: Bench) -> StepResult:
    """Return to the guest, and say what brought it back."""
    entry = bench.pe.run(BUDGET)
    result = _taken(bench) if entry is EL2Entry.TRAP else StepResult(entry.value)
    result.par = int(bench.pe.read(PAR_EL1))
    result.gpr_changed, result.q_changed = bench.changed_registers()
    return result


def _taken(bench: Bench) -> StepResult:
    """Describe the exception that EL2 was entered with."""
    pe = bench.pe
    esr = pe.read(ESR_EL2)
    if esr.EC != ExceptionClass.HVC64:
        return StepResult(
            Outcome.EXCEPTION.value,
            taken_to=2,
            esr=int(esr),
            far=int(pe.read(FAR_EL2)),
            hpfar=int(pe.read(HPFAR_EL2)),
            elr=int(pe.read(ELR_EL2)),
            spsr=int(pe.read(SPSR_EL2)),
        )
    immediate = esr.ISS & _IMMEDIATE
    vector = immediate - FIRST_VECTOR_IMMEDIATE
    if not 0 <= vector < VECTORS:
        elr = int(pe.read(ELR_EL2))
        return StepResult(Outcome.OK.value, elr=elr, imm=immediate, via="hvc")
    cause = pe.read(ESR_EL1)
    elr = int(pe.read(ELR_EL1))
    if cause.EC == ExceptionClass.SVC64:
        ended_with = cause.ISS & _IMMEDIATE
        return StepResult(Outcome.OK.value, elr=elr, imm=ended_with, via="svc->hvc")
    return StepResult(
        Outcome.EXCEPTION.value,
        taken_to=1,
        esr=int(cause),
        far=int(pe.read(FAR_EL1)),
        elr=elr,
        spsr=int(pe.read(SPSR_EL1)),
        el1_vector=vector * VECTOR_BYTES,
    )


def second_seen(bench: Bench, case: Case, run: Run) -> str:
    """Return which tables the access of the first step saw: new, old, both or neither.

    Found by running the case twice more, once with an empty TLB after the change and once
    without the change.
    """
    second = run.steps[1]
    new = execute(bench, case, tables=Tables.NEW).steps[1] == second
    old = execute(bench, case, tables=Tables.OLD).steps[1] == second
    if new:
        return "both" if old else "new"
    return "old" if old else "neither"


def is_undefined(result: StepResult) -> bool:
    """Whether the guest took the exception of an undefined instruction."""
    return result.taken_to == 1 and result.esr is not None and result.esr >> ESR_EL1.EC.lsb == 0


def knows_instruction(bench: Bench, case: Case, word: int) -> bool:
    """Whether the machine executes an instruction at all, with both stages of translation off.

    Parameters
    ----------
    bench
        The machine.
    case
        Any case, of which the list of registers is used.
    word
        The instruction.
    """
    chosen = {
        HCR_EL2: HCR_EL2.build(RW=1),
        VBAR_EL1: VBAR_EL1(_PROBE_VECTORS),
        CPACR_EL1: CPACR_EL1.build(FPEN=3),
    }
    vectors = {
        PA(_PROBE_VECTORS + VECTOR_BYTES * entry): _HVC | (FIRST_VECTOR_IMMEDIATE + entry) << 5
        for entry in range(VECTORS)
    }
    probe = replace(
        case,
        registers=tuple(chosen.get(type(each), type(each)(0)) for each in case.registers),
        memory={PA(_PROBE_CODE): word | _HVC << 32, **vectors},
        descriptors=(),
        data=frozenset(),
        entry_pc=_PROBE_CODE,
        entry_spsr=_EL1H,
        general=dict.fromkeys(range(31), _PROBE_DATA),
        steps=(),
    )
    first = execute(bench, probe).steps[0]
    return not (is_undefined(first) and first.elr == _PROBE_CODE)
