"""What compiling needs: mypyc, a C compiler, and Python's header files."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from lab.errors import UserError

_ZIG = "ziglang"


class Tools(NamedTuple):
    """What there is on this host."""

    mypyc: str
    """Its version: the code it makes is its own."""
    compiler: tuple[str, ...]
    """The command of the C compiler."""
    headers: tuple[Path, ...]
    """Where Python.h and pyconfig.h lie."""


def find_tools() -> Tools:
    """Return what is needed.

    Raises
    ------
    UserError
        If something is missing; the text says what to install.
    """
    missing = [name for name in ("mypyc", "setuptools") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"compiling needs {' and '.join(missing)}; run pip install 'stage2[fast]'")
    headers = {Path(sysconfig.get_path(name)) for name in ("include", "platinclude")}
    if not any((folder / "Python.h").is_file() for folder in headers):
        raise UserError(
            f"compiling needs Python.h, which is not in {min(headers)}; "
            "install Python's header files (Debian: apt install python3-dev)"
        )
    return Tools(importlib.metadata.version("mypy"), _compiler(), tuple(sorted(headers)))


def _compiler() -> tuple[str, ...]:
    """Return the compiler Python was built with, the system's own, or the one in ziglang."""
    for command in (sysconfig.get_config_var("CC") or "", "cc", "gcc", "clang"):
        words = tuple(shlex.split(command))
        if words and shutil.which(words[0]):
            return words
    if importlib.util.find_spec(_ZIG) is not None:
        return (sys.executable, "-m", _ZIG, "cc")
    raise UserError(
        "compiling needs a C compiler; install one (Debian: apt install gcc) "
        "or run pip install 'stage2[guests]', which brings ziglang"
    )
