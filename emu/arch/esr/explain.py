"""Explain an ESR value: its fields with their meanings, and one sentence.

Pure: takes numbers, returns a tree of rows that a presenter prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.arch.address import VA
from emu.arch.bits import bit_range
from emu.arch.esr.checks import warnings
from emu.arch.esr.classes import CLASSES
from emu.arch.esr.layouts import iss2_layout, iss_layout
from emu.arch.esr.meanings import RESERVED, meaning
from emu.arch.esr.report import Report
from emu.arch.esr.sentences import sentence
from emu.arch.esr.sentences.words import address
from emu.arch.registers.exceptions import HPFAR_EL2, ExceptionSyndrome

if TYPE_CHECKING:
    from typing import Any

    from emu.arch.bits import Bits
    from emu.arch.fields import Layout


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field of a register."""

    name: str
    msb: int
    """Bit positions are those of the register, also for fields within ISS and ISS2."""
    lsb: int
    value: int
    meaning: str
    """Empty where the value says it all."""
    children: tuple[FieldRow, ...] = ()

    @property
    def span(self) -> str:
        """The bit range, as the Arm ARM prints it."""
        return bit_range(self.msb, self.lsb)


@dataclass(frozen=True, slots=True)
class RegisterRows:
    """One register and its fields, most significant first."""

    name: str
    value: int
    fields: tuple[FieldRow, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that can be said about an exception from its registers."""

    registers: tuple[RegisterRows, ...]
    """ESR_ELx, then FAR_ELx and HPFAR_EL2 if they were given."""
    sentence: str
    notes: tuple[str, ...]
    """What the sentence takes for granted."""
    warnings: tuple[str, ...]
    """What no PE would report."""


def _row(field: Bits[Any], value: int, text: str, *children: FieldRow) -> FieldRow:
    return FieldRow(field.name, field.msb, field.lsb, int(value), text, children)


def _subfields(layout: type[Layout] | None, word: int, shift: int) -> tuple[FieldRow, ...]:
    """Return the rows of a layout that starts at bit ``shift`` of its register."""
    if layout is None:
        return ()
    return tuple(
        FieldRow(
            field.name,
            field.msb + shift,
            field.lsb + shift,
            int(value),
            meaning(layout, field.name, value),
        )
        for field, value in layout(word).describe()
    )


def _esr_rows(report: Report) -> tuple[FieldRow, ...]:
    esr, fields = report.esr, ExceptionSyndrome
    facts = CLASSES.get(esr.EC)
    kind = RESERVED if facts is None else f"{esr.EC.name}: {facts.meaning}"
    length = "32-bit instruction" if esr.IL else "16-bit instruction"
    if report.il_is_fixed and esr.IL:
        length = "always 1 here"
    rows = [
        _row(fields.EC, esr.EC, kind),
        _row(fields.IL, esr.IL, length),
        _row(fields.ISS, esr.ISS, "", *_subfields(iss_layout(esr), esr.ISS, fields.ISS.lsb)),
    ]
    if esr.ISS2:
        iss2 = _subfields(iss2_layout(esr), esr.ISS2, fields.ISS2.lsb)
        rows.insert(0, _row(fields.ISS2, esr.ISS2, "", *iss2))
    return tuple(rows)


def _registers(report: Report) -> tuple[RegisterRows, ...]:
    level = report.taken_to
    registers = [RegisterRows(f"ESR_EL{level}", int(report.esr), _esr_rows(report))]
    if report.far is not None:
        row = FieldRow("VA", 63, 0, report.far, "" if report.far_is_valid else "not valid")
        registers.append(RegisterRows(f"FAR_EL{level}", report.far, (row,)))
    if report.hpfar is not None:
        page = f"page at IPA {address(report.hpfar.FIPA << 12)}"
        rows = (
            _row(HPFAR_EL2.NS, report.hpfar.NS, ""),
            _row(HPFAR_EL2.FIPA, report.hpfar.FIPA, page if report.hpfar_is_valid else "not valid"),
        )
        registers.append(RegisterRows("HPFAR_EL2", int(report.hpfar), rows))
    return tuple(registers)


_STAGE_2_ASSUMED = (
    "Stage 2 is assumed. With HCR_EL2.TGE = 1, a stage 1 fault of EL0 gives the same ESR_EL2."
)


def _notes(report: Report) -> tuple[str, ...]:
    if report.stage_is_assumed:
        return (_STAGE_2_ASSUMED,)
    return ()


def explain(
    esr: int, far: int | None = None, hpfar: int | None = None, taken_to: int = 2
) -> Explanation:
    """Explain an ESR value.

    Parameters
    ----------
    esr
        ESR_ELx, 64 bits. Any value has an explanation.
    far
        FAR_ELx after the same exception, if known.
    hpfar
        HPFAR_EL2 after the same exception, if known. Only for ``taken_to`` 2.
    taken_to
        The Exception level that took the exception, 1, 2 or 3. The ESR value does not
        say it, and EC only says whether it is above or the same as where it came from.

    Raises
    ------
    ValueError
        If a value is not an unsigned 64-bit number, ``taken_to`` is not 1, 2 or 3, or
        ``hpfar`` is given for an exception that was not taken to EL2.
    """
    for name, value in (("ESR", esr), ("FAR", far), ("HPFAR", hpfar)):
        if value is not None and not 0 <= value < 1 << 64:
            raise ValueError(f"{name} is an unsigned 64-bit value, not {value:#x}")
    if taken_to not in (1, 2, 3):
        raise ValueError(f"an exception is taken to Exception level 1, 2 or 3, not {taken_to}")
    if hpfar is not None and taken_to != 2:
        raise ValueError(f"HPFAR_EL2 belongs to exceptions taken to EL2, not to EL{taken_to}")
    report = Report(
        ExceptionSyndrome(esr),
        None if far is None else VA(far),
        None if hpfar is None else HPFAR_EL2(hpfar),
        taken_to,
    )
    return Explanation(_registers(report), sentence(report), _notes(report), warnings(report))
