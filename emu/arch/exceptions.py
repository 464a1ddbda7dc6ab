"""Taking an exception to EL1: where the PE goes and what becomes of PSTATE.

One rule for two users: the machine when it takes an exception itself, and the
hypervisor when it injects one. Sources: Arm ARM J1.1 (``AArch64.TakeException``) and
the kernel's ``enter_exception64``.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from emu.arch.address import VA
from emu.arch.registers.exceptions import PSTATE, VBAR_EL1, Mode

if TYPE_CHECKING:
    from emu.arch.registers.translation import SCTLR_EL1


class ExceptionKind(IntEnum):
    """What is taken; the value is the offset of its vector within a group."""

    SYNCHRONOUS = 0x000
    IRQ = 0x080
    FIQ = 0x100
    SERROR = 0x180


class VectorGroup(IntEnum):
    """Where the exception came from; the value is the offset of the group from VBAR_EL1."""

    CURRENT_SP_EL0 = 0x000
    CURRENT_SP_ELx = 0x200
    LOWER_AARCH64 = 0x400
    LOWER_AARCH32 = 0x600


class PstateFeatures(NamedTuple):
    """Which optional bits of PSTATE the PE has, of those that an entry can leave set."""

    PAN: bool = True
    """FEAT_PAN: PAN."""
    DIT: bool = True
    """FEAT_DIT: DIT."""
    SSBS: bool = True
    """FEAT_SSBS: SSBS."""
    MTE: bool = True
    """FEAT_MTE: TCO."""
    NMI: bool = False
    """FEAT_NMI: ALLINT."""


class ExceptionEntry(NamedTuple):
    """The state in which the handler starts."""

    pc: VA
    pstate: PSTATE


_AARCH32_USER = 0b1_0000
"""PSTATE.{nRW, M} of EL0 in AArch32."""

_GROUPS: dict[int, VectorGroup] = {
    Mode.EL0t: VectorGroup.LOWER_AARCH64,
    Mode.EL1t: VectorGroup.CURRENT_SP_EL0,
    Mode.EL1h: VectorGroup.CURRENT_SP_ELx,
    _AARCH32_USER: VectorGroup.LOWER_AARCH32,
}
"""The vector group by PSTATE.{nRW, M}: every state that can take an exception to EL1."""


def vector_group(pstate: PSTATE) -> VectorGroup:
    """Return the vector group for an exception to EL1 taken from ``pstate``.

    Raises
    ------
    ValueError
        If ``pstate`` is of EL2 or EL3, or of EL1 in AArch32.
    """
    mode = pstate.nRW << 4 | pstate.M
    try:
        return _GROUPS[mode]
    except KeyError:
        raise ValueError(
            "an exception to EL1 is taken from EL0 or from AArch64 EL1 (PSTATE.M[4:0] 0x0, 0x4, "
            f"0x5 or 0x10), not with M[4:0] {mode:#x}"
        ) from None


@lru_cache(maxsize=1024)
def entry_to_el1(
    pstate: PSTATE,
    sctlr: SCTLR_EL1,
    vbar: VBAR_EL1,
    kind: ExceptionKind,
    features: PstateFeatures = PstateFeatures(),  # noqa: B008  # immutable
) -> ExceptionEntry:
    """Return the PC and PSTATE of the handler of an exception taken to EL1.

    The caller saves the old PC in ELR_EL1 and ``pstate`` in SPSR_EL1, and writes ESR_EL1
    and FAR_EL1 as the exception requires.

    Parameters
    ----------
    pstate
        Process state at the exception; of EL0, or of EL1 in AArch64.
    sctlr
        SCTLR_EL1: SPAN, DSSBS and SPINTMASK decide the bits that they name.
    vbar
        VBAR_EL1.
    kind
        What is taken.
    features
        The optional bits that the PE has. Bits it lacks are 0 in the result.

    Raises
    ------
    ValueError
        If ``pstate`` is of EL2 or EL3, or of EL1 in AArch32.
    """
    group = vector_group(pstate)
    entered = PSTATE.build(
        N=pstate.N,
        Z=pstate.Z,
        C=pstate.C,
        V=pstate.V,
        TCO=features.MTE,
        DIT=features.DIT and pstate.DIT,
        UAO=0,
        PAN=features.PAN and (pstate.PAN or not sctlr.SPAN),
        SS=0,
        IL=0,
        ALLINT=features.NMI and not sctlr.SPINTMASK,
        SSBS=features.SSBS and sctlr.DSSBS,
        BTYPE=0,
        D=1,
        A=1,
        I=1,
        F=1,
        M=Mode.EL1h,
    )
    base = vbar.VBA << VBAR_EL1.VBA.lsb
    return ExceptionEntry(VA(base + group + kind & (1 << 64) - 1), entered)
