"""The VMM process: its address space, the pages behind it, and who is told of changes."""

from __future__ import annotations

from hyp.host.backing import HostFile
from hyp.host.mm import HostMemory
from hyp.host.space import FaultinError, HostPfn
from hyp.host.userfault import Userfault, UserfaultMode
from hyp.host.vma import (
    HVA,
    READ_WRITE,
    SIZE_1G,
    SIZE_2M,
    SIZE_4K,
    TASK_SIZE,
    HostProt,
    PfnMemory,
    Vma,
)

__all__ = [
    "HVA",
    "READ_WRITE",
    "SIZE_1G",
    "SIZE_2M",
    "SIZE_4K",
    "TASK_SIZE",
    "FaultinError",
    "HostFile",
    "HostMemory",
    "HostPfn",
    "HostProt",
    "PfnMemory",
    "Userfault",
    "UserfaultMode",
    "Vma",
]
