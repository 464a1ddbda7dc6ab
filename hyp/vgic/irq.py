"""One interrupt of the virtual GIC, and the numbers that interrupts have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

NR_SGIS: Final = 16
"""INTIDs below are software-generated interrupts."""

NR_PRIVATE: Final = 32
"""INTIDs below are a vCPU's own: SGIs and PPIs."""

FIRST_SPECIAL: Final = 1020
"""INTIDs from here to 1023 name no interrupt."""

GROUP1_PENDING: Final = 1022
"""What a GICv2 answers for Group 0 if the interrupt is of Group 1."""

SPURIOUS: Final = 1023
"""There is no interrupt to take."""

PRIORITY_MASK: Final = 0xF8
"""The priority bits that exist: VGIC_PRI_BITS is 5, so there are 32 levels."""

PRIORITY_SHIFT: Final = 3
"""Where the implemented priority bits begin."""


class Config(IntEnum):
    """What ICFGR says of an interrupt."""

    LEVEL = 0
    EDGE = 1


_LEVEL: Final = Config.LEVEL


@dataclass(slots=True)
class Irq:
    """The state of one interrupt (``struct vgic_irq``).

    vCPUs are named by their number: their place in the order of creation.

    Parameters
    ----------
    intid
        Its number.
    owner
        The vCPU whose private interrupt it is; ``None`` for an SPI.
    target
        The vCPU that it goes to; ``None`` if it is routed to an affinity that no vCPU has.
    group
        0 or 1.
    config
        Level-sensitive or edge-triggered.
    enabled
        As ISENABLER and ICENABLER say.

    Attributes
    ----------
    pending_latch
        Made pending by an edge, by software or as an SGI. Taking the interrupt clears it.
    line_level
        The level of the input of a level-sensitive interrupt.
    active, active_on
        Whether it was taken and not yet deactivated, and by which vCPU.
    priority
        0 is the highest.
    targets
        GICv2: the byte of ITARGETSR.
    mpidr
        GICv3: the affinity of IROUTER.
    source
        GICv2 SGIs: a bit for each vCPU that has sent it. The latch is set as long as one is.
    active_source
        GICv2 SGIs: who sent the one that is active.
    """

    intid: int
    owner: int | None
    target: int | None
    group: int
    config: Config = Config.LEVEL
    enabled: bool = False
    pending_latch: bool = False
    line_level: bool = False
    active: bool = False
    active_on: int | None = None
    priority: int = 0
    targets: int = 0
    mpidr: int = 0
    source: int = 0
    active_source: int = 0

    @property
    def is_pending(self) -> bool:
        """Whether it waits to be taken, enabled or not (``irq_is_pending``)."""
        return self.pending_latch or (self.line_level and self.config is _LEVEL)

    @property
    def is_sgi(self) -> bool:
        """Whether software generates it."""
        return self.intid < NR_SGIS

    @property
    def waits_on(self) -> int | None:
        """The vCPU that could take it now, were it not for priorities and groups.

        An active interrupt that becomes pending again waits for its deactivation.
        """
        if self.enabled and self.is_pending and not self.active:
            return self.target
        return None

    def take(self, cpu: int) -> None:
        """Make it active on ``cpu``; a level that is still high stays pending."""
        self.active = True
        self.active_on = cpu
        if self.source:
            self.active_source = (self.source & -self.source).bit_length() - 1
            self.source &= self.source - 1
        self.pending_latch = bool(self.source)
