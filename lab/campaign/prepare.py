"""A campaign with everything that it is about at hand: the guest's image, and the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.campaign.identity import identity, sha256_of
from lab.errors import UserError
from lab.loader import load
from lab.loader.symbols import read_symbols
from lab.target import open_target

if TYPE_CHECKING:
    from pathlib import Path

    from lab.campaign.runner import CampaignRunner
    from lab.campaign.spec import Campaign
    from lab.config import RunConfig
    from lab.loader import Image
    from lab.loader.symbols import Symbols


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A campaign as workers get it. It can be pickled: no worker reads the guest's file.

    Attributes
    ----------
    campaign : Campaign
        What is to be run.
    config : RunConfig
        The machine.
    image : Image
        The guest.
    symbols : Symbols or None
        Its symbols, if it has some.
    sha256 : str
        Of the guest's file.
    inputs : tuple[tuple[str, str], ...]
        The other files that the machine reads, each with its SHA-256. Workers read them, too.
    hash : str
        Of all of this.
    """

    campaign: Campaign
    config: RunConfig
    image: Image
    symbols: Symbols | None
    sha256: str
    inputs: tuple[tuple[str, str], ...]
    hash: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prepared) and other.hash == self.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def runner(self) -> CampaignRunner:
        """Build the machine, and run the guest without faults."""
        from lab.campaign.runner import CampaignRunner  # noqa: PLC0415  # of workers

        return CampaignRunner(self)


def prepare(campaign: Campaign) -> Prepared:
    """Read the guest of a campaign.

    Raises
    ------
    UserError
        If there is no such guest, or it does not fit its machine.
    """
    with open_target(campaign.guest) as target:
        config = campaign.configuration(target)
        image = load(target.image, config.memory, config.flash)
        sha256 = sha256_of(target.image)
        known = identity(campaign, config, target.image)
        symbols = read_symbols(target.image)
    for drive in config.drives:
        if not drive.read_only and not drive.copy_on_write:
            raise UserError(
                f"--drive {drive}: one run would find what another has written; add cow or ro"
            )
    inputs = tuple((str(path), sha256_of(path)) for path in _files(config))
    return Prepared(campaign, config, image, symbols, sha256, inputs, known)


def _files(config: RunConfig) -> list[Path]:
    """Return the files that the machine reads, the guest aside."""
    files = [slot.file for slot in config.slots if slot.file is not None]
    files += [drive.path for drive in config.drives]
    return files + ([] if config.initrd is None else [config.initrd])
