"""What somebody outside of the machine asks to be told of a PE, and is told between instructions.

Nobody in the machine can tell that there is a probe: no exception is taken, no register or counter
of the guest is used, and what the PE executes is the same. While nothing is asked for, it costs
one look at a flag for each run of the engine.

What is kept here belongs to who looks, not to the machine's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Protocol

from emu.arch.a64.loadstore import decode
from emu.arch.a64.maintenance import DC
from emu.arch.a64.system import decode_system
from emu.arch.address import PA, PAGE_MASK, VA
from emu.arch.registers.identification import DCZID_EL0
from emu.mmu.permissions import EL1

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from emu.arch.a64.system import Operation
    from emu.arch.address import IPA
    from emu.arch.exceptions import ExceptionKind
    from emu.cpu.pe import ProcessingElement
    from emu.mmu.fault import Fault

_WORD: Final = 4
NEVER: Final = 1 << 62
"""A number of retired instructions that no run reaches."""


class Taken(NamedTuple):
    """An exception that was taken."""

    target: int
    """The Exception level: 1 or 2."""
    kind: ExceptionKind
    esr: int | None
    """Its syndrome; None for an interrupt."""
    level: int
    """The Exception level that it was taken from."""


class DataAccess(NamedTuple):
    """A load or store that an instruction is about to make."""

    va: VA
    size: int
    reads: bool
    writes: bool


class Observer(Protocol):
    """Who looks at the PEs of a machine.

    What it is told between two instructions, it may act upon: the engine stands still, and what
    EL2 sees is as if it had just been entered: the address of the next instruction is in ELR_EL2,
    PSTATE in SPSR_EL2. The guest goes on from what they say then, its exclusive monitor stays.
    What it is only asked, it must answer without changing the machine.
    """

    def before_instruction(self, pe: ProcessingElement) -> None:
        """Act before an instruction of the guest. Counts that were due are to be asked for anew."""

    def reaches(self, pe: ProcessingElement, va: VA) -> bool:
        """Return whether to be told before the instruction at one of :attr:`Probe.addresses`."""

    def maintains(self, pe: ProcessingElement, operation: Operation) -> bool:
        """Return whether to be told before a TLBI, DC, IC or AT of the guest."""

    def changes_level(self, pe: ProcessingElement, level: int) -> bool:
        """Return whether to be told before the first instruction at another Exception level."""

    def watches(self, pe: ProcessingElement, page: VA, pa: PA | None, ipa: IPA | None) -> bool:
        """Return whether an access to a page may be one to be told of.

        ``pa`` is None where stage 2 refuses the access, ``ipa`` where it does not.
        """

    def accesses(self, pe: ProcessingElement, access: DataAccess) -> bool:
        """Return whether to be told of an access, before it is made."""

    def takes(self, pe: ProcessingElement, taken: Taken) -> bool:
        """Return whether to be told of an exception, before the first instruction behind it.

        One to EL2 may be acted upon at once: EL2 has just been entered.
        """


class Probe:
    """The probe of one PE.

    Attributes
    ----------
    observer
        Who is told; None for nobody.
    armed
        Whether anything is asked for.
    due
        Before which instruction of all PEs to tell: how many have retired before it.
    due_here
        Likewise, of this PE.
    each
        Whether to tell before every instruction.
    addresses
        Where to ask the observer whether it wants to be told.
    operations, levels, exceptions
        Whether to ask it about maintenance instructions, changes between EL0 and EL1, and
        exceptions.
    pages
        Whether to ask it about loads and stores.
    met
        Whether to tell before the next instruction.
    leaves
        Whether the engine is left because of what is asked for, and for nothing else.
    NOT_STATE
        What is no state of the machine: all of it.
    """

    NOT_STATE: ClassVar = frozenset(
        {
            "_asked",
            "_clock",
            "_cuts",
            "_cuts_user",
            "_execution",
            "_level",
            "_only_counts",
            "_operated",
            "_passing",
            "_pe",
            "_told",
            "_until",
            "_withheld",
            "addresses",
            "armed",
            "due",
            "due_here",
            "each",
            "exceptions",
            "leaves",
            "levels",
            "met",
            "observer",
            "operations",
            "pages",
        }
    )

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self._execution, self._clock = pe.execution, pe.clock
        self._forget()

    def _forget(self) -> None:
        self.observer: Observer | None = None
        self.armed = False
        self.due = NEVER
        self.due_here = NEVER
        self.each = False
        self.addresses: frozenset[VA] = frozenset()
        self.operations = self.levels = self.exceptions = self.pages = False
        self._withheld: tuple[VA, int] | None = None
        self._passing: tuple[VA, int] | None = None
        self.met = False
        self.leaves = False
        self._only_counts = True
        self._cuts = self._cuts_user = False
        self._until = NEVER
        self._level: int | None = None
        self._told: tuple[VA, int] | None = None
        self._asked: tuple[VA, int] | None = None
        self._operated: tuple[VA, int] | None = None

    # For the observer

    def open(self, observer: Observer) -> None:
        """Have an observer, who asks for nothing yet."""
        self.observer = observer

    def close(self) -> None:
        """Have no observer."""
        self.look_at(frozenset())
        self._forget()

    def ask(self, *, due: int = NEVER, due_here: int = NEVER, each: bool = False) -> None:
        """Choose the instructions to tell before, from now on."""
        sooner = due < self.due or due_here < self.due_here or (each and not self.each)
        self.due, self.due_here, self.each = due, due_here, each
        self._changed(more=sooner)

    def look_at(self, addresses: AbstractSet[VA]) -> None:
        """Choose the instructions to ask the observer about, from now on."""
        if addresses != self.addresses:
            debug, before = self._pe.debug, self.addresses
            self._pe.engine.pass_by(before - addresses - debug.addresses)
            self.addresses = frozenset(addresses)
            more = bool(addresses - before)
            debug.stale |= more
            self._changed(more=more)

    def ask_about(
        self,
        *,
        operations: bool = False,
        levels: bool = False,
        exceptions: bool = False,
        pages: bool = False,
    ) -> None:
        """Choose what else to ask the observer about, from now on."""
        if pages:
            self._pe.engine.flush_tlb()  # whose pages are to be asked for again
        self.pages = pages
        if not self.levels:
            self._level = None
        more = levels and not self.levels
        self.operations, self.levels, self.exceptions = operations, levels, exceptions
        self._changed(more=more)

    def tell_next(self) -> None:
        """Tell before the next instruction: what the observer waits for was met."""
        self.met = True
        self._changed(more=True)

    @property
    def level(self) -> int:
        """The Exception level of the guest, while the engine runs."""
        return self._pe.engine.mode >> 2 & 3

    @property
    def asid(self) -> int:
        """The guest's ASID; -1 while stage 1 is off."""
        self._pe.refresh()
        return self._pe.mmu.regime.asid

    def translation(self, va: VA) -> PA | Fault:
        """Return where a VA is, as the guest would find it now."""
        mmu = self._pe.mmu
        self._pe.refresh()
        entry = mmu.lookup(va, 0, EL1)
        return mmu.probe(va, 0, EL1) if entry is None else PA(entry.page | va & PAGE_MASK)

    def _changed(self, *, more: bool) -> None:
        """Note what is asked for; if it is more, a run of the engine under way is to end soon."""
        counts = self.due < NEVER or self.due_here < NEVER
        asks = self.operations or self.levels or self.exceptions or self.pages
        self.armed = bool(self.each or self.met or counts or self.addresses or asks)
        self._only_counts = not (self.each or self.levels or self.pages)
        if self._only_counts:
            self._cuts_user = False
        if more:
            self._plan_again()

    # For the PE

    def _plan_again(self) -> None:
        execution = self._pe.execution
        if execution.running and not execution.timer_changed:
            execution.timer_changed = self.leaves = True

    def tell(self, pc: VA) -> bool:
        """Tell the observer of the instruction at ``pc``, if it is one; return whether it was."""
        until = self.due - self._clock.now + self._clock.idle
        until_here = self.due_here - self._execution.before
        self._until = until = min(until, until_here)
        if self._only_counts and until > 0 and not self.met:
            return False
        pe, here = self._pe, (pc, self._execution.before)
        if self.levels:
            self._note_level()
        if self.pages:
            self._note_access(here)
        if not (self.met or until <= 0 or (self.each and here != self._told)):
            return False
        self._told, self.met = here, False
        pe.guest.show(pc)
        if self.observer is not None:
            self.observer.before_instruction(pe)
        return True

    def limits(self, left: int, user: int | None) -> tuple[int, int | None]:
        """Return how much of a budget the engine may execute before it is to stand still.

        Parameters
        ----------
        left, user
            Instructions, and how many of them may be of EL0: None if those are not counted.
        """
        peers, until = self._pe.peers, self._until
        if len(peers) > 1:
            for peer in peers:  # those that wait for this one, in a trap, count what it retires
                peer.probe._plan_again()  # noqa: SLF001  # of its own kind
        if not self._only_counts:
            self._cuts_user = self.levels and self.level != 0 and user != 0
            if self._cuts_user:
                user = 0  # stop before EL0 is entered
            if self.each or self._passing is not None:
                until = 1
        self._cuts = until < left
        return (until if self._cuts else left), user

    @property
    def stops_here(self) -> bool:
        """Whether the engine is to stop before the next instruction, and only for the probe.

        It must not fetch it then. Where the budget ends by itself, it does.
        """
        blocks = self._pe.blocks
        return (self._cuts and blocks.is_spent) or (self._cuts_user and blocks.is_spent_for_user)

    def stops_at(self, va: VA) -> bool:
        """Whether to stop before the instruction at one of the addresses.

        The engine may come there more than once before it executes it.
        """
        execution = self._pe.execution
        here = (va, execution.before + self._pe.blocks.completed(va))
        if here == self._asked or self.observer is None:
            return False
        self._asked = here
        self.met |= self.observer.reaches(self._pe, va)
        return self.met

    def stops_before(self, operation: Operation, pc: VA) -> bool:
        """Whether to stop before the maintenance instruction at ``pc``, likewise."""
        execution = self._pe.execution
        here = (pc, execution.before + self._pe.blocks.completed(pc))
        if here == self._operated or self.observer is None:
            return False
        self._operated = here
        self.met |= self.observer.maintains(self._pe, operation)
        return self.met

    def lets_pass(self, page: VA, pc: VA, pa: PA | None, ipa: IPA | None = None) -> bool:
        """Whether the engine may access a page, from inside a refill; else it is to be left.

        The access is then made by itself, and the engine forgets the page again.
        """
        execution = self._pe.execution
        here = (pc, execution.before + self._pe.blocks.completed(pc))
        if here == self._passing or self.observer is None:
            return True
        if not self.observer.watches(self._pe, page, pa, ipa):
            return True
        self._withheld = here
        execution.refused = True
        return False

    def _note_access(self, here: tuple[VA, int]) -> None:
        """Ask about the access that was kept from being made, and let it be made."""
        if self._passing not in (None, here):
            self._passing = None
            self._pe.engine.flush_tlb()
        if self._withheld == here and self.observer is not None:
            self._passing = here
            access = self._access(here[0])
            if access is not None:
                self.met |= self.observer.accesses(self._pe, access)
        self._withheld = None

    def _access(self, pc: VA) -> DataAccess | None:
        pe = self._pe
        word = pe.word_at(pc)
        access = decode(word)
        if access is not None:
            va = pe.watch.address_of(access, pc)
            return DataAccess(va, access.size, access.reads, access.writes)
        instruction = decode_system(word)
        if instruction is None or instruction.operation is not DC.ZVA:
            return None
        size = _WORD << pe.features.read(DCZID_EL0).BS
        return DataAccess(VA(pe.registers.x(instruction.rt) & -size), size, False, True)

    def taken(self, target: int, kind: ExceptionKind, esr: int | None, pstate: int) -> None:
        """Note an exception that was taken at ``pstate``."""
        if self.exceptions and self.observer is not None:
            taken = Taken(target, kind, esr, pstate >> 2 & 3)
            self.met |= self.observer.takes(self._pe, taken)

    def _note_level(self) -> None:
        level, before = self.level, self._level
        self._level = level
        if before not in (None, level) and self.observer is not None:
            self.met |= self.observer.changes_level(self._pe, level)
