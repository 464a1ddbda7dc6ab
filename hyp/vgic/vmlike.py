"""What the virtual GIC needs of a VM and its vCPUs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hyp.event_stream import Events
    from hyp.iobus import IoBus


class PeLike(Protocol):
    """What a vCPU runs on."""

    @property
    def retired(self) -> int:
        """Instructions retired: the time of events."""


class VcpuLike(Protocol):
    """A vCPU."""

    @property
    def index(self) -> int:
        """Its number for user space."""

    @property
    def mpidr(self) -> int:
        """MPIDR_EL1, with its affinity."""

    @property
    def pe(self) -> PeLike:
        """What it runs on."""

    @property
    def has_run_once(self) -> bool:
        """Whether KVM_RUN was ever called for it."""


class VmLike(Protocol):
    """A virtual machine."""

    @property
    def vcpus(self) -> Mapping[int, VcpuLike]:
        """The vCPUs by index, in the order of their creation."""

    @property
    def ipa_bits(self) -> int:
        """The size of the guest physical address space."""

    @property
    def io_bus(self) -> IoBus:
        """Where the frames are registered."""

    @property
    def events(self) -> Events:
        """The stream of tracepoints."""
