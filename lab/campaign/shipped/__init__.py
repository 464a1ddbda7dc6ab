"""The campaigns that come with the project, a TOML file each, and finding one by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lab.campaign.known import near
from lab.errors import UserError

SHIPPED: Final = Path(__file__).resolve().parent
"""The folder of the files."""

_SUFFIX: Final = ".toml"


def shipped_campaigns() -> dict[str, Path]:
    """Return the shipped campaigns by name, in alphabetical order."""
    return {path.stem: path for path in sorted(SHIPPED.glob(f"*{_SUFFIX}"))}


def find_campaign(text: str) -> Path:
    """Return the file of a campaign.

    Parameters
    ----------
    text : str
        A path, or the name of a shipped campaign. A file of that name comes first.

    Raises
    ------
    UserError
        If there is neither; the text has similar names.
    """
    path, shipped = Path(text), shipped_campaigns()
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(f"{text} is a folder; give a campaign file in it")
    if text in shipped:
        return shipped[text]
    if path.suffix == _SUFFIX or len(path.parts) > 1:
        raise UserError(f"there is no file {text}; check the path")
    raise UserError(
        f"there is no file {text}, and no shipped campaign of that name; {near(text, shipped)}"
    )
