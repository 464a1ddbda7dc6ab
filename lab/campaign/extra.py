"""What only those who evaluate campaigns need, and is installed apart."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def extra(what: str) -> Iterator[None]:
    """Turn a package that is not installed into one line; imports stand in its block.

    Parameters
    ----------
    what : str
        What needs it: "an HTML report".
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{what} needs {error.name}, which is not installed; "
            "run: pip install 'stage2[campaign]'"
        ) from error
