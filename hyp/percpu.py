"""What the hypervisor knows of each PE, and which of them it is running on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from hyp.vcpu import VCPU


@dataclass(slots=True)
class HostCpu:
    """A PE of the machine.

    Parameters
    ----------
    pe
        The PE.
    loaded
        The vCPU whose registers it holds.
    running
        The vCPU that is in ``run``.
    """

    pe: ProcessingElement
    loaded: VCPU | None = None
    running: VCPU | None = None


@dataclass(slots=True)
class CurrentCpu:
    """``smp_processor_id()``: local maintenance operations are issued here.

    Parameters
    ----------
    pe
        The PE whose vCPU was entered last.
    """

    pe: ProcessingElement
