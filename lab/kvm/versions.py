"""Which profile of the hypervisor stands for the KVM of a Linux release."""

from __future__ import annotations

import re
from typing import Final

from lab.errors import UserError

FIRST_RELEASES: Final = {
    (3, 9): "2012",
    (4, 18): "2018",
    (5, 16): "2021",
    (6, 1): "6.1",
    (7, 0): "2026",
}
"""The release from which on a profile is the nearest that is not newer than the kernel."""

_RELEASE: Final = re.compile(r"(\d+)\.(\d+)")


def profile_of(release: str) -> str:
    """Return the profile for a release as ``uname -r`` prints it.

    Raises
    ------
    UserError
        If it is no release, or older than KVM on Arm.
    """
    found = _RELEASE.match(release)
    if found is None:
        raise UserError(f"{release!r} is no release of Linux; it begins like 6.1")
    version = int(found[1]), int(found[2])
    fitting = [profile for first, profile in FIRST_RELEASES.items() if first <= version]
    if not fitting:
        raise UserError(f"Linux {release} has no KVM for Arm, which came with 3.9")
    return fitting[-1]
