"""A stage-1 walk in software, as far as the hypervisor needs one.

To tell a guest at which level of its own walk an external abort happened,
KVM walks the guest's tables and looks for the descriptor that lies in the page
that faulted (``__kvm_find_s1_desc_level``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA, PAGE_SHIFT, VA
from emu.arch.registers.translation import (
    SCTLR_EL1,
    TCR_EL1,
    TG0,
    TG1,
    TTBR0_EL1,
    TTBR1_EL1,
)

if TYPE_CHECKING:
    from hyp.vcpu import VCPU

_GRANULE_SHIFT_TG0: Final = {TG0.KB4: 12, TG0.KB16: 14, TG0.KB64: 16}
_GRANULE_SHIFT_TG1: Final = {TG1.KB4: 12, TG1.KB16: 14, TG1.KB64: 16}
_LAST_LEVEL: Final = 3
_TABLE: Final = 0b11
_ADDRESS: Final = (1 << 48) - 1
_UPPER_HALF_BIT: Final = 55
_MIN_TnSZ: Final = 16
_MAX_TnSZ: Final = 48


class _Regime(NamedTuple):
    """Where a walk starts."""

    table: int
    input_bits: int
    granule_shift: int


def find_s1_desc_level(vcpu: VCPU, va: VA, ipa: IPA) -> int | None:
    """Return the level at which the walk for ``va`` reads a descriptor in the page ``ipa``.

    Returns
    -------
    int or None
        ``None`` if the walk, as the tables are now, does not come there.
    """
    regime = _regime(vcpu, va)
    if regime is None:
        return None
    bits_per_level = regime.granule_shift - 3
    levels = -(-(regime.input_bits - regime.granule_shift) // bits_per_level)
    table = regime.table
    for level in range(_LAST_LEVEL + 1 - levels, _LAST_LEVEL + 1):
        shift = regime.granule_shift + (_LAST_LEVEL - level) * bits_per_level
        index_bits = min(bits_per_level, regime.input_bits - shift)
        index = va >> shift & (1 << index_bits) - 1
        descriptor_ipa = IPA(table + 8 * index)
        if descriptor_ipa >> PAGE_SHIFT == ipa >> PAGE_SHIFT:
            return level
        descriptor = _read_descriptor(vcpu, descriptor_ipa)
        if descriptor is None or descriptor & _TABLE != _TABLE:
            return None
        table = descriptor & _ADDRESS & -(1 << regime.granule_shift)
    return None


def _regime(vcpu: VCPU, va: VA) -> _Regime | None:
    """Return the half of the address space that ``va`` lies in; None if it is not walked."""
    pe = vcpu.pe
    tcr = pe.read(TCR_EL1)
    if va >> _UPPER_HALF_BIT & 1:
        base, size = int(pe.read(TTBR1_EL1)), tcr.T1SZ
        shift = _GRANULE_SHIFT_TG1.get(tcr.TG1)
    else:
        base, size = int(pe.read(TTBR0_EL1)), tcr.T0SZ
        shift = _GRANULE_SHIFT_TG0.get(tcr.TG0)
    if shift is None or not _MIN_TnSZ <= size <= _MAX_TnSZ:
        return None
    return _Regime(base & _ADDRESS & ~1, 64 - size, shift)


def _read_descriptor(vcpu: VCPU, ipa: IPA) -> int | None:
    data = vcpu.vm.read_guest(ipa, 8)
    if data is None:
        return None
    return int.from_bytes(data, "big" if vcpu.pe.read(SCTLR_EL1).EE else "little")
