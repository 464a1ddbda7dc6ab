"""What a recorded case is: a set-up of EL2, what the guest runs, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from emu.arch.a64.maintenance import AT
    from emu.arch.a64.tlbi import TLBI
    from emu.arch.address import PA, VA
    from emu.arch.fields import SystemRegister

MEMORY_BASE: Final = 0x4000_0000
MEMORY_SIZE: Final = 512 << 20
"""All addresses outside this RAM answer with an external abort."""

VECTORS: Final = 16
VECTOR_BYTES: Final = 0x80
"""Entries of the EL1 vector table, and how far apart they are."""


class Descriptor(NamedTuple):
    """One descriptor of a translation table."""

    stage: str
    """``s2``, ``s1-ttbr0`` or ``s1-ttbr1``."""
    level: int
    entry: int
    """Its index in the table."""
    address: int
    """As the walker sees it: an IPA in stage 1, a PA in stage 2."""
    pa: PA
    value: int

    @property
    def name(self) -> str:
        """The place in the tree, as people say it."""
        return f"{self.stage} L{self.level}[{self.entry}] at {self.address:#x}"


class Write(NamedTuple):
    """EL2 stores 64 bits."""

    pa: PA
    value: int


class SetRegister(NamedTuple):
    """EL2 writes a system register."""

    value: SystemRegister


class SetGeneral(NamedTuple):
    """EL2 changes a general register of the guest."""

    number: int
    value: int


class Invalidate(NamedTuple):
    """EL2 executes a TLBI."""

    operation: TLBI
    argument: int


Operation = Write | SetRegister | SetGeneral | Invalidate
"""What EL2 can do between two runs. Barriers order nothing here and are dropped."""


class StepKind(Enum):
    """How EL2 goes on after its operations."""

    RESUME = "resume"
    """Return to ELR_EL2 as the exception left it."""
    RESUME_AT = "resume_at"
    """Return to another address."""
    AT_EL2 = "at_el2"
    """Stay, and execute an address translation."""


@dataclass(frozen=True, slots=True)
class Step:
    """What EL2 does after an exception."""

    kind: StepKind
    operations: tuple[Operation, ...]
    pc: VA | None = None
    """Where to, for RESUME_AT."""
    translation: tuple[AT, VA] | None = None
    """What to translate, for AT_EL2."""


class Outcome(Enum):
    """How a step ended."""

    OK = "ok"
    """The guest reached its end."""
    EXCEPTION = "exception"
    PAR = "par"
    """EL2 translated an address: the answer is in PAR_EL1."""


@dataclass(slots=True)
class StepResult:
    """What was seen of one step. None is what was not recorded, or does not exist.

    Attributes
    ----------
    outcome
        One of :class:`Outcome`, by value. A machine that fails has words of its own.
    taken_to
        The Exception level that took the exception. For 1, the registers are EL1's.
    esr, far, hpfar, elr, spsr
        The registers of that level; HPFAR_EL2.
    el1_vector
        Offset of the vector from VBAR_EL1.
    imm, via
        Immediate of the instruction with which the guest ended, and how it came to EL2.
    par
        PAR_EL1 after an address translation, of EL2 or of the guest.
    gpr_changed
        X registers that the step changed, by name.
    q_changed
        Halves of SIMD registers that it changed, by name and lane: ``q0[1]``.
    """

    outcome: str
    taken_to: int | None = None
    esr: int | None = None
    far: int | None = None
    hpfar: int | None = None
    elr: int | None = None
    spsr: int | None = None
    el1_vector: int | None = None
    imm: int | None = None
    via: str | None = None
    par: int | None = None
    gpr_changed: dict[str, int] | None = None
    q_changed: dict[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Expectation:
    """The answer of some profiles.

    Attributes
    ----------
    profiles
        Whose answer it is.
    steps
        The first run, then one result for each step of the case.
    descriptors
        Descriptors that hardware changed, by PA.
    memory
        Memory that changed, by PA; None if that was not recorded.
    second_seen
        Whether the second access saw the ``new`` tables, the ``old`` ones (through the TLB),
        ``both`` (they do not differ for it) or ``neither``.
    """

    profiles: frozenset[str]
    steps: tuple[StepResult, ...]
    descriptors: dict[PA, int]
    memory: dict[PA, int] | None
    second_seen: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """One recorded case.

    Attributes
    ----------
    name, family, note
        What it is called, which group it belongs to, what is special about it.
    requires
        The feature that its instruction belongs to.
    registers
        System registers to set.
    memory
        64-bit cells to fill: code, data and descriptors.
    descriptors
        Those among them that table walks read.
    data
        The cells that are plain data.
    code
        Instructions by VA.
    asm, insn_va
        The instruction under test.
    access_va
        Where its access begins.
    entry_pc, entry_spsr
        Where and in which state the guest starts.
    general
        General registers to set, by number.
    steps
        What EL2 does after the first exception.
    second_va
        Where the access of the first step begins, if it makes one of its own.
    must_be_new
        Whether the architecture obliges that access to see the changed tables.
    """

    name: str
    family: str
    note: str
    requires: str
    registers: tuple[SystemRegister, ...]
    memory: dict[PA, int]
    descriptors: tuple[Descriptor, ...]
    data: frozenset[PA]
    code: dict[VA, int]
    asm: str
    insn_va: VA
    access_va: VA
    entry_pc: VA
    entry_spsr: int
    general: dict[int, int]
    steps: tuple[Step, ...]
    second_va: VA | None
    must_be_new: bool
    expectations: tuple[Expectation, ...]
    place: str = field(default="", compare=False)
    """File and line."""

    def expectation(self, profile: str) -> Expectation | None:
        """Return what is expected of a profile; None if the case says nothing about it."""
        for expectation in self.expectations:
            if profile in expectation.profiles:
                return expectation
        return None
