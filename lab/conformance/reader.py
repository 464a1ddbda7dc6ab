"""Files of recorded cases: JSON lines, one case a line, plain or compressed with gzip."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, cast

from lab.conformance.parse import parse
from lab.conformance.values import MalformedCaseError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from lab.conformance.cases import Case


@dataclass(slots=True)
class Cases:
    """What some files hold.

    Attributes
    ----------
    cases
        The cases, in the order of the files.
    errors
        One line each for what is no case: where, what, and what was expected.
    """

    cases: list[Case] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def read(paths: Iterable[Path]) -> Cases:
    """Read files. What is wrong with a line or a file becomes an error; the rest is read."""
    found = Cases()
    for path in paths:
        before = len(found.cases) + len(found.errors)
        try:
            for number, line in enumerate(_lines(path), start=1):
                if line.strip():
                    _read_line(line, f"{path}:{number}", found)
        except (OSError, EOFError, zlib.error) as error:
            found.errors.append(f"{path}: cannot be read: {error}")
        if len(found.cases) + len(found.errors) == before:
            found.errors.append(f"{path}: holds no case")
    return found


def _read_line(line: bytes, place: str, found: Cases) -> None:
    try:
        found.cases.append(parse(json.loads(line), place))
    except MalformedCaseError as error:
        found.errors.append(f"{place}: {error}")
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        found.errors.append(f"{place}: a line is one JSON object; {error}: {shown(line)}")


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file; the contents tell whether it is compressed."""
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not is_compressed:
            yield from file
            return
        with gzip.open(file) as content:
            yield from cast("BinaryIO", content)
