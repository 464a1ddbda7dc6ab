"""What breakpoints and watchpoints match (Arm ARM D2.8, D2.9).

Numbers in comments are those of the Arm ARM's tables. Where it leaves a choice, a reserved value
disables; addresses are compared from bit 52 down, whatever RESS holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.arch.registers.debug import (
    BreakpointContext,
    BreakpointControl,
    WatchpointControl,
)

ADDRESS: Final = (1 << 53) - 1
"""The bits of an address that are compared: without a tag and the copies of its highest bit."""

_WORD: Final = 4
_DOUBLEWORD: Final = 8
_ALL_BYTES: Final = 0xFF
_LOAD, _STORE = 0b01, 0b10

LEVELS: Final[dict[tuple[int, int, int], frozenset[int]]] = {
    (0, 0b00, 0b01): frozenset({1}),
    (0, 0b00, 0b10): frozenset({0}),
    (0, 0b00, 0b11): frozenset({0, 1}),
    (0, 0b01, 0b01): frozenset({1}),
    (0, 0b01, 0b10): frozenset({0}),
    (0, 0b01, 0b11): frozenset({0, 1}),
    (1, 0b00, 0b01): frozenset({1}),
    (1, 0b00, 0b11): frozenset({0, 1}),
    (1, 0b01, 0b01): frozenset({1}),
    (1, 0b01, 0b11): frozenset({0, 1}),
}
"""(HMC, SSC, PMC or PAC) to the Exception levels that match, of EL0 and EL1 in Non-secure state.

Other values are reserved, or match at EL2, EL3 or in Secure state only.
"""


class Comparator(NamedTuple):
    """One breakpoint or watchpoint."""

    value: int
    """DBGBVR<n>_EL1 or DBGWVR<n>_EL1."""
    control: int
    """DBGBCR<n>_EL1 or DBGWCR<n>_EL1."""


class Context(NamedTuple):
    """Who runs."""

    contextidr: int
    """CONTEXTIDR_EL1."""
    vmid: int
    """The VMID in use."""


class BreakpointType(NamedTuple):
    """What a breakpoint compares."""

    address: bool = False
    context: bool = False
    vmid: bool = False
    linked: bool = False
    """With an address: to a breakpoint that compares a context. Without: by another only."""


TYPES: Final[dict[int, BreakpointType]] = {
    0b0000: BreakpointType(address=True),
    0b0001: BreakpointType(address=True, linked=True),
    0b0010: BreakpointType(context=True),
    0b0011: BreakpointType(context=True, linked=True),
    0b1000: BreakpointType(vmid=True),
    0b1001: BreakpointType(vmid=True, linked=True),
    0b1010: BreakpointType(context=True, vmid=True),
    0b1011: BreakpointType(context=True, vmid=True, linked=True),
}
"""By DBGBCR<n>_EL1.BT. Others are reserved, for AArch32 or of FEAT_VHE."""


class Breakpoints(NamedTuple):
    """The breakpoints of a PE."""

    units: tuple[Comparator, ...]
    """By number."""
    first_context_aware: int
    """From this number on they can compare contexts."""

    def type_of(self, number: int) -> BreakpointType | None:
        """Return what a breakpoint compares; None if it is disabled."""
        control = BreakpointControl(self.units[number].control)
        kind = TYPES.get(control.BT)
        if not control.E or kind is None:
            return None
        return kind if kind.address or number >= self.first_context_aware else None

    def matches(self, number: int, va: int, el: int, context: Context) -> bool:
        """Whether a breakpoint matches an A64 instruction (``BreakpointMatch``).

        Parameters
        ----------
        number
            Of the breakpoint.
        va
            The address of the instruction, a multiple of 4.
        el
            The Exception level it is executed at: 0 or 1.
        context
            Who executes it.
        """
        kind = self.type_of(number)
        value, word = self.units[number]
        control = BreakpointControl(word)
        if kind is None or el not in levels(control.HMC, control.SSC, control.PMC):
            return False
        if not kind.address:
            return not kind.linked and _context_matches(kind, value, context)
        if (va ^ value) & ADDRESS & -_WORD or not control.BAS & 1:
            return False
        return not kind.linked or self.linked_matches(control.LBN, context)

    def linked_matches(self, number: int, context: Context) -> bool:
        """Whether the breakpoint that others link to matches the context."""
        if not self.first_context_aware <= number < len(self.units):
            return False
        kind = self.type_of(number)
        if kind is None or not kind.linked or kind.address:
            return False
        return _context_matches(kind, self.units[number].value, context)


def levels(hmc: int, ssc: int, pxc: int) -> frozenset[int]:
    """Return the Exception levels at which a comparator matches (``StateMatch``)."""
    return LEVELS.get((hmc, ssc, pxc), frozenset())


def _context_matches(kind: BreakpointType, value: int, context: Context) -> bool:
    wanted = BreakpointContext(value)
    return (not kind.context or wanted.ContextID == context.contextidr & 0xFFFF_FFFF) and (
        not kind.vmid or context.vmid == wanted.VMID
    )


class Extent(NamedTuple):
    """The bytes that a watchpoint watches."""

    start: int
    """The first address, of the bits of :data:`ADDRESS`."""
    size: int
    selected: int
    """One bit for each byte, or -1 for all of them."""


def extent(watchpoint: Comparator) -> Extent | None:
    """Return what a watchpoint watches; None if it is disabled (``WatchpointByteMatch``).

    Of the choices left open: a MASK goes for all bytes, whatever BAS and the masked bits of the
    address are, and bytes that are not contiguous stand for their doubleword.
    """
    control = WatchpointControl(watchpoint.control)
    if not control.E or not control.LSC or not control.BAS:
        return None
    address = watchpoint.value & ADDRESS & -_WORD
    if control.MASK:
        size = 1 << control.MASK
        return Extent(address & -size, size, -1) if size >= _DOUBLEWORD else None
    if _is_contiguous(control.BAS):
        size = _WORD if address & _WORD else _DOUBLEWORD
        return Extent(address, size, control.BAS & (1 << size) - 1)
    return Extent(address & -_DOUBLEWORD, _DOUBLEWORD, _ALL_BYTES)


def _is_contiguous(select: int) -> bool:
    above = select + (select & -select)
    return not above & above - 1


def watched_offset(
    watchpoint: Comparator,
    address: int,
    size: int,
    *,
    write: bool,
    el: int,
    breakpoints: Breakpoints,
    context: Context,
) -> int | None:
    """Return the first byte of an access that a watchpoint matches (``WatchpointMatch``).

    Parameters
    ----------
    watchpoint
        The watchpoint.
    address
        The first byte of the access; a tag is ignored.
    size
        Bytes accessed.
    write
        Whether it is a store.
    el
        Whose permissions the access has: 0 or 1.
    breakpoints
        Those that a watchpoint can be linked to.
    context
        Who makes the access.

    Returns
    -------
    int or None
        An offset from ``address``.
    """
    watched = extent(watchpoint)
    control = WatchpointControl(watchpoint.control)
    if watched is None or not control.LSC & (_STORE if write else _LOAD):
        return None
    if el not in levels(control.HMC, control.SSC, control.PAC):
        return None
    if control.WT and not breakpoints.linked_matches(control.LBN, context):
        return None
    address &= ADDRESS
    begin = max(address, watched.start)
    end = min(address + size, watched.start + watched.size)
    if begin >= end:
        return None
    if watched.selected < 0:
        return begin - address
    for byte in range(begin, end):
        if watched.selected >> byte - watched.start & 1:
            return byte - address
    return None
