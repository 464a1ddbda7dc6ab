"""Words that sentences share: names of registers, addresses, field values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.esr.meanings import RESERVED, meaning

if TYPE_CHECKING:
    from emu.arch.esr.report import Report
    from emu.arch.fields import Layout


def register(number: int, *, sixty_four: bool = True) -> str:
    """Name a general register as assembly does: ``X3``, ``W3``, ``XZR``."""
    letter = "X" if sixty_four else "W"
    return f"{letter}ZR" if number == 31 else f"{letter}{number}"


def address(value: int) -> str:
    """Write an address, eight digits or more in groups of four: ``0x4000_1000``."""
    return f"0x{value:09_x}"


def known(layout: type[Layout], field: str, value: int, otherwise: str) -> str:
    """Return the meaning of a field's value, or ``otherwise`` if it is reserved."""
    text = meaning(layout, field, value)
    return otherwise if text == RESERVED else text


def where(report: Report) -> str:
    """Give the addresses that are known, after a semicolon; nothing if none is."""
    parts = []
    if report.va is not None:
        parts.append(f"VA {address(report.va)}")
    if report.ipa is not None:
        parts.append(f"IPA {address(report.ipa)}")
    elif report.ipa_page is not None:
        of_descriptor = report.abort is not None and report.abort.S1PTW
        owner = "descriptor in the page at " if of_descriptor else ""
        parts.append(f"{owner}IPA {address(report.ipa_page)}")
    return "; " + ", ".join(parts) if parts else ""
