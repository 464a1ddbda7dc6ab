"""The pages of the documentation, and the fenced blocks in them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

PAGES: Final = (
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
)
"""Every page that is checked."""

NOT_RUN: Final = "<!-- not run -->"
"""Stands in the line before a block that is shown only."""

_FENCE: Final = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<language>[^`\s]*)\s*$")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    """Number of the first line of its text, counted from 1."""
    language: str
    text: str
    exempt: bool
    """Whether :data:`NOT_RUN` stands before it."""
    output: str | None = None
    """The text block that directly follows it, if there is one."""

    @property
    def where(self) -> str:
        """Page and line, as editors understand them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_session(self) -> bool:
        """Whether it is Python with prompts."""
        return self.language == "python" and self.text.startswith(">>> ")

    @property
    def is_program(self) -> bool:
        """Whether it is Python whose output is shown in the block that follows."""
        return self.language == "python" and not self.is_session and self.output is not None


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Block] = []
    last_end = 0
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        at += 1
        if fence is None:
            continue
        start = at
        closing = fence["indent"] + fence["ticks"]
        while at < len(lines) and lines[at].rstrip() != closing:
            at += 1
        text = "".join(line.removeprefix(fence["indent"]) + "\n" for line in lines[start:at])
        before = [line for line in lines[last_end : start - 1] if line.strip()]
        exempt = bool(before) and before[-1].strip() == NOT_RUN
        if fence["language"] == "text" and not before and found:
            found[-1] = replace(found[-1], output=text)
        found.append(Block(page, start + 1, fence["language"], text, exempt))
        at += 1
        last_end = at
    return found
