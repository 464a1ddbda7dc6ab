"""Where triggers hook into a running VM."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyp.vm import VM


class Moments:
    """The moments of one VM that triggers can ask for.

    Parameters
    ----------
    vm : VM
        The VM, with all of its vCPUs.
    """

    def __init__(self, vm: VM) -> None:
        self.vm = vm
