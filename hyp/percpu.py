"""Which PE the hypervisor is running on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement


@dataclass(slots=True)
class CurrentCpu:
    """``smp_processor_id()``: local maintenance operations are issued here.

    Parameters
    ----------
    pe
        The PE whose vCPU was entered last.
    """

    pe: ProcessingElement
