"""Faults in translation table descriptors, found by what they translate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA, PA
from emu.arch.descriptors import Stage1Leaf, Stage1Table, Stage2Leaf, Stage2Table, swapped
from emu.mmu.explain import Kind
from lab.faults.fault import Fault, Injection, invalid
from lab.faults.models import change
from lab.faults.models.addresses import (
    address_parameter,
    regime_of,
    stage2_pa,
    walk_ipa,
    walk_va,
)
from lab.faults.models.wrong import require_bits, require_name, require_value
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from emu.arch.fields import Layout
    from emu.machine import Machine
    from lab.faults.target import Target

_LAYOUTS: Final[dict[int, tuple[type[Layout], type[Layout]]]] = {
    1: (Stage1Table, Stage1Leaf),
    2: (Stage2Table, Stage2Leaf),
}
"""Tables, and blocks or pages, by stage."""
LAST: Final = 4
"""Stands for the level at which the walk ends."""
_NAMES: Final = {1: "VA", 2: "IPA"}


class _Descriptor(NamedTuple):
    """A descriptor in memory, or one of its fields."""

    machine: Machine
    pa: PA
    what: str
    big_endian: bool
    part: change.Part

    @property
    def name(self) -> str:
        of = f"{self.part.name} of " if self.part.name else ""
        return f"{of}{self.what} at PA {self.pa:#x}"

    def _word(self) -> int:
        word = int.from_bytes(self.machine.memory.read(self.pa, 8), "little")
        return swapped(word) if self.big_endian else word

    def read(self) -> int:
        return self.part.of(self._word())

    def write(self, value: int) -> None:
        word = self.part.replaced(self._word(), value)
        stored = swapped(word) if self.big_endian else word
        self.machine.memory.write(self.pa, stored.to_bytes(8, "little"))


@dataclass(frozen=True, kw_only=True)
class DescriptorFault(Fault):
    """A fault in a descriptor. What TLBs remember of it stays until it is invalidated."""

    stage: int = parameter("1 or 2", choices=(1, 2))
    address: int = address_parameter("what it translates: a VA for stage 1, an IPA for stage 2")
    level: int = parameter(
        f"of the walk that meets it, -1 to 3; {LAST}: the last that it meets",
        default=LAST,
        minimum=-1,
        maximum=LAST,
    )
    field: str = parameter("the field of it that is meant; empty for all of it", default="")

    @property
    def bits(self) -> int:
        """The size of what is meant."""
        table, leaf = _LAYOUTS[self.stage]
        return change.part(leaf if self.field in leaf.FIELDS else table, self.field).bits

    @property
    def _of(self) -> str:
        return self.field or "a descriptor"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.field:
            kind = f"a field of a descriptor of stage {self.stage}"
            known = {name for layout in _LAYOUTS[self.stage] for name in layout.FIELDS}
            require_name(self, "field", kind, sorted(known))

    def _place(self, target: Target) -> _Descriptor | Injection:
        walk = walk_va(target, self.address) if self.stage == 1 else walk_ipa(target, self.address)
        lookups = walk.stage1 if self.stage == 1 else walk.stage2
        name = f"{_NAMES[self.stage]} {self.address:#x}"
        met = [lookup for lookup in lookups if self.level in (LAST, lookup.level)]
        if not met:
            at = "" if self.level == LAST else f" of level {self.level}"
            return invalid(f"the walk of stage {self.stage} for {name} meets no descriptor{at}")
        lookup = met[-1]
        where = f"the stage {self.stage} level {lookup.level} descriptor of {name}"
        pa = PA(lookup.address) if self.stage == 2 else stage2_pa(target, IPA(lookup.address))
        if pa is None or not target.memory.contains(pa, 8):
            return invalid(f"{where} is not in memory")
        table, leaf = _LAYOUTS[self.stage]
        layout = table if lookup.kind is Kind.TABLE else leaf
        if self.field and self.field not in layout.FIELDS:
            return invalid(f"{where} is a {lookup.kind.value}, which has no {self.field}")
        regime = regime_of(target.vcpu)
        big_endian = (regime.stage1 if self.stage == 1 else regime.stage2).big_endian
        part = change.part(layout, self.field)
        return _Descriptor(target.vm.machine, pa, where.removeprefix("the "), big_endian, part)


@dataclass(frozen=True, kw_only=True)
class DescriptorFlip(DescriptorFault):
    """Bits of a descriptor flip once."""

    name = "descriptor-flip"
    bit: int = change.bit_parameter()
    width: int = change.width_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, self.bits, self._of)

    def inject(self, target: Target) -> Injection:
        """Flip them."""
        return change.flipped(self._place(target), self.bit, self.width)


@dataclass(frozen=True, kw_only=True)
class DescriptorSet(DescriptorFault):
    """A descriptor, or a field of it, takes a value once."""

    name = "descriptor-set"
    value: int = change.value_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_value(self, self.value, self.bits, self._of)

    def inject(self, target: Target) -> Injection:
        """Set it."""
        return change.set_to(self._place(target), self.value)


@dataclass(frozen=True, kw_only=True)
class DescriptorStuck(DescriptorFault):
    """Bits of a descriptor are stuck at 0 or at 1."""

    name = "descriptor-stuck"
    bit: int = change.bit_parameter()
    width: int = change.width_parameter()
    stuck_at: int = change.level_parameter()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_bits(self, self.bit, self.width, self.bits, self._of)

    def inject(self, target: Target) -> Injection:
        """Make them so, and keep them so."""
        return change.stuck(self._place(target), self.bit, self.width, self.stuck_at)
