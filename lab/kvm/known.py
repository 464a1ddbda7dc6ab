"""Brings the events of both sides into a form in which equal behaviour is equal text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from emu.arch.esr.iss import IssDataAbort
from lab.virtmap import PL011

if TYPE_CHECKING:
    from collections.abc import Iterable

_HSR: Final = re.compile(r"hsr (0x[0-9a-f]+)")
_LEVEL: Final = 3
_WALK: Final = IssDataAbort.S1PTW.in_place
_NOT_OF_THE_WALK: Final = IssDataAbort.WnR.in_place | _LEVEL


_CONSOLE_OF_TIME: Final = re.compile(r"^console: '\d+ Hz, (\d+) ticks, \d+ WFI")
"""What the guest wfi_time prints: how fast the counter is, and how often WFI returned."""

_UART_FAULT: Final = f"kvm_guest_fault: ipa {PL011.base:#x}, "
_UART_STORE: Final = re.compile(
    rf"kvm_mmio: mmio write len \d+ gpa {PL011.base:#x} val (0x[0-9a-f]+)"
)


def comparable(events: Iterable[str]) -> list[str]:
    """Return events freed of what QEMU reports in its own way, the console by lines."""
    return without_real_time(with_console_by_lines(without_differences_of_qemu(events)))


def without_real_time(events: Iterable[str]) -> list[str]:
    """Return events freed of the two numbers that differ from one machine to another.

    The frequency of the counter is the machine's. How often WFI returns before a timer is
    due depends on the host, too: KVM may let it return for any reason, and does not wait
    when the deadline has passed before.
    """
    return [_CONSOLE_OF_TIME.sub(r"console: 'n Hz, \1 ticks, n WFI", event) for event in events]


def with_console_by_lines(events: Iterable[str]) -> list[str]:
    """Return events with what went to the console as text: each character is two of them."""
    shown: list[str] = []
    text = ""
    for event in events:
        character = _UART_STORE.fullmatch(event)
        if character is not None:
            text += chr(int(character[1], 16) & 0xFF)
        elif event.startswith(_UART_FAULT):
            continue
        if text and (character is None or text[-1] == "\n"):
            shown.append(f"console: {text!r}")
            text = ""
        if character is None:
            shown.append(event)
    return [*shown, f"console: {text!r}"] if text else shown


def without_differences_of_qemu(events: Iterable[str]) -> list[str]:
    """Return events with what QEMU reports in its own way made equal.

    A stage 2 fault on a stage 1 walk (S1PTW): QEMU 7.2 reports the level of the stage 1
    lookup, the architecture that of the stage 2 lookup; and WnR of the instruction, where the
    architecture wants that of the walk. Both are cleared.
    """
    return [_HSR.sub(_walk_freed, event) for event in events]


def _walk_freed(match: re.Match[str]) -> str:
    hsr = int(match[1], 16)
    return f"hsr {hsr & ~_NOT_OF_THE_WALK if hsr & _WALK else hsr:#010x}"
