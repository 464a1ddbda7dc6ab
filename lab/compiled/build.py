"""From the sources in the tree to machine code in the user's cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from emu import compiled
from lab.compiled.modules import to_compile
from lab.compiled.standins import with_stand_ins
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from lab.compiled.tools import Tools

OPTIONS: Final = ("-O1", "-fPIC", "-fwrapv", "-fvisibility=hidden", "-w", "-DNDEBUG")
"""``-fwrapv`` as for Python itself. Warnings about generated C concern nobody here."""

MANIFEST: Final = "manifest.json"


class Compiled(NamedTuple):
    """What a folder of compiled modules holds."""

    folder: Path
    mypyc: str
    modules: tuple[str, ...]
    size: int
    """Bytes."""


def existing() -> Compiled | None:
    """Return what has been compiled of these sources; None if nothing has."""
    folder = compiled.home()
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return None
    size = sum(file.stat().st_size for file in folder.iterdir())
    return Compiled(folder, manifest["mypyc"], tuple(manifest["modules"]), size)


def build(tools: Tools, jobs: int, report: Callable[[str, int, int], None]) -> Compiled:
    """Compile the sources as they are now; what is there before stays until all is done.

    Parameters
    ----------
    tools
        What to compile with.
    jobs
        How many compilers may run at once.
    report
        Told of each step: what is being done, how many of it are done, how many there are.

    Raises
    ------
    UserError
        If mypyc or the C compiler refuses.
    """
    home, paths = compiled.home(), to_compile()
    compiled.shelf().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=compiled.shelf(), prefix="new-") as name:
        work = Path(name)
        for path in compiled.sources():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(with_stand_ins((compiled.ROOT / path).read_text()))
        report("translating to C", 0, len(paths))
        extensions = _generate(work, paths)
        made = work / "made"
        made.mkdir()
        _compile(work, made, extensions, tools, jobs, report)
        manifest = {"mypyc": tools.mypyc, "modules": sorted(extensions.keys() - {compiled.LIBRARY})}
        (made / MANIFEST).write_text(json.dumps(manifest, indent=1))
        if compiled.home() != home:
            raise UserError("the sources changed while they were compiled; run it again")
        shutil.rmtree(home, ignore_errors=True)
        made.replace(home)
    built = existing()
    assert built is not None, "it has just been put there"
    return built


def _generate(work: Path, paths: Sequence[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Have mypyc write C; return the sources and include folders of each extension module."""
    done = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-P", str(Path(__file__).with_name("generate.py")), *paths],
        cwd=work,
        env={**os.environ, compiled.PURE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError("mypyc refuses the sources", done.stdout + done.stderr)
    extensions: dict[str, tuple[list[str], list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return extensions


def _compile(
    work: Path,
    made: Path,
    extensions: dict[str, tuple[list[str], list[str]]],
    tools: Tools,
    jobs: int,
    report: Callable[[str, int, int], None],
) -> None:
    """Compile and link every extension module, as far as possible at once."""
    includes = [f"-I{folder}" for folder in tools.headers]

    def compile_one(source: str, folders: Iterable[str]) -> None:
        options = (*OPTIONS, *includes, *(f"-I{folder}" for folder in folders))
        _run(work, *tools.compiler, *options, "-c", source, "-o", f"{source}.o")

    def link(name: str, sources: Iterable[str]) -> None:
        objects = [f"{source}.o" for source in sources]
        file = made / f"{name}{compiled.SUFFIX}"
        _run(work, *tools.compiler, "-shared", "-s", *objects, "-o", str(file))

    steps = [(source, includes) for sources, includes in extensions.values() for source in sources]
    steps.sort(key=lambda step: -(work / step[0]).stat().st_size)  # the longest first
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(compile_one, *step) for step in steps]
        try:
            for count, each in enumerate(running):
                report("compiling C", count, len(steps))
                each.result()
            links = [pool.submit(link, name, files) for name, (files, _) in extensions.items()]
            for each in links:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _run(work: Path, *command: str) -> None:
    done = subprocess.run(  # noqa: S603  # the compiler, with our own arguments
        command, cwd=work, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"{command[0]} cannot compile what mypyc wrote", done.stderr)


def remove() -> list[Path]:
    """Remove everything that was ever compiled, of these sources and others."""
    shelf = compiled.shelf()
    folders = sorted(shelf.iterdir()) if shelf.is_dir() else []
    if folders:
        shutil.rmtree(shelf)
    return folders
