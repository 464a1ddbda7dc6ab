"""On which lines of a TOML file its keys are, which :mod:`tomllib` does not tell."""

from __future__ import annotations

import re
from typing import Final

Path = tuple[str | int, ...]
"""Of a key: names of tables, and the numbers of those that stand in arrays."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRINGS: Final = ('"""', "'''", '"', "'")


class _Scanner:
    """Goes through a document that is known to be well-formed."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.lines: dict[Path, int] = {}
        self._arrays: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip(newlines=True):
            if self.text.startswith("[[", self.at):
                self.at += 2
                name = self._within(self._key())
                number = self._arrays[name] = self._arrays.get(name, -1) + 1
                table = (*name, number)
                self._note(name)
                self._note(table)
                self._expect("]]")
            elif self.text[self.at] == "[":
                self.at += 1
                table = self._within(self._key())
                self._note(table)
                self._expect("]")
            else:
                self._pair(table)

    def _within(self, names: Path) -> Path:
        """Return where a table is: the last one of each array on the way."""
        found: Path = ()
        for place, name in enumerate(names):
            found = (*found, name)
            if found in self._arrays and place < len(names) - 1:
                found = (*found, self._arrays[found])
        return found

    def _note(self, path: Path) -> None:
        self.lines.setdefault(path, self.text.count("\n", 0, self.at) + 1)

    def _pair(self, table: Path) -> None:
        start = self.at
        path = (*table, *self._key())
        end, self.at = self.at, start
        for depth in range(len(table) + 1, len(path) + 1):
            self._note(path[:depth])
        self.at = end
        self._expect("=")
        self._value(path)

    def _key(self) -> Path:
        names: list[str] = []
        while True:
            self._skip()
            names.append(self._name())
            self._skip()
            if not self.text.startswith(".", self.at):
                return tuple(names)
            self.at += 1

    def _name(self) -> str:
        if self.text[self.at] in "\"'":
            return self._string()
        match = _BARE.match(self.text, self.at)
        assert match is not None, "the document is well-formed"
        self.at = match.end()
        return match[0]

    def _string(self) -> str:
        quote = next(q for q in _STRINGS if self.text.startswith(q, self.at))
        start = self.at = self.at + len(quote)
        while not self.text.startswith(quote, self.at):
            self.at += 2 if self.text[self.at] == "\\" and quote[0] == '"' else 1
        end = self.at
        self.at += len(quote)
        while len(quote) == 3 and self.text.startswith(quote[0], self.at):
            self.at += 1  # a quote may stand before the closing three
        return self.text[start:end]

    def _value(self, path: Path) -> None:
        self._skip(newlines=True)
        if self.text[self.at] in "\"'":
            self._string()
        elif self.text[self.at] == "[":
            self._items("]", path)
        elif self.text[self.at] == "{":
            self._items("}", path)
        else:
            while self.at < len(self.text) and self.text[self.at] not in ",]}#\n":
                self.at += 1

    def _items(self, close: str, path: Path) -> None:
        """Read the items of an array or an inline table."""
        self.at += 1
        number = 0
        while self._skip(newlines=True) and self.text[self.at] != close:
            if close == "}":
                self._pair(path)
            else:
                self._note((*path, number))
                self._value((*path, number))
                number += 1
            self._skip(newlines=True)
            if self.text[self.at] == ",":
                self.at += 1
        self.at += 1

    def _skip(self, *, newlines: bool = False) -> bool:
        """Skip blanks and comments; return whether something is left."""
        blanks = " \t\r\n" if newlines else " \t"
        while self.at < len(self.text):
            if self.text[self.at] in blanks:
                self.at += 1
            elif newlines and self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return True
        return False

    def _expect(self, token: str) -> None:
        self._skip()
        assert self.text.startswith(token, self.at), "the document is well-formed"
        self.at += len(token)


def key_lines(text: str) -> dict[Path, int]:
    """Return the lines of all keys and tables of a well-formed document, counted from 1."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of a key, or of the innermost table around it that is written down."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)
