"""Files for people and other programs: whole, or not there."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a place to write to; it becomes ``path`` when the block ends without an error.

    Raises
    ------
    UserError
        If the disk refuses; what was at ``path`` is still there.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise UserError(f"cannot write {path}: {reason}; name another file") from error
    finally:
        # If all went well, or nothing did, it is not there.
        with suppress(OSError):
            part.unlink()
