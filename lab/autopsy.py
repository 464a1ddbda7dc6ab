"""Finding out why a guest ended abnormally.

The machine is deterministic, so the way to a crash can be seen after the event: a second
run of the same guest is stopped a few instructions earlier and stepped to the place. Where
nothing retires any more, the first exception there is the cause and what came after it is
noise; the second run catches the first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from emu.arch.a64.maintenance import AT
from emu.arch.address import IPA, PAGE_MASK, PAGE_SHIFT, VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.explain import explain
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ESR_EL1,
    ESR_EL2,
    FAR_EL1,
    FAR_EL2,
    HPFAR_EL2,
    PAR_EL1,
    SPSR_EL1,
    VBAR_EL1,
)
from hyp.errors import Errno
from hyp.events import KvmEntry, KvmGuestFault
from lab.crash import CrashReport, Step
from lab.monitor import EndReason
from lab.sizes import format_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyp.events import Event
    from lab.monitor import End
    from lab.vmm import Vmm

STEPS = 8
"""Instructions shown before the place."""

LOOP_STEPS = 64
"""Instructions watched to see where a guest that does not end goes round."""

REPLAY_LIMIT = 200_000_000
"""Instructions that a second run may take. A guest that crashes later is shown without its path."""

VECTOR_SIZE = 0x80
VECTORS_SIZE = 0x800
"""Of one vector and of the table, in bytes."""

INSTRUCTION_BYTES = 4


def diagnose(vmm: Vmm, end: End, again: Callable[[], Vmm]) -> CrashReport | None:
    """Return what is known of an abnormal end; None for a normal one and for Ctrl-C.

    Parameters
    ----------
    vmm : Vmm
        The guest as it ended. It may be run on, so nothing must be read from it later.
    end : End
        How it ended.
    again : Callable[[], Vmm]
        Makes the same guest at its reset.
    """
    match end.reason:
        case EndReason.BUDGET:
            return _loop(vmm, end)
        case EndReason.IDLE:
            return _waiting(vmm, end, _replay(vmm, again))
        case EndReason.STUCK:
            return _stuck(vmm, _replay(vmm, again))
        case EndReason.CRASHED:
            return _failed(vmm, end, _replay(vmm, again))
    return None


# A guest that does not end


def _loop(vmm: Vmm, end: End) -> CrashReport:
    """Run on for a moment and see where the guest goes round."""
    pc, el = vmm.vcpu.pc, vmm.vcpu.pstate.EL
    recorder = Recorder(vmm)
    recorder.step(LOOP_STEPS)
    steps = recorder.steps
    body = loop_body(steps)
    taken: ExceptionTaken | None = None
    if any(_is_vector(vmm, step.pc) for step in steps):
        taken = _exception_at_el1(vmm)
        doing = "it takes one exception after another"
        advice = "see what the handler does about this exception"
    elif body:
        doing = f"it goes round a loop of {len(body)} instruction{'s'[: len(body) > 1]}"
        advice = "see what the loop waits for; if it only needs more time, raise --max-insns"
    else:
        doing = "it executes code of which no loop can be seen"
        advice = "if it only needs more time, raise --max-insns"
    return CrashReport(
        what=f"{end.detail}: {doing}",
        pc=pc,
        el=el,
        syndrome="" if taken is None else taken.syndrome,
        registers=() if taken is None else taken.registers,
        steps=tuple((body or steps)[:STEPS]),
        advice=advice,
    )


def loop_body(steps: Sequence[Step]) -> list[Step]:
    """Return one round of the loop in which ``steps`` end; nothing if none can be seen twice."""
    pcs = [step.pc for step in steps]
    for length in range(1, len(pcs) // 2 + 1):
        if pcs[-length:] == pcs[-2 * length : -length]:
            body = list(steps[-length:])
            first = min(range(length), key=lambda n: body[n].pc)
            return body[first:] + body[:first]
    return []


def _waiting(vmm: Vmm, end: End, replay: Replay | None) -> CrashReport:
    steps = [_here(vmm)] if replay is None else replay.recorder.steps
    return CrashReport(
        what=end.detail,
        pc=steps[-1].pc,
        el=vmm.vcpu.pstate.EL,
        steps=tuple(steps),
        advice="set a timer before WFI, or end the guest with PSCI SYSTEM_OFF",
    )


# A guest that retires nothing any more


def _stuck(vmm: Vmm, replay: Replay | None) -> CrashReport:
    vector = vmm.vcpu.pc
    has_handler = _fetch(vmm, vector) is not None
    taken = _exception_at_el1(vmm)
    if not has_handler and replay is not None:
        taken = replay.recorder.first_exception or taken
    steps = [] if replay is None else replay.recorder.steps
    while steps and steps[-1].pc == taken.pc:
        steps.pop()
    place = Step(taken.pc, _fetch(vmm, taken.pc))
    if has_handler:
        what = (
            f"nothing retires any more: the handler of exceptions takes one itself, at "
            f"{format_address(place.pc)}"
        )
        advice = "see that the handler's code and stack are mapped and aligned"
    elif place.word is None:
        what = f"the guest jumped to {format_address(place.pc)}, where no code can be fetched"
        advice = "see the branch before it: a wrong target, or a return address overwritten"
    else:
        what = (
            f"the exception at {format_address(place.pc)} found no code at its vector, "
            f"{format_address(vector)}"
        )
        advice = "set VBAR_EL1 to a table of vectors before the first exception, or avoid this one"
    return CrashReport(
        what=what,
        pc=place.pc,
        el=taken.el,
        syndrome=taken.syndrome,
        registers=taken.registers,
        steps=(*steps[-STEPS:], place),
        advice=advice,
    )


# A run that the hypervisor could not go on with


def _failed(vmm: Vmm, end: End, replay: Replay | None) -> CrashReport:
    esr, far, hpfar = vmm.pe.read(ESR_EL2), vmm.pe.read(FAR_EL2), vmm.pe.read(HPFAR_EL2)
    steps = [_here(vmm)] if replay is None else replay.recorder.steps
    advice = "see the way to it with --trace"
    if Errno.ENOSYS.name in end.detail:
        advice = "mend the address, or let --nisv answer such an access with an external abort"
    return CrashReport(
        what=end.detail,
        pc=steps[-1].pc,
        el=vmm.vcpu.pstate.EL,
        syndrome=explain(esr, far, hpfar).sentence,
        registers=(("ESR_EL2", esr), ("FAR_EL2", far)),
        steps=tuple(steps),
        advice=advice,
    )


# A second run


class Replay(NamedTuple):
    """A second run, and what was recorded of its last steps."""

    vmm: Vmm
    recorder: Recorder


def _replay(vmm: Vmm, again: Callable[[], Vmm]) -> Replay | None:
    """Run the guest again, up to what ended it."""
    retired = vmm.retired
    if retired > REPLAY_LIMIT:
        return None
    second = again()
    if retired > STEPS:
        second.monitor.run(retired - STEPS)
    recorder = Recorder(second)
    recorder.step(min(retired, STEPS) + 1)
    return Replay(second, recorder)


class Recorder:
    """Follows a guest instruction by instruction.

    Attributes
    ----------
    steps : list[Step]
        What was executed, up to the first exception.
    first_exception : ExceptionTaken or None
        The first exception whose vector could not be fetched at once.
    """

    def __init__(self, vmm: Vmm) -> None:
        self._vmm = vmm
        self._last = (-1, -1)
        self._fault: KvmGuestFault | None = None
        self.steps: list[Step] = []
        self.first_exception: ExceptionTaken | None = None

    def step(self, count: int) -> None:
        """Execute ``count`` instructions, if it goes on for so long."""
        vmm = self._vmm
        vmm.vm.events.subscribe(self._note)
        for _ in range(count):
            self._add(vmm.vcpu.pc, vmm.retired)
            if vmm.monitor.run(vmm.retired + 1).reason is not EndReason.BUDGET:
                break
        vmm.vm.events.unsubscribe(self._note)

    def _add(self, pc: VA, retired: int) -> None:
        if (pc, retired) == self._last or self.first_exception is not None:
            return
        self._last = (pc, retired)
        step = Step(pc, _fetch(self._vmm, pc))
        if step.word is not None or not _is_vector(self._vmm, pc):
            self.steps.append(step)

    def _note(self, event: Event) -> None:
        """Look at what happens between two instructions that retire.

        An instruction that traps and is emulated does not retire; the hypervisor then
        enters the guest behind it, and that is another step.
        """
        if isinstance(event, KvmGuestFault):
            if not _is_vector(self._vmm, event.vcpu_pc):
                self._fault = event
            elif self.first_exception is None:
                self.first_exception = self._taken()
        elif isinstance(event, KvmEntry) and not _is_vector(self._vmm, event.vcpu_pc):
            self._add(event.vcpu_pc, event.time)

    def _taken(self) -> ExceptionTaken:
        """Return the exception that the guest has just taken, as EL2 saw it if EL2 gave it."""
        taken = _exception_at_el1(self._vmm)
        fault = self._fault
        if fault is None or fault.vcpu_pc != taken.pc:
            return taken
        if ESR_EL1(taken.esr).EC not in ABORTS:
            return taken
        hpfar = HPFAR_EL2.build(FIPA=fault.ipa >> PAGE_SHIFT)
        return taken._replace(
            syndrome=explain(fault.hsr, fault.hxfar, hpfar).sentence,
            registers=(
                ("ESR_EL2", fault.hsr),
                ("FAR_EL2", int(fault.hxfar)),
                ("HPFAR_EL2", int(hpfar)),
            ),
        )


# Looking at a guest


class ExceptionTaken(NamedTuple):
    """An exception that EL1 took: where, why in words, and the registers that say so."""

    pc: VA
    el: int
    esr: int
    syndrome: str
    registers: tuple[tuple[str, int], ...]


ABORTS = {
    ExceptionClass.IABT_LOW,
    ExceptionClass.IABT_CUR,
    ExceptionClass.DABT_LOW,
    ExceptionClass.DABT_CUR,
}


def _is_vector(vmm: Vmm, pc: VA) -> bool:
    offset = pc - vmm.pe.read(VBAR_EL1)
    return 0 <= offset < VECTORS_SIZE and offset % VECTOR_SIZE == 0


def _here(vmm: Vmm) -> Step:
    return Step(vmm.vcpu.pc, _fetch(vmm, vmm.vcpu.pc))


def _fetch(vmm: Vmm, pc: VA) -> int | None:
    """Return the instruction at ``pc`` in the guest's address space, or None."""
    if pc % INSTRUCTION_BYTES:
        return None
    pe = vmm.pe
    saved = pe.read(PAR_EL1)
    pe.at(AT.S1E1R, pc)
    par = pe.read(PAR_EL1)
    pe.write(saved)
    if par.F:
        return None
    code = vmm.vm.read_guest(IPA(par.PA << PAGE_SHIFT | pc & PAGE_MASK), INSTRUCTION_BYTES)
    return None if code is None else int.from_bytes(code, "little")


def _exception_at_el1(vmm: Vmm) -> ExceptionTaken:
    """Return the exception that EL1 took last."""
    pe = vmm.pe
    esr, far, elr = pe.read(ESR_EL1), pe.read(FAR_EL1), pe.read(ELR_EL1)
    registers = (
        ("ESR_EL1", int(esr)),
        ("FAR_EL1", int(far)),
        ("ELR_EL1", int(elr)),
        ("VBAR_EL1", int(pe.read(VBAR_EL1))),
    )
    sentence = explain(esr, far, taken_to=1).sentence
    return ExceptionTaken(VA(elr), pe.read(SPSR_EL1).EL, int(esr), sentence, registers)
