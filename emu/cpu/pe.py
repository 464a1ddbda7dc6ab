"""One processing element: EL0 and EL1 run on the engine, EL2 is whoever calls :meth:`run`.

The engine leaves Python alone until it needs a translation, executes an instruction that
concerns the machine, or raises an exception. Exceptions are values; they are taken here.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

from emu.arch.a64.access import AccessKind
from emu.arch.a64.loadstore import decode
from emu.arch.a64.maintenance import AT, DC, IC
from emu.arch.a64.operations import Shareability
from emu.arch.a64.stack import SP_ALIGNMENT
from emu.arch.a64.system import decode_system
from emu.arch.address import PA, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, VA
from emu.arch.exceptions import ExceptionKind
from emu.arch.fields import SystemRegister
from emu.arch.registers.control import CPACR_EL1
from emu.arch.registers.exceptions import ELR_EL2, PSTATE, SP_EL0, SP_EL1, SPSR_EL2, Mode
from emu.arch.registers.identification import CTR_EL0
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import HCR_EL2, MDCR_EL2
from emu.cpu import instructions, interrupts, system
from emu.cpu.blocks import INSTRUCTION_BYTES
from emu.cpu.code import CodePages
from emu.cpu.engine import Engine, Interrupt
from emu.cpu.exception import ArmException
from emu.cpu.internals import EngineError
from emu.cpu.refill import Refill
from emu.cpu.registers import TRANSLATION_CONTROLS, ZERO_REGISTER, RegisterFile
from emu.cpu.watch import Watch
from emu.mmu.at import address_translate, fault_report
from emu.mmu.fault import Fault
from emu.mmu.mmu import Mmu
from emu.mmu.permissions import EL1, EXECUTE
from emu.mmu.tlbi import Invalidation
from emu.units.pmu import PerformanceMonitors, Progress
from emu.units.timer import GenericTimer, TimerLine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from emu.arch.a64.tlbi import TLBI
    from emu.arch.features import CpuFeatures
    from emu.memory import PhysicalMemory

R = TypeVar("R", bound=SystemRegister)

LONGEST_BLOCK: Final = PAGE_SIZE // INSTRUCTION_BYTES
"""Instructions in the longest block: blocks do not cross pages."""

FEW_PAGES: Final = 16
"""Of more pages than these, all translated code is forgotten, which is quicker."""

LIVELOCK_LIMIT: Final = 1000
"""Exceptions in a row without one retired instruction after which the PE gives up."""

_GUEST_MODES: Final = frozenset({Mode.EL0t, Mode.EL1t, Mode.EL1h})
_STACK_POINTERS: Final = frozenset({SP_EL0, SP_EL1})
_WORD: Final = 4
"""CTR_EL0 gives line sizes as logarithms of words."""
_TEA: Final = HCR_EL2.TEA.in_place


class EL2Entry(Enum):
    """Why the guest stopped and EL2 runs."""

    TRAP = "a synchronous exception"
    """Described by ESR_EL2, FAR_EL2, HPFAR_EL2, ELR_EL2 and SPSR_EL2."""
    IRQ = "the budget of instructions is spent, a timer of the PE fires, or a counter overflows"
    LIVELOCK = "exceptions without progress"
    """The guest takes exception after exception and retires nothing."""


class ProcessingElement:
    """One PE of the machine, as EL2 software sees it.

    Attributes
    ----------
    index
        Its number in the machine.
    mmu, timer, pmu, registers, engine, code
        Its parts. EL2 software uses :meth:`read`, :meth:`write` and the maintenance
        methods instead.
    el2_vector
        EL2's handler of synchronous exceptions. It returns True to ERET straight back, False
        to leave :meth:`run`. None leaves always.
    maintenance
        Maintenance instructions executed by EL1 and by EL2, by name.
    tlbi_entries
        TLB entries that TLBI instructions removed, by operation name.
    tlbi_count, tlbi_without_hit
        TLBI instructions executed, and those of them that found nothing to remove.
    on_tlbi
        Called with every TLBI; None while nobody listens.
    idle
        Time spent waiting rather than executing, in instructions.
    restart
        Whether the engine must be left and entered again before anything else executes.
    fetching
        Whether Python runs for the fetch of an instruction, which has not been entered yet.
    """

    def __init__(self, index: int, memory: PhysicalMemory, features: CpuFeatures) -> None:
        self.index = index
        self.memory = memory
        self.features = features
        self.peers: Sequence[ProcessingElement] = (self,)
        self.el2_vector: Callable[[], bool] | None = None
        self.maintenance: Counter[str] = Counter()
        self.tlbi_entries: Counter[str] = Counter()
        self.tlbi_count = 0
        self.tlbi_without_hit = 0
        self.on_tlbi: Callable[[Invalidation], None] | None = None
        self.idle = 0
        self.stale = True
        self.fetching = False
        self._retired = 0
        self._retired_user = 0
        self._exceptions = [0, 0]
        self._accesses = [0, 0]
        self._accessed: tuple[VA, int] | None = None
        self._accesses_left = 0
        self._running = False
        self._pending: ArmException | None = None
        self._answered: bool | None = None
        self._failure: BaseException | None = None
        self._stopped_at: int | None = None
        self._changed_code: dict[VA, PA] = {}
        self._timer_changed = False
        self._device_memory = False
        self._misaligned_stack = False
        self.restart = False
        self._progress = (VA(0), -1, 0)
        self._stalls = 0
        ctr = features.read(CTR_EL0)
        self._icache_line = _WORD << ctr.IminLine
        self._dcache_line = _WORD << ctr.DminLine
        self.mmu = Mmu(memory, features)
        self.engine = Engine(
            memory,
            self._on_fill,
            self._on_interrupt,
            self._on_system,
            self._on_code,
            armv8_0=features.armv8_0,
            pstate_mask=~0 if features.bti else ~PSTATE.BTYPE.in_place,
        )
        self.blocks = self.engine.blocks
        self.timer = GenericTimer(lambda: self.time)
        self.pmu = PerformanceMonitors(
            features, self._progress_made, lambda: self.registers.el2(MDCR_EL2)
        )
        self.registers = RegisterFile(self.engine, features, self.timer, self.pmu, index)
        self.code = CodePages(memory, self.engine, self._intercept)
        self.watch = Watch(self)
        self._refill = Refill(self)

    # Time

    @property
    def retired(self) -> int:
        """Instructions retired so far; exact whenever Python runs."""
        if not self._running:
            return self._retired
        return self._retired + self.blocks.completed(self.engine.pc, fetching=self.fetching)

    @property
    def time(self) -> int:
        """The machine's time: retired instructions and idle time."""
        return self.retired + self.idle

    def _progress_made(self) -> Progress:
        """Return what has been executed at EL0 and EL1.

        The two are told apart only while some counter does.
        """
        retired, user = self.retired, self._retired_user
        if self._running:
            user += self.blocks.of_user(retired - self._retired)
        taken = self._exceptions
        kernel = retired - user
        cycles = (user + taken[0], kernel + taken[1])
        return Progress((user, kernel), cycles, (self._accesses[0], self._accesses[1]))

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
        old = self.registers.el2(HCR_EL2)
        self.registers.write(value)
        self._follow((type(value),), (value,), old)

    def read_list(self, registers: tuple[type[SystemRegister], ...]) -> list[int]:
        """Read system registers, as :meth:`read` does each, but quickly."""
        return self.registers.read_list(registers)

    def write_list(
        self, registers: tuple[type[SystemRegister], ...], values: Sequence[int]
    ) -> None:
        """Write system registers, as :meth:`write` does each, but quickly."""
        old = self.registers.el2(HCR_EL2)
        self.registers.write_list(registers, values)
        self._follow(registers, values, old)

    def _follow(
        self,
        registers: tuple[type[SystemRegister], ...],
        values: Sequence[int],
        old_hcr: int,
    ) -> None:
        """Do what follows from the writing of system registers."""
        if not TRANSLATION_CONTROLS.isdisjoint(registers):
            self.controls_changed()
            hcr = self.registers.el2(HCR_EL2)
            self.blocks.pending = interrupts.pending(hcr)
            if (hcr ^ old_hcr) & system.TDZ:
                self.look_again_at_code(None)
        if not self.timer.registers.isdisjoint(registers):
            self.timer_changed()
        if not self.pmu.registers.isdisjoint(registers):
            self.monitors_changed()
        for register, value in zip(registers, values, strict=True):
            if value % SP_ALIGNMENT and register in _STACK_POINTERS:
                self._stack_misaligned()

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
        self.refresh()
        vmid = self.mmu.regime.vmid
        removed = 0
        reached = self._reached(operation, by_guest=pc is not None)
        for pe in reached:
            hits = pe.mmu.invalidate(operation, argument, vmid)
            if hits and not (engine_follows and pe is self and pe.mmu.removed_only_named):
                pe.engine.flush_tlb()
            removed += hits
        self.maintenance[operation.name] += 1
        self.tlbi_entries[operation.name] += removed
        self.tlbi_count += 1
        if not removed:
            self.tlbi_without_hit += 1
        if self.on_tlbi is not None:
            self.on_tlbi(Invalidation(operation, argument, vmid, pc, len(reached), removed))
        return removed

    def _reached(
        self, operation: TLBI | IC, *, by_guest: bool = False
    ) -> Sequence[ProcessingElement]:
        """Return the PEs that a maintenance operation reaches; HCR_EL2.FB widens EL1's own."""
        if operation.shareability is not Shareability.NONE:
            return self.peers
        forced = by_guest and self.registers.el2(HCR_EL2) & HCR_EL2.FB.in_place
        return self.peers if forced else (self,)

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
            self.maintain(operation, None)
            return
        self.maintenance[operation.name] += _lines(pa, size, self._icache_line)
        for page in range(pa & -PAGE_SIZE, pa + size, PAGE_SIZE):
            for pe in self._reached(operation):
                pe.look_again_at_code(PA(page))

    def dc(self, operation: DC, pa: PA | None = None, size: int = 1) -> None:
        """Execute a data cache operation, or a loop of them over ``size`` bytes.

        The data caches are coherent: there is nothing to do but count.
        """
        lines = 1 if pa is None else _lines(pa, size, self._dcache_line)
        self.maintenance[operation.name] += lines

    def wait_for_interrupt(self) -> bool:
        """Execute WFI: let time pass until the next timer interrupt is due.

        Returns
        -------
        bool
            False if nothing will ever end the wait; no time passes then.
        """
        due = self.timer.next_event(TimerLine.VIRTUAL | TimerLine.PHYSICAL)
        if due is None:
            return False
        self.idle += max(0, due - self.time)
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
        self._stalls = 0
        self.mmu.forget_walk()  # whoever was EL2's guest may have changed the tables
        deadline = self._retired + budget
        pc = self._return_to_guest()
        while True:
            if self.blocks.pending:
                pc = self._take_virtual_interrupts(pc)
            left = deadline - self._retired
            due = self.timer.next_interrupt()
            if due is not None:
                left = min(left, due - self.time)
            user = None
            if self.pmu.active:
                limit, user, self._accesses_left = self.pmu.limits(self.engine.mode >> 2 & 3)
                left = min(left, limit)
            if left <= 0:
                return self._leave(EL2Entry.IRQ, pc)
            pc, pstate = self._execute(pc, left, user)
            if self._answered is None:
                if self._pending is None:
                    continue
                exception, self._pending = self._pending, None
                self._count_exception(exception, pstate)
                if self._is_stalled(exception.pc):
                    return self._leave(EL2Entry.LIVELOCK, exception.pc)
                if exception.target == 1:
                    pc = self.registers.enter_el1(exception, pstate)
                    continue
                self._answered = self._enter_el2(exception, pstate)
            again, self._answered = self._answered, None
            if not again:
                return EL2Entry.TRAP
            pc = self._return_to_guest()

    def _execute(self, pc: VA, count: int, user: int | None = None) -> tuple[VA, int]:
        """Run the engine for at most ``count`` instructions, and at most ``user`` of EL0.

        Return PC and PSTATE. The engine counts by the block and stops before the block that would
        exceed a count; then it is stopped within that block.
        """
        self.blocks.grant(count, user)
        self._accessed = None
        self._running = True
        code = self.engine.start(pc)
        if self.blocks.left < 0 and not self._interrupt_due(self.engine.state()[1]):
            code = self._finish(code)
        self._running = False
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        pc, pstate = self.engine.state()
        completed, self._stopped_at = self._stopped_at, None
        if completed is None:
            completed = self.blocks.completed(pc, fetching=self.fetching)
        self.fetching = False
        self._timer_changed = False
        if completed > count:
            raise EngineError(
                f"the engine ran {completed} instructions, not {count}, to PC {pc:#x}"
            )
        if self._pending is None and self._answered is None:
            if code and not self.restart:
                raise EngineError(f"the engine stopped at PC {pc:#x} with error {code}")
            if self.blocks.block[1] == pc:
                self._pending = self._wait(VA(pc - INSTRUCTION_BYTES), pstate)
                completed -= self._pending is not None
        self._retired += completed
        self._retired_user += self.blocks.of_user(completed)
        if self._changed_code:
            self._forget_code()
        if self.restart:
            self._choose_strictness()
        return pc, pstate

    def _finish(self, code: int) -> int:
        """Execute what the count allows of the block before which the engine stopped."""
        begin, end = self.blocks.block
        stop = VA(end + self.blocks.left * INSTRUCTION_BYTES)
        if stop == begin:
            return code
        self.blocks.withdraw(LONGEST_BLOCK)
        return self.engine.start_until(begin, stop, end)

    def _wait(self, pc: VA, pstate: int) -> ArmException | None:
        """Return the trap of a WFI, after which the engine stops by itself."""
        return instructions.wait_exception(
            self.word_at(pc),
            pc,
            pstate >> 2 & 3,
            HCR_EL2(self.registers.el2(HCR_EL2)),
            self.read(SCTLR_EL1),
        )

    # Entering and leaving EL2

    def _return_to_guest(self) -> VA:
        """Make the engine's state that of ELR_EL2 and SPSR_EL2; return the PC."""
        spsr = SPSR_EL2(self.registers.el2(SPSR_EL2))
        pstate = self.engine.state()[1]
        if int(spsr) != pstate:
            if spsr.nRW or spsr.M not in _GUEST_MODES:
                raise ValueError(
                    f"the guest runs in EL0t, EL1t or EL1h (SPSR_EL2.M 0x0, 0x4, 0x5), "
                    f"not with M[4:0] {spsr & 0x1F:#x}"
                )
            self.registers.set_pstate(spsr, pstate)
        self.engine.clear_exclusive()
        return VA(self.registers.el2(ELR_EL2))

    def _leave(self, why: EL2Entry, pc: VA) -> EL2Entry:
        self.registers.write(ELR_EL2(pc))
        self.registers.write(SPSR_EL2(self.engine.state()[1]))
        return why

    def _enter_el2(self, exception: ArmException, pstate: int) -> bool:
        """Take an exception to EL2 and call its vector; return whether it ERETs."""
        self.registers.enter_el2(exception, pstate)
        return self.el2_vector is not None and self.el2_vector()

    def resolved_in_place(self, exception: ArmException, pstate: int) -> bool:
        """Take an abort met in a refill; return whether the access can simply be tried again.

        It can if EL2 returns to the same instruction, changed no register of the guest, left
        the instruction's page mapped, and its ERET has no exclusive monitor to clear. If not,
        the engine must be left first: it would go on with code that it has translated.
        """
        if exception.target == 1 or self._is_stalled(exception.pc):
            self._pending = exception
            return False
        self.registers.written = False
        self._count_exception(exception, pstate)
        again = self._enter_el2(exception, pstate)
        if (
            again
            and not self.pmu.active
            and not self.registers.written
            and not self._changed_code
            and not self._timer_changed
            and not self.restart
            and not self.engine.exclusive
            and not self._interrupt_due(pstate)
            and self.registers.el2(ELR_EL2) == exception.pc
            and self.registers.el2(SPSR_EL2) == pstate
            and (self.fetching or self.mmu.holds(exception.pc))
        ):
            if self.stale:
                self.refresh()
            return True
        self._answered = again
        return False

    def _count_exception(self, exception: ArmException, pstate: int) -> None:
        """Count an exception, and take back the access that it kept from completing."""
        level = pstate >> 2 & 1
        self._exceptions[level] += 1
        if self._accessed is not None and self._accessed[0] == exception.pc:
            self._accesses[level] -= 1
        self._accessed = None

    def _count_access(self, word: int, va: VA, pstate: int) -> None:
        """Count the access of the instruction at ``va``, which is about to execute.

        More than one hook may call for it.
        """
        here = (va, self.blocks.completed(va))
        access = decode(word)
        if here == self._accessed or (access is not None and access.kind is AccessKind.PREFETCH):
            return
        self._accessed = here
        self._accesses[pstate >> 2 & 1] += 1
        self._accesses_left -= 1

    def _is_behind_last_access(self, va: VA) -> bool:
        """Whether a counter of accesses may have overflowed before the instruction at ``va``."""
        if self._accessed is None or self._accesses_left > 0:
            return False
        return self._accessed != (va, self.blocks.completed(va))

    def _interrupt_due(self, pstate: int) -> int:
        """Return the virtual interrupts that are pending and not masked."""
        return self.blocks.pending & ~pstate

    def _take_virtual_interrupts(self, pc: VA) -> VA:
        """Take the virtual interrupt that is due, if there is one; return where to go on."""
        pstate = self.engine.state()[1]
        interrupt = interrupts.to_take(self.blocks.pending, pstate)
        if interrupt is None:
            return pc
        self._exceptions[pstate >> 2 & 1] += 1
        vector = self.registers.take_interrupt(interrupt, pc, pstate)
        if interrupt.kind is ExceptionKind.SERROR:
            self.write(HCR_EL2(self.registers.el2(HCR_EL2)).replace(VSE=0))
        return vector

    def _is_stalled(self, pc: VA) -> bool:
        """Count exceptions at one PC between which no instruction has retired."""
        here = (pc, self._retired, self.blocks.left)
        self._stalls = self._stalls + 1 if here == self._progress else 0
        self._progress = here
        return self._stalls >= LIVELOCK_LIMIT

    # Services for the rest of the CPU

    @property
    def leaving(self) -> bool:
        """Whether the engine is to be left, for an exception that was met."""
        return self._answered is not None or self._pending is not None

    @property
    def external_aborts_to_el2(self) -> bool:
        """HCR_EL2.TEA."""
        return bool(self.registers.el2(HCR_EL2) & _TEA)

    def controls_changed(self) -> None:
        """Note that a register of the translation regime changes."""
        self.stale = True
        self.engine.flush_tlb()

    def timer_changed(self) -> None:
        """Note that a timer may interrupt at another time: the run under way is planned again."""
        if self._running and self.timer.interrupting:
            self._timer_changed = True

    def monitors_changed(self) -> None:
        """Note that a counter may overflow at another time: likewise."""
        if self._running:
            self._timer_changed = True
        self._choose_strictness()

    def refresh(self) -> None:
        """Decode the translation regime again if a control register has changed."""
        if self.stale:
            self.mmu.load(self.registers.controls())
            self.stale = False
            self._choose_strictness()

    def device_memory_used(self) -> None:
        """Note that a page of RAM is used as Device memory: unaligned accesses to it fault."""
        self._device_memory = True
        self._choose_strictness()

    def _stack_misaligned(self) -> None:
        """Note that SP is no multiple of 16: accesses by it may fault from now on."""
        self._misaligned_stack = True
        self._choose_strictness()

    def _choose_strictness(self) -> None:
        """Have all loads and stores watched while unaligned ones may fault, or are counted.

        The engine must be left for a change; what it was about to do is done again.
        """
        sticky = self._device_memory or self._misaligned_stack
        strict = sticky or self.mmu.regime.stage1.is_strict or self.pmu.counts_accesses
        if strict is self.code.strict:
            return
        if self._running:
            self.restart = True
            return
        self.restart = False
        self.code.changed(None)
        self.code.strict = strict
        self.engine.watch_everything(strict)
        self.engine.flush_tlb()

    def word_at(self, pc: VA) -> int:
        """Return the instruction at ``pc``, or 0 if it cannot be fetched."""
        page = self.code.scanned.get(pc >> PAGE_SHIFT)
        if page is None:
            self.refresh()
            found = self.mmu.translate(pc, 0, EL1)
            if isinstance(found, Fault):
                return 0
            page = found.page
        return self.memory.read_instruction(PA(page | pc & PAGE_MASK))

    def maintain(self, operation: DC | IC, pa: PA | None, *, by_guest: bool = False) -> None:
        """Carry out cache maintenance on a line of the page of ``pa``, or on everything.

        The data caches are coherent. Instruction cache operations have code that was
        executed before looked at again.
        """
        self.maintenance[operation.name] += 1
        if isinstance(operation, IC):
            for pe in self._reached(operation, by_guest=by_guest):
                pe.look_again_at_code(pa)

    def _intercept(self, word: int) -> bool:
        """Whether a system instruction matters to this PE as EL2 has set it up."""
        hcr = self.registers.el2(HCR_EL2)
        return system.intercept(word, self.features) or system.traps_zeroing(word, hcr)

    def look_again_at_code(self, pa: PA | None) -> None:
        """Forget what is known of the code on the page of ``pa``, or of all code."""
        self._changed_code.update(self.code.changed(pa))
        if self._changed_code:
            self.engine.flush_tlb()
            if not self._running:
                self._forget_code()  # else as soon as the engine stops

    def _forget_code(self) -> None:
        """Have the engine forget what it translated from changed pages."""
        if len(self._changed_code) > FEW_PAGES:
            self.engine.forget_code()
        else:
            # The engine finds the code of a page by the memory behind it, for which it asks.
            for page in self._changed_code:
                self.engine.forget_code_at(page, VA(page + PAGE_SIZE))
            self.engine.flush_tlb()
        self._changed_code = {}

    # Callbacks of the engine. An exception must not pass through C code.

    def _on_fill(self, _engine: Any, va: VA, access: int, result: Any, _data: Any) -> bool:  # noqa: ANN401  # C
        if not self._running and va in self._changed_code:
            result[0], result[1] = self._changed_code[va], EXECUTE
            return True
        if self._stopped_at is not None or not self._running:
            return False  # no access of the guest: the engine looks for code behind a stop
        try:
            return self._refill.fill(va, access, result)
        except BaseException as failure:  # noqa: BLE001  # raised again by _execute
            self._failure = failure
            return False

    def _on_interrupt(self, _engine: Any, number: int, _data: Any) -> None:  # noqa: ANN401  # C
        try:
            self._pending = self._instruction_exception(number)
            if self._pending is None:
                return
        except BaseException as failure:  # noqa: BLE001  # raised again by _execute
            self._failure = failure
        self._stop()

    def _on_system(self, _engine: Any, _register: int, _encoding: Any, _data: Any) -> int:  # noqa: ANN401  # C
        try:
            pc, pstate = self.engine.state()
            instruction = self.code.at(pc, self.word_at(pc))
            if instruction is None:
                return 0
            outcome = system.execute(self, instruction, pc, pstate >> 2 & 3)
            if outcome is system.Outcome.NATIVE:
                return 0
            if outcome is system.Outcome.DONE:
                if self._changed_code or self._timer_changed:
                    self._stop()
                return 1
            self._pending = outcome
        except BaseException as failure:  # noqa: BLE001  # raised again by _execute
            self._failure = failure
        self._stop()
        return 1

    def _on_code(self, _engine: Any, address: int, _size: int, _data: Any) -> None:  # noqa: ANN401  # C
        va = VA(address)
        word = self.code.watched.get(va)
        behind = va in self.code.behind_stack_writes
        if self._stopped_at is None and self._is_behind_last_access(va):
            self._stopped_at = self.blocks.completed(va)
            self.engine.stop()
        if (word is None and not behind) or self._stopped_at is not None:
            return
        try:
            if behind and self.registers.sp() % SP_ALIGNMENT:
                self._stack_misaligned()
            if word is not None and not self.restart:
                pstate = self.engine.state()[1]
                self._pending = self.watch.before(word, va, pstate)
                if self._pending is None and self.pmu.counts_accesses:
                    self._count_access(word, va, pstate)
            if self._pending is None and not self.restart:
                return
        except BaseException as failure:  # noqa: BLE001  # raised again by _execute
            self._failure = failure
        self._stopped_at = self.blocks.completed(va)
        self.engine.stop()

    def _stop(self) -> None:
        """Stop behind this instruction.

        The engine may look for the next block before it notices, so what has completed is
        noted now.
        """
        exception = self._pending
        following = self.engine.pc + INSTRUCTION_BYTES
        self._stopped_at = self.blocks.completed(
            VA(following) if exception is None else exception.pc
        )
        self.engine.stop()

    def _instruction_exception(self, number: int) -> ArmException | None:
        """Return the exception for an event that the engine reports by number.

        None if it lacks the instruction, but the CPU does not: then it is done and skipped.
        """
        pc, pstate = self.engine.state()
        el = pstate >> 2 & 3
        hcr = HCR_EL2(self.registers.el2(HCR_EL2))
        if number == Interrupt.SVC:
            word = self.word_at(VA(pc - INSTRUCTION_BYTES))
            return instructions.supervisor_call(word, pc)
        if number == Interrupt.SMC:  # the engine's PC is behind it, the exception's is not
            pc = VA(pc - INSTRUCTION_BYTES)
            return instructions.secure_monitor_call(self.word_at(pc), pc, el, hcr)
        if pc % INSTRUCTION_BYTES:
            return instructions.misaligned_pc(pc)
        word = self.word_at(pc)
        if number == Interrupt.BREAKPOINT:
            return instructions.breakpoint_instruction(word, pc)
        if number == Interrupt.DATA_ABORT:
            return self.watch.misaligned(word, pc, el)
        if number == Interrupt.UNDEFINED:
            refused = instructions.wait_exception(word, pc, el, hcr, self.read(SCTLR_EL1))
            if refused is not None:
                return refused
            trapped = decode_system(word)
            if trapped is not None:
                outcome = system.execute(self, trapped, pc, el)
                if isinstance(outcome, ArmException):
                    return outcome
                if outcome is system.Outcome.DONE:
                    self.engine.skip(pc)
                    return None
            return instructions.undefined_word(word, pc, el, hcr, self.read(CPACR_EL1))
        raise EngineError(f"exception {number} of the engine at PC {pc:#x} has no AArch64 meaning")


def _lines(pa: PA, size: int, line: int) -> int:
    """Return how many cache lines of ``line`` bytes a range touches."""
    return (pa + size - 1) // line - pa // line + 1


def _check_number(number: int) -> None:
    if not 0 <= number <= ZERO_REGISTER:
        raise ValueError(f"there is no register {number}; use 0 to {ZERO_REGISTER}")
