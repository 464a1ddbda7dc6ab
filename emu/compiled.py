"""Compiled modules, where there are some: one source, two ways to run it.

``stage2 compile`` turns modules of ``emu`` and ``hyp`` into machine code and keeps them in the
user's cache, in a folder whose name is a hash of all their sources. Importing either package looks
for that folder once. What has been compiled is imported from there, all else from its source; a
changed source has another hash, and no folder, so that stale code never runs.

The environment variable ``STAGE2_PURE=1`` has everything run from its source.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

PURE: Final = "STAGE2_PURE"
"""The environment variable that forbids compiled modules, unless it is empty or 0."""

PACKAGES: Final = ("emu", "hyp")
"""Compiled together: calls between their modules are direct."""

LIBRARY: Final = "stage2__mypyc"
"""The module that holds the code of all others."""

SUFFIX: Final = EXTENSION_SUFFIXES[0]
"""Names the Python version and the platform, too: ``.cpython-311-x86_64-linux-gnu.so``."""

ROOT: Final = Path(__file__).resolve().parent.parent
"""The folder that the packages lie in."""


def cache() -> Path:
    """Return the folder for what is built or fetched once."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stage2"


def sources() -> Iterator[str]:
    """Yield the path of every module from :data:`ROOT` on, always in the same order."""
    for package in PACKAGES:
        yield from _modules(package)


def _modules(folder: str) -> Iterator[str]:
    for name in sorted(os.listdir(f"{ROOT}/{folder}")):  # noqa: PTH208  # as in home()
        if name.endswith(".py"):
            yield f"{folder}/{name}"
        elif "." not in name and name != "__pycache__":
            yield from _modules(f"{folder}/{name}")


def shelf() -> Path:
    """Return the folder of all that has been compiled, of these sources and others."""
    return cache() / "compiled"


def home() -> Path:
    """Return the folder that what is compiled of these sources belongs in."""
    import hashlib  # noqa: PLC0415  # only where something has been compiled

    digest = hashlib.sha256()
    for path in sources():
        with open(f"{ROOT}/{path}", "rb", buffering=0) as file:  # noqa: PTH123  # pathlib is slow
            text = file.read()
        digest.update(f"{path} {len(text)}\n".encode() + text)
    return shelf() / (digest.hexdigest()[:32] + SUFFIX.removesuffix(".so"))


class CompiledFinder:
    """Finds the modules that lie in a folder as machine code.

    Parameters
    ----------
    folder
        Holds the module ``emu.mmu.tlb`` as ``emu.mmu.tlb`` with :data:`SUFFIX`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = frozenset(file.name for file in folder.iterdir())

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002  # the protocol of sys.meta_path
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Say how to import a module, if it has been compiled."""
        file = fullname + SUFFIX
        if file not in self._files:
            return None
        place = str(self.folder / file)
        spec = ModuleSpec(fullname, ExtensionFileLoader(fullname, place), origin=place)
        spec.has_location = True
        return spec


def is_pure() -> bool:
    """Whether compiled modules are forbidden."""
    return os.environ.get(PURE, "0") not in {"", "0"}


def in_use() -> Path | None:
    """Return the folder of the compiled modules that this process uses; None if it uses none."""
    return next((each.folder for each in sys.meta_path if isinstance(each, CompiledFinder)), None)


def use() -> None:
    """Have modules imported as they were compiled, if they were: before any has been imported."""
    if is_pure() or not shelf().is_dir():
        return
    folder = home()
    if folder.is_dir():
        sys.meta_path.insert(0, CompiledFinder(folder))
