"""What a load or store does to memory, before it is executed.

A :class:`MemoryAccess` is the decoded form of one A64 instruction that accesses data
memory. Everything an abort needs to say about the instruction follows from it: the
virtual address (:func:`effective_address`), how far the access reaches, and the
instruction syndrome that EL2 is given with a stage-2 abort (:func:`syndrome`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from emu.arch.a64.word import sign_extend
from emu.arch.address import VA

if TYPE_CHECKING:
    from collections.abc import Callable

STACK_POINTER = 31
"""Register number 31 as a base register: SP."""

PROGRAM_COUNTER = 32
"""The base of a literal load. No instruction field can hold this number."""

_MASK64 = (1 << 64) - 1
_MASK32 = (1 << 32) - 1


class AccessKind(Enum):
    """What an instruction does to the memory it addresses."""

    LOAD = "load"
    STORE = "store"
    ATOMIC = "atomic"
    """Reads and writes in one step: LSE atomics, SWP, CAS. Needs both permissions."""
    PREFETCH = "prefetch"
    """A hint. Never faults."""


class Index(NamedTuple):
    """The register offset of an address: ``Rm``, extended, then shifted left."""

    register: int
    """0 to 31; 31 is XZR."""
    option: int
    """Instruction bits [15:13]: 2 UXTW, 3 LSL, 6 SXTW, 7 SXTX."""
    shift: int

    def offset(self, value: int) -> int:
        """Return the byte offset for a register ``value`` (Arm ARM ``ExtendReg``)."""
        if self.option == 2:
            value &= _MASK32
        elif self.option == 6:
            value = sign_extend(value, 32)
        return value << self.shift


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryAccess:
    """One decoded instruction that accesses data memory."""

    mnemonic: str
    """Upper case, without operands; an alias (STADD) appears as what it abbreviates (LDADD)."""

    kind: AccessKind

    size: int
    """Bytes accessed, all elements together."""

    unit: int
    """Bytes of one element. Elements are translated one by one, in address order."""

    rt: int = 0
    """The first register transferred: 0 to 31, a vector register when ``simd``."""

    rt2: int | None = None
    """The second register of a pair."""

    base: int = 0
    """Base register: 0 to 30, :data:`STACK_POINTER` or :data:`PROGRAM_COUNTER`."""

    offset: int = 0
    """Signed bytes added to the base to form the address; 0 when post-indexed."""

    index: Index | None = None
    """The offset register, when the offset is not immediate."""

    round_to: int = 1
    """The address is rounded down to a multiple of this (LDG and the tag block forms)."""

    writeback: bool = False
    """The base register is changed (pre- and post-index)."""

    sign_extend: bool = False
    """The loaded value is sign-extended (SSE)."""

    sixty_four_bit: bool = False
    """The general register is an X register (SF)."""

    acquire_release: bool = False
    """Acquire, acquirePC or release semantics (AR)."""

    limited_order: bool = False
    """LoadLOAcquire or StoreLORelease: LDLAR and STLLR."""

    exclusive: bool = False
    """Uses the exclusive monitors."""

    unprivileged: bool = False
    """Checked with EL0 permissions when executed at EL1: LDTR and STTR."""

    authenticated: bool = False
    """The base is authenticated first (LDRAA, LDRAB). The address uses the result."""

    simd: bool = False
    """Transfers SIMD&FP registers."""

    tags: bool = False
    """Loads or stores allocation tags (MTE)."""

    lst: int = 0
    """The ISS.LST of a 64-byte access: 1 ST64BV, 2 LD64B and ST64B, 3 ST64BV0; else 0."""

    @property
    def elements(self) -> int:
        """The number of elements of ``unit`` bytes."""
        return self.size // self.unit

    @property
    def reads(self) -> bool:
        """Whether the access needs read permission."""
        return self.kind is AccessKind.LOAD or self.kind is AccessKind.ATOMIC

    @property
    def writes(self) -> bool:
        """Whether the access needs write permission."""
        return self.kind is AccessKind.STORE or self.kind is AccessKind.ATOMIC

    @property
    def is_write(self) -> bool:
        """WnR of an abort that a read would also have taken.

        An atomic reports WnR = 0 when a read of the location would have faulted, and
        WnR = 1 only when it was the write that could not be done (Arm ARM, ISS encoding
        for a Data Abort, WnR).
        """
        return self.kind is AccessKind.STORE

    @property
    def ordered(self) -> bool:
        """Whether the access carries any acquire or release semantics."""
        return self.acquire_release or self.limited_order

    @property
    def alignment(self) -> int:
        """Alignment in bytes required whatever SCTLR_ELx.A says; 1 if none.

        Exclusive, atomic and ordered accesses and 64-byte accesses are aligned to their
        size, tag stores to the granule (Arm ARM B2.5.2; FEAT_LSE2 relaxes the first three
        within 16 bytes).
        """
        if self.tags:
            return 16 if self.writes and self.round_to == 1 else 1
        if self.exclusive or self.kind is AccessKind.ATOMIC or self.ordered or self.lst:
            return self.unit
        return 1

    @property
    def isv(self) -> bool:
        """Whether a stage-2 abort taken to EL2 has a valid instruction syndrome.

        True for loads and stores of a single general-purpose register without writeback,
        acquire and release forms included, exclusives excluded (Arm ARM, ISS encoding for
        a Data Abort, ISV).
        """
        return (
            (self.kind is AccessKind.LOAD or self.kind is AccessKind.STORE)
            and self.rt2 is None
            and not (self.writeback or self.exclusive or self.simd or self.tags or self.lst)
        )


def effective_address(access: MemoryAccess, read_x: Callable[[int], int], sp: VA, pc: VA) -> VA:
    """Return the address of the first byte that ``access`` touches.

    Parameters
    ----------
    access
        The decoded instruction.
    read_x
        Value of general register 0 to 31; 31 reads as zero. For an ``authenticated``
        access to work with pointer authentication on, the caller gives the base as it is
        after authentication.
    sp
        The current stack pointer.
    pc
        Address of the instruction.
    """
    if access.base == STACK_POINTER:
        address = sp + access.offset
    elif access.base == PROGRAM_COUNTER:
        address = pc + access.offset
    else:
        address = read_x(access.base) + access.offset
    if access.index is not None:
        address += access.index.offset(read_x(access.index.register))
    return VA(address & _MASK64 & -access.round_to)


def syndrome(access: MemoryAccess) -> int:
    """Return ISS[24:14] of a stage-2 abort, in place: ISV, SAS, SSE, SRT, SF and AR.

    Zero when the instruction has no valid syndrome. Source: Arm ARM, ISS encoding for an
    exception from a Data Abort.
    """
    if not access.isv:
        return 0
    return (
        1 << 24
        | (access.size.bit_length() - 1) << 22
        | access.sign_extend << 21
        | access.rt << 16
        | access.sixty_four_bit << 15
        | access.acquire_release << 14
    )
