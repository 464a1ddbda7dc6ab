"""The TLB's events: what walks add to it, and what each TLBI takes away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.arch.a64.tlbi import TlbiScope
from emu.arch.a64.tlbi_arguments import TlbiVa
from emu.arch.address import PA, PAGE_MASK, VA
from emu.mmu.permissions import rights
from emu.mmu.regime import STAGE1_OFF
from emu.mmu.tlbi import ANY_LEVEL, Span, span
from hyp.events import Event
from lab.sizes import format_address, format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.cpu.pe import ProcessingElement
    from emu.mmu.tlb import TlbEntry
    from emu.mmu.tlbi import Invalidation


@dataclass(frozen=True, slots=True)
class TlbFill(Event):
    """A walk added an entry for one page."""

    vmid: int
    asid: int | None
    """None for an entry of every ASID, -1 for one made while stage 1 was off."""
    va: VA
    pa: PA
    el0: str
    el1: str
    level1: int
    level2: int
    device: bool
    contiguous: bool

    def text(self) -> str:
        """Return what the trace prints after the event's name."""
        kind = "Device" if self.device else "Normal"
        if self.asid is None:
            whose = "global"
        else:
            whose = "stage 1 off" if self.asid == STAGE1_OFF else f"asid {self.asid}"
        hint = ", contiguous" if self.contiguous else ""
        return (
            f"va {format_address(self.va)} -> pa {format_address(self.pa)}, "
            f"EL0 {self.el0} EL1 {self.el1}, {kind}, levels {self.level1} and {self.level2}"
            f"{hint}, vmid {self.vmid}, {whose}"
        )


@dataclass(frozen=True, slots=True)
class TlbInvalidate(Event):
    """A TLBI was executed."""

    operation: str
    vmid: int
    asid: int | None
    first: int | None
    size: int | None
    level: int | None
    pes: int
    """How many PEs carried it out."""
    pc: VA | None
    """Where the guest executed it; None for the hypervisor."""
    hits: int

    def text(self) -> str:
        """Return what the trace prints after the event's name."""
        parts = [self.operation]
        if self.first is not None and self.size is not None:
            space = "ipa" if "IPAS2" in self.operation else "va"
            address = format_address(self.first & (1 << 64) - 1)
            parts.append(f"{space} {address} + {format_size(self.size)}")
        if self.level is not None:
            parts.append(f"level {self.level}")
        if self.asid is not None:
            parts.append(f"asid {self.asid}")
        parts.append(f"vmid {self.vmid}")
        parts.append("this PE" if self.pes == 1 else f"{self.pes} PEs")
        parts.append("by the hypervisor" if self.pc is None else f"at {format_address(self.pc)}")
        found = "hit 0 entries" if not self.hits else f"removed {self.hits}"
        return f"{', '.join(parts)}: {found}"


def listen(pe: ProcessingElement, listener: Callable[[Event], None]) -> Callable[[], None]:
    """Have ``listener`` called with the TLB events of a PE, after those who listen already.

    Returns
    -------
    Callable[[], None]
        Ends that.
    """
    fill_before, invalidation_before = pe.mmu.on_fill, pe.on_tlbi
    listens = True

    def fill(va: VA, entry: TlbEntry) -> None:
        if fill_before is not None:
            fill_before(va, entry)
        if not listens:
            return
        el0, el1, _ = entry.allowed
        regime = pe.mmu.regime
        listener(
            TlbFill(
                pe.index,
                pe.retired,
                regime.vmid,
                None if entry.is_global else regime.asid,
                VA(va & ~PAGE_MASK),
                entry.page,
                rights(el0),
                rights(el1),
                entry.level1,
                entry.level2,
                entry.is_device,
                entry.contiguous,
            )
        )

    def invalidation(done: Invalidation) -> None:
        if invalidation_before is not None:
            invalidation_before(done)
        if not listens:
            return
        operation = done.operation
        named = span(operation, done.argument) or Span(0, 0, ANY_LEVEL)
        by_asid = operation.scope in {TlbiScope.ASID, TlbiScope.VA}
        listener(
            TlbInvalidate(
                pe.index,
                pe.retired,
                operation.name,
                done.vmid,
                TlbiVa(done.argument).ASID if by_asid else None,
                named.first if operation.scope.by_address else None,
                named.size if operation.scope.by_address else None,
                named.levels[0] if named.levels != ANY_LEVEL else None,
                done.reached,
                done.pc,
                done.hits,
            )
        )

    def end() -> None:
        nonlocal listens
        listens = False
        if pe.mmu.on_fill is fill and pe.on_tlbi is invalidation:  # nobody has come after
            pe.mmu.on_fill, pe.on_tlbi = fill_before, invalidation_before

    pe.mmu.on_fill, pe.on_tlbi = fill, invalidation
    return end
