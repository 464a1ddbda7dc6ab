"""What can be said of a guest that ended abnormally."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from emu.arch.a64.text import disassemble
from lab.sizes import format_address

if TYPE_CHECKING:
    from emu.arch.address import VA


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction; ``word`` is None where nothing can be fetched."""

    pc: VA
    word: int | None

    @property
    def text(self) -> str:
        """The instruction as assembly."""
        return "(nothing to fetch)" if self.word is None else disassemble(self.word, self.pc)


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashReport:
    """Where the guest was, why, and what to try.

    Attributes
    ----------
    what : str
        What happened, in one sentence.
    pc : VA
        The instruction that could not be completed, or where the guest was stopped.
    el : int
        Its Exception level.
    syndrome : str
        The exception in words; empty if there was none.
    registers : tuple[tuple[str, int], ...]
        System registers worth seeing, by name.
    steps : tuple[Step, ...]
        The last instructions in the order of execution. In a loop: its body.
    advice : str
        What to try.
    """

    what: str
    pc: VA
    el: int
    syndrome: str = ""
    registers: tuple[tuple[str, int], ...] = ()
    steps: tuple[Step, ...] = ()
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """Return the report as what JSON can hold."""
        return {
            "what": self.what,
            "pc": self.pc,
            "el": self.el,
            "syndrome": self.syndrome,
            "registers": dict(self.registers),
            "steps": [{"pc": s.pc, "word": s.word, "text": s.text} for s in self.steps],
            "advice": self.advice,
        }

    def render(self) -> Table:
        """Return the report for a terminal."""
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column()
        table.add_row("what", Text(self.what))
        if self.syndrome:
            table.add_row("why", Text(self.syndrome))
        table.add_row("PC", f"{format_address(self.pc)} at EL{self.el}")
        for name, value in self.registers:
            table.add_row(name, format_address(value))
        if self.steps:
            table.add_row("code", _listing(self))
        table.add_row("try", Text(self.advice))
        return table


def _listing(report: CrashReport) -> Text:
    """Return the steps a line each, the one at PC marked."""
    lines = Text()
    for step in report.steps:
        here = step.pc == report.pc
        if lines:
            lines.append("\n")
        lines.append(f"{'>' if here else ' '} {format_address(step.pc)}  ", style="dim")
        lines.append(step.text, style="bold red" if here else "")
    return lines
