"""One processing element: EL0 and EL1 run on the engine, EL2 is whoever calls :meth:`run`.

Here is what EL2 software sees of it, and the parts it is made of. The engine leaves Python alone
until it needs a translation (:mod:`emu.cpu.refill`), executes an instruction that concerns the
machine (:mod:`emu.cpu.callbacks`), or raises an exception, which :mod:`emu.cpu.guest` takes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from emu.arch.address import PA, PAGE_MASK, PAGE_SHIFT, VA
from emu.arch.fields import SystemRegister
from emu.arch.registers.exceptions import ELR_EL2, PSTATE, SPSR_EL2
from emu.arch.registers.identification import CTR_EL0
from emu.arch.registers.virtualization import HCR_EL2, MDCR_EL2
from emu.cpu import effects, maintenance, system
from emu.cpu.callbacks import Callbacks
from emu.cpu.changedcode import ChangedCode
from emu.cpu.code import CodePages
from emu.cpu.debug import Debug
from emu.cpu.engine import Engine
from emu.cpu.execution import Execution
from emu.cpu.guest import EL2Entry, Guest
from emu.cpu.icache import InstructionCache
from emu.cpu.probe import Probe
from emu.cpu.progress import ProgressCount
from emu.cpu.refill import Refill
from emu.cpu.registers import ZERO_REGISTER, RegisterFile
from emu.cpu.strictness import Strictness
from emu.cpu.watch import Watch
from emu.mmu.at import address_translate, fault_report
from emu.mmu.fault import Fault
from emu.mmu.mmu import Mmu
from emu.mmu.permissions import EL1
from emu.units.pmu import PerformanceMonitors
from emu.units.random_numbers import RandomNumbers
from emu.units.timer import GenericTimer, TimerLine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from emu.arch.a64.maintenance import AT, DC, IC
    from emu.arch.a64.tlbi import TLBI
    from emu.arch.features import CpuFeatures
    from emu.cpu.maintenance import Disturbance
    from emu.memory import PhysicalMemory
    from emu.mmu.tlbi import Invalidation
    from emu.units.clock import Clock

R = TypeVar("R", bound=SystemRegister)

__all__ = ["EL2Entry", "ProcessingElement"]

_WORD: Final = 4
"""CTR_EL0 gives line sizes as logarithms of words."""
_TEA: Final = HCR_EL2.TEA.in_place


class ProcessingElement:
    """One PE of the machine, as EL2 software sees it.

    Attributes
    ----------
    index
        Its number in the machine.
    mmu, timer, pmu, random_numbers, registers, engine, blocks, code, changed_code, icache
        Its parts. EL2 software uses :meth:`read`, :meth:`write` and the maintenance
        methods instead.
    execution, guest, progress, strictness, debug, watch, refill
        What it does while the guest runs.
    probe
        What somebody outside of the machine is told; no part of the machine.
    el2_vector
        EL2's handler of synchronous exceptions. It returns True to ERET straight back, False
        to leave :meth:`run`. None leaves always.
    maintenance
        Maintenance instructions executed by EL1 and by EL2, by name.
    disturbances
        What happens to maintenance instructions that does not happen to a PE in order.
    tlbi_entries
        TLB entries that TLBI instructions removed, by operation name.
    tlbi_count, tlbi_without_hit
        TLBI instructions executed, and those of them that found nothing to remove.
    on_tlbi
        Called with every TLBI; None while nobody listens.
    clock
        The machine's time.
    stale
        Whether a register has changed from which the translation regime is decoded.
    """

    NOT_STATE: ClassVar = frozenset({"on_tlbi"})
    NOT_COMPARED: ClassVar = frozenset(
        {"maintenance", "tlbi_count", "tlbi_entries", "tlbi_without_hit"}
    )

    def __init__(
        self, index: int, memory: PhysicalMemory, features: CpuFeatures, clock: Clock
    ) -> None:
        self.index = index
        self.clock = clock
        self.memory = memory
        self.features = features
        self.peers: Sequence[ProcessingElement] = (self,)
        self.el2_vector: Callable[[], bool] | None = None
        self.maintenance: Counter[str] = Counter()
        self.disturbances: list[Disturbance] = []
        self.tlbi_entries: Counter[str] = Counter()
        self.tlbi_count = 0
        self.tlbi_without_hit = 0
        self.on_tlbi: Callable[[Invalidation], None] | None = None
        self.stale = True
        ctr = features.read(CTR_EL0)
        self._icache_line = _WORD << ctr.IminLine
        self._dcache_line = _WORD << ctr.DminLine
        self.mmu = Mmu(memory, features)
        self.execution = Execution(self)
        self.strictness = Strictness(self)
        self.debug = Debug(self)
        self.probe = Probe(self)
        self.changed_code = ChangedCode(self)
        callbacks = Callbacks(self)
        self.engine = Engine(
            memory,
            callbacks.on_fill,
            callbacks.on_interrupt,
            callbacks.on_system,
            callbacks.on_code,
            armv8_0=features.armv8_0,
            pstate_mask=~0 if features.bti else ~PSTATE.BTYPE.in_place,
        )
        self.blocks = self.engine.blocks
        self.timer = GenericTimer(self._now)
        self.random_numbers = RandomNumbers(index)
        self.progress = ProgressCount(self)
        self.pmu = PerformanceMonitors(features, self.progress.made, self._monitor_controls)
        self.registers = RegisterFile(self.engine, features, self.timer, self.pmu, index)
        self._consequential = effects.CONTROLS | self.timer.registers | self.pmu.registers
        self.icache = InstructionCache(self, memory, self._icache_line)
        self.code = CodePages(self.icache, self.engine, features, self._intercept)
        self.watch = Watch(self)
        self.refill = Refill(self)
        self.guest = Guest(self)
        effects.counters_changed(self)

    # Time

    @property
    def retired(self) -> int:
        """Instructions retired so far; exact whenever Python runs."""
        return self.execution.retired

    @property
    def time(self) -> int:
        """The machine's time: what all PEs retired, and the time in which none ran."""
        return self.clock.now

    # For its units. They are no lambdas: compiled ones have no name, which a digest needs.

    def _now(self) -> int:
        return self.clock.now

    def _monitor_controls(self) -> int:
        return self.registers.el2(MDCR_EL2)

    # What EL2 software does

    def read(self, register: type[R]) -> R:
        """Read a system register of EL1 or EL2."""
        return self.registers.read(register)

    def write(self, value: SystemRegister) -> None:
        """Write a system register of EL1 or EL2: ``pe.write(TCR_EL1.build(T0SZ=25))``."""
        if not isinstance(value, SystemRegister):
            raise TypeError(
                f"{value!r} does not say which register it is for; write SCTLR_EL1({value!r}) or so"
            )
        register = type(value)
        old = self.registers.el2(HCR_EL2)
        self.registers.write(value)
        if register in self._consequential:
            effects.follow(self, (register,), (value,), old)

    def word(self, register: type[SystemRegister]) -> int:
        """Read a system register as a plain number, for who is in a hurry."""
        return self.registers.word(register)

    def set_return(self, pc: int, pstate: int) -> None:
        """Write ELR_EL2 and SPSR_EL2: where ERET goes."""
        self.registers.set_el2(ELR_EL2, pc)
        self.registers.set_el2(SPSR_EL2, pstate)

    def read_list(self, registers: tuple[type[SystemRegister], ...]) -> list[int]:
        """Read system registers, as :meth:`read` does each, but quickly."""
        return self.registers.read_list(registers)

    def write_list(
        self, registers: tuple[type[SystemRegister], ...], values: Sequence[int]
    ) -> None:
        """Write system registers, as :meth:`write` does each, but quickly."""
        old = self.registers.el2(HCR_EL2)
        self.registers.write_list(registers, values)
        effects.follow(self, registers, values, old)

    def read_x(self, number: int) -> int:
        """Read general register 0 to 30; 31 is zero."""
        _check_number(number)
        return self.registers.x(number)

    def write_x(self, number: int, value: int) -> None:
        """Write general register 0 to 30; 31 is ignored."""
        _check_number(number)
        self.registers.set_x(number, value)

    def read_q(self, number: int) -> int:
        """Read SIMD&FP register 0 to 31: 128 bits."""
        _check_number(number)
        return self.registers.q(number)

    def write_q(self, number: int, value: int) -> None:
        """Write SIMD&FP register 0 to 31."""
        _check_number(number)
        self.registers.set_q(number, value)

    def read_all_x(self) -> list[int]:
        """Read general registers 0 to 30."""
        return self.registers.all_x()

    def write_all_x(self, values: Sequence[int]) -> None:
        """Write general registers 0 to 30."""
        self.registers.set_all_x(values)

    def read_all_q(self) -> list[int]:
        """Read SIMD&FP registers 0 to 31: 128 bits each."""
        return self.registers.all_q()

    def write_all_q(self, values: Sequence[int]) -> None:
        """Write SIMD&FP registers 0 to 31."""
        self.registers.set_all_q(values)

    def tlbi(
        self,
        operation: TLBI,
        argument: int = 0,
        *,
        pc: VA | None = None,
        engine_follows: bool = False,
    ) -> int:
        """Execute a TLBI for the current VMID.

        Parameters
        ----------
        operation
            The instruction.
        argument
            Xt, as :mod:`emu.arch.a64.tlbi_arguments` encodes it.
        pc
            Where the guest executes it; None for EL2.
        engine_follows
            Whether the engine then executes it, too, if it removes just the page it names.

        Returns
        -------
        int
            How many TLB entries it removed, on all PEs that it reaches.
        """
        return maintenance.tlbi(self, operation, argument, pc, engine_follows=engine_follows)

    def at(self, operation: AT, va: VA) -> None:
        """Execute an address translation; the answer is in PAR_EL1."""
        self.refresh()
        pan = bool(self.registers.el2(SPSR_EL2) & SPSR_EL2.PAN.in_place)
        result = address_translate(self.mmu, operation, va, pan=pan)
        self.registers.write(fault_report(result) if isinstance(result, Fault) else result)

    def ic(self, operation: IC, pa: PA | None = None, size: int = 1) -> None:
        """Execute an instruction cache operation, or a loop of them over ``size`` bytes.

        EL2's stage 1 is off, so an operation by VA names its lines by their PA.
        """
        if pa is None:
            maintenance.cache(self, operation, None, by_guest=False)
        else:
            maintenance.instruction_lines(self, operation, pa, size, self._icache_line)

    def dc(self, operation: DC, pa: PA | None = None, size: int = 1) -> None:
        """Execute a data cache operation, or a loop of them over ``size`` bytes.

        The data caches are coherent: there is nothing to do but count.
        """
        maintenance.data_lines(self, operation, pa, size, self._dcache_line)

    def interrupt_on_timers(self, *, virtual: bool, physical: bool) -> None:
        """Choose which timers of EL1 interrupt EL2, as EL2 would at the interrupt controller."""
        lines = TimerLine.VIRTUAL * virtual | TimerLine.PHYSICAL * physical
        if lines != self.timer.interrupting:
            self.timer.interrupting = TimerLine(lines)
            if self.execution.running:
                self.execution.timer_changed = True

    def wait_for_interrupt(self, *, virtual: bool = True) -> bool:
        """Execute WFI: let time pass until the next timer interrupt is due.

        Parameters
        ----------
        virtual
            Whether the virtual timer's interrupt ends the wait, or only the physical one's.

        Returns
        -------
        bool
            False if nothing will ever end the wait; no time passes then.
        """
        lines = TimerLine.PHYSICAL | (TimerLine.VIRTUAL if virtual else TimerLine(0))
        due = self.timer.next_event(lines)
        if due is None:
            return False
        self.clock.wait_until(due)
        return True

    def run(self, budget: int) -> EL2Entry:
        """ERET to ELR_EL2 and SPSR_EL2, and run the guest until EL2 is entered for good.

        Parameters
        ----------
        budget
            Instructions after which EL2 takes the PE back.

        Raises
        ------
        ValueError
            If SPSR_EL2 does not name EL0 or EL1 in AArch64.
        """
        return self.guest.run(budget)

    # Services for the rest of the CPU

    @property
    def external_aborts_to_el2(self) -> bool:
        """HCR_EL2.TEA."""
        return bool(self.registers.el2(HCR_EL2) & _TEA)

    def controls_changed(self) -> None:
        """Note that a register of the translation regime changes."""
        self.stale = True
        self.engine.flush_tlb()

    def state_replaced(self, changed: Iterable[PA]) -> None:
        """Have the engine follow, now that registers, memory and all else are those of a snapshot.

        Parameters
        ----------
        changed
            The pages of :attr:`CodePages.pages` that have other contents than before.
        """
        effects.counters_changed(self)
        for pa in changed:
            self.changed_code.pages.update(self.code.changed(pa))
        if self.changed_code.pages:
            self.changed_code.forget()
        self.strictness.choose()
        self.engine.break_at(self.debug.addresses)
        self.engine.flush_tlb()

    def leave_engine(self) -> None:
        """Have nothing of what the engine is about to execute kept, if it has called EL2."""
        if self.execution.running:
            self.debug.stale = True

    def refresh(self) -> None:
        """Decode the translation regime again if a control register has changed."""
        if self.stale:
            self.mmu.load(self.registers.controls())
            self.stale = False
            self.strictness.choose()

    def word_at(self, pc: VA) -> int:
        """Return the instruction at ``pc``, or 0 if it cannot be fetched."""
        page = self.code.scanned.get(pc >> PAGE_SHIFT)
        if page is None:
            self.refresh()
            found = self.mmu.translate(pc, 0, EL1)
            if isinstance(found, Fault):
                return 0
            page = found.page
        if self.icache.copies:
            return self.icache.view(page).cast("I")[(pc & PAGE_MASK) // _WORD]
        return self.memory.read_instruction(PA(page | pc & PAGE_MASK))

    def _intercept(self, word: int) -> bool:
        """Whether a system instruction matters to this PE as EL2 has set it up."""
        hcr = self.registers.el2(HCR_EL2)
        return system.intercept(word, self.features) or system.traps_zeroing(word, hcr)


def _check_number(number: int) -> None:
    if not 0 <= number <= ZERO_REGISTER:
        raise ValueError(f"there is no register {number}; use 0 to {ZERO_REGISTER}")
