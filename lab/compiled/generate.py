"""Runs mypyc where copies of the sources lie: ``python generate.py FILE...``.

A program of its own, since mypyc looks for modules from the current folder on, and ends the
process when it refuses something. It prints what is to be built as one line of JSON, the last.
"""

from __future__ import annotations

import json
import sys
from typing import Final

from mypyc.build import mypycify

_CHECKS: Final = (
    "--config-file=",
    "--explicit-package-bases",
    "--namespace-packages",
    "--ignore-missing-imports",  # of optional packages
    "--warn-unreachable",  # what mypyc takes for unreachable it leaves out
)


def main(paths: list[str]) -> None:
    """Write C for the modules at ``paths`` and say what to build of it."""
    extensions = mypycify([*_CHECKS, *paths], multi_file=True, group_name="stage2")
    built = {each.name: (each.sources, each.include_dirs) for each in extensions}
    print(json.dumps(built))  # noqa: T201  # for the process that started this one


if __name__ == "__main__":
    main(sys.argv[1:])
