"""The ID registers that a guest sees: the PE's, less what KVM does not offer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.fields import Encoding
from emu.arch.registers import REGISTERS
from emu.arch.registers.identification import (
    ID_AA64DFR0_EL1,
    ID_AA64DFR1_EL1,
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64ISAR2_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
    ID_AA64PFR1_EL1,
)

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement

_HIDDEN: Final[dict[type[SystemRegister], tuple[str, ...]]] = {
    ID_AA64PFR0_EL1: ("EL2", "EL3", "GIC", "SVE", "SEL2", "MPAM", "AMU", "RME"),
    ID_AA64PFR1_EL1: ("MTE", "SME", "MPAM_frac", "NMI", "GCS", "THE", "MTEX", "PFAR"),
    ID_AA64DFR0_EL1: ("TraceVer", "PMUVer", "PMSVer", "TraceFilt", "TraceBuffer", "BRBE"),
    ID_AA64DFR1_EL1: tuple(ID_AA64DFR1_EL1.FIELDS),
    ID_AA64ISAR0_EL1: ("TME",),
    ID_AA64ISAR1_EL1: ("LS64", "APA", "API", "GPA", "GPI"),
    ID_AA64ISAR2_EL1: ("APA3", "GPA3"),
    ID_AA64MMFR1_EL1: ("VH", "HCX", "TWED"),
    ID_AA64MMFR2_EL1: ("NV", "CCIDX", "FWB", "EVT"),
}
"""Fields that read as zero: EL2 and EL3, what has no emulation or context switch here, and what a
vCPU has only if it asks for it: PMUVer (:mod:`hyp.vcpu_features`), GIC with a GICv3."""

_GIVEN: Final[dict[type[SystemRegister], dict[str, int]]] = {
    ID_AA64PFR0_EL1: {"CSV2": 1, "CSV3": 1},
}
"""Fields that KVM sets, whatever the CPU's say, if the CPU is not affected by what they are about:
it does not speculate, as the firmware says, too. CSV2 beyond 1 would promise SCXTNUM_EL1."""

ID_SPACE: Final = tuple(Encoding(3, 0, 0, CRm, op2) for CRm in range(1, 8) for op2 in range(8))
"""Every encoding of feature ID registers; those without a register read as zero."""


def id_register_name(encoding: Encoding) -> str:
    """Return the name of an ID register, as KVM's table of system registers has it."""
    register = REGISTERS.get(encoding)
    if register is None:
        return f"ID_UNALLOCATED({encoding.CRm},{encoding.op2})"
    return register.__name__


def guest_id_registers(pe: ProcessingElement) -> dict[Encoding, int]:
    """Return the value of every feature ID register as a guest on ``pe`` reads it."""
    values: dict[Encoding, int] = dict.fromkeys(ID_SPACE, 0)
    for encoding in ID_SPACE:
        register = REGISTERS.get(encoding)
        if register is not None:
            value = pe.read(register)
            hidden = dict.fromkeys(_HIDDEN.get(register, ()), 0)
            values[encoding] = value.replace(**hidden, **_GIVEN.get(register, {}))
    return values
