"""The hash of all that decides what a campaign comes to."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.cpu import cpu_of, registers_of
from lab.errors import UserError

if TYPE_CHECKING:
    from lab.campaign.spec import Campaign
    from lab.config import RunConfig


def project_version() -> str:
    """Return the version of this project."""
    try:
        return version("stage2")
    except PackageNotFoundError:
        return "unknown"


def identity(campaign: Campaign, config: RunConfig, image: Path) -> str:
    """Return the hash of a campaign with its guest and machine, in hexadecimal.

    Files are part of it by what they contain, not by where they are: a campaign that has moved
    to another folder is the same.

    Raises
    ------
    UserError
        If a file cannot be read.
    """
    made = hashlib.sha256(b"stage2 campaign 1\n")
    for part in (
        project_version(),
        _facts(campaign, leave_out={"guest"}),
        _facts(config, leave_out={"cpu"}),
        _facts(registers_of(cpu_of(config))),
        sha256_of(image),
    ):
        made.update(f"{part}\n".encode())
    return made.hexdigest()


def _facts(what: Any, leave_out: frozenset[str] | set[str] = frozenset()) -> str:  # noqa: ANN401  # any value
    """Return a value as text, the same for equal values on every machine."""
    if isinstance(what, Path):
        return sha256_of(what)
    if is_dataclass(what):
        inside = [
            f"{f.name}={_facts(getattr(what, f.name))}"
            for f in fields(what)
            if f.name not in leave_out
        ]
        return f"{type(what).__name__}({', '.join(inside)})"
    if isinstance(what, dict):
        return "{" + ", ".join(f"{k}: {_facts(v)}" for k, v in sorted(what.items())) + "}"
    if isinstance(what, list | tuple):
        return "[" + ", ".join(map(_facts, what)) + "]"
    return repr(what)


def sha256_of(path: Path) -> str:
    """Return the hash of a file's contents, in hexadecimal.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
