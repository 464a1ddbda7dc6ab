"""Breakpoints and watchpoints compared byte by byte, as the Arm ARM's pseudocode does it.

It shares no code with ``emu/arch/debug``. Where the pseudocode leaves a choice, the one that
``docs/debug.md`` names is made.
"""

from __future__ import annotations

from typing import NamedTuple


class Machine(NamedTuple):
    """A PE in Non-secure state with EL2 and without EL3."""

    bvr: list[int]
    bcr: list[int]
    context_aware: int
    """How many breakpoints compare contexts: the last ones."""
    el: int
    contextidr: int
    vmid: int


def field(word: int, high: int, low: int) -> int:
    """Return bits of a word."""
    return word >> low & (1 << high - low + 1) - 1


def state_match(
    machine: Machine, ssc: int, hmc: int, pxc: int, lbn: int, *, linked: bool, el: int
) -> bool:
    """``AArch64.StateMatch``."""
    allocated = {0b00001, 0b00010, 0b00011, 0b00101, 0b00110, 0b00111}
    allocated |= {0b10001, 0b10011, 0b10101, 0b10111}
    if hmc << 4 | ssc << 2 | pxc not in allocated:
        return False
    if not (pxc & 1 if el == 1 else pxc & 2):
        return False
    if not linked:
        return True
    first = len(machine.bcr) - machine.context_aware
    if lbn < first or lbn >= len(machine.bcr):
        return False
    return breakpoint_value_match(machine, lbn, 0, linked_to=True)


def breakpoint_value_match(machine: Machine, n: int, va: int, *, linked_to: bool) -> bool:
    """``AArch64.BreakpointValueMatch``."""
    bcr, bvr = machine.bcr[n], machine.bvr[n]
    if not bcr & 1:
        return False
    kind = field(bcr, 23, 20)
    if kind in (4, 5, 6, 7, 12, 13, 14, 15):
        return False
    match_addr = kind in (0, 1)
    if not match_addr and n < len(machine.bcr) - machine.context_aware:
        return False
    linked = bool(kind & 1)
    if linked_to and (not linked or match_addr):
        return False
    if not linked_to and linked and not match_addr:
        return False
    if match_addr:
        return field(bcr, 8, 5) >> (va & 3) & 1 == 1 and field(va, 52, 2) == field(bvr, 52, 2)
    context = kind in (2, 3, 10, 11)
    vmid = kind in (8, 9, 10, 11)
    if context and field(bvr, 31, 0) != field(machine.contextidr, 31, 0):
        return False
    return not vmid or field(bvr, 47, 32) == machine.vmid


def breakpoint_match(machine: Machine, n: int, va: int) -> bool:
    """``AArch64.BreakpointMatch``."""
    bcr = machine.bcr[n]
    linked = field(bcr, 23, 20) == 1
    state = state_match(
        machine,
        field(bcr, 15, 14),
        field(bcr, 13, 13),
        field(bcr, 2, 1),
        field(bcr, 19, 16),
        linked=linked,
        el=machine.el,
    )
    return state and breakpoint_value_match(machine, n, va, linked_to=False)


def watchpoint_byte_match(wvr: int, wcr: int, va: int) -> bool:
    """``AArch64.WatchpointByteMatch``."""
    bas, mask = field(wcr, 12, 5), field(wcr, 28, 24)
    if not bas:
        return False
    bottom = 2 if wvr & 4 else 3
    selected = bool(bas >> field(va, bottom - 1, 0) & 1)
    if mask:
        if mask < 3:
            return False
        return field(va, 52, mask) == field(wvr, 52, mask)
    ones = [bit for bit in range(8) if bas >> bit & 1]
    if ones != list(range(ones[0], ones[-1] + 1)):
        selected, bottom = True, 3
    return selected and field(va, 52, bottom) == field(wvr, 52, bottom)


def watchpoint_match(
    machine: Machine, wvr: int, wcr: int, va: int, size: int, *, write: bool
) -> int | None:
    """``AArch64.WatchpointMatch``, with the offset of the first byte."""
    if not wcr & 1 or not field(wcr, 4, 3) >> write & 1:
        return None
    state = state_match(
        machine,
        field(wcr, 15, 14),
        field(wcr, 13, 13),
        field(wcr, 2, 1),
        field(wcr, 19, 16),
        linked=bool(field(wcr, 20, 20)),
        el=machine.el,
    )
    if not state:
        return None
    matching = (byte for byte in range(size) if watchpoint_byte_match(wvr, wcr, va + byte))
    return next(matching, None)
