"""TLB maintenance operations and their arguments (Arm ARM C5.5).

The operations with CRn = 9 (FEAT_XS, suffix nXS) do the same to the same entries and wait
for less; :func:`emu.arch.a64.system.operation` returns the CRn = 8 operation for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from emu.arch.a64.operations import Shareability, Stage, SysOperation, TranslationRegime


class TlbiScope(Enum):
    """Which entries an operation names."""

    ALL = "all"
    """Every entry of the regime, whatever the VMID (ALLE1, ALLE2)."""
    VMID = "vmid"
    """Every entry of the current VMID (VMALLE1, VMALLS12E1)."""
    ASID = "asid"
    """Non-global entries of one ASID."""
    VA = "va"
    """Entries of a VA: global ones and those of the ASID in the argument."""
    VA_ALL_ASID = "va, all ASIDs"
    IPA = "ipa"
    """Stage-2 entries of an IPA."""

    @property
    def by_address(self) -> bool:
        """Whether the argument holds an address."""
        return self in {TlbiScope.VA, TlbiScope.VA_ALL_ASID, TlbiScope.IPA}


@dataclass(frozen=True, eq=False)
class TlbiOperation(SysOperation):
    """The properties of a TLBI operation."""

    regime: TranslationRegime
    stages: Stage
    """The stages whose entries go; entries that combine both stages go with either."""
    scope: TlbiScope
    shareability: Shareability
    last_level: bool = False
    """Only entries from the last level of the walk need go."""
    is_range: bool = False
    """The argument is a :class:`emu.arch.a64.tlbi_arguments.TlbiRangeVa` or the IPA form."""

    @property
    def takes_argument(self) -> bool:
        """Whether Xt matters."""
        return self.scope is not TlbiScope.ALL and self.scope is not TlbiScope.VMID


EL10, EL2 = TranslationRegime.EL10, TranslationRegime.EL2
S1, S2, S12 = Stage.S1, Stage.S2, Stage.S12
ALL, VMID, BY_ASID = TlbiScope.ALL, TlbiScope.VMID, TlbiScope.ASID
BY_VA, BY_VAA, BY_IPA = TlbiScope.VA, TlbiScope.VA_ALL_ASID, TlbiScope.IPA
NS, IS, OS = Shareability.NONE, Shareability.INNER, Shareability.OUTER
ANY, LAST = False, True
RANGE = True


class TLBI(TlbiOperation, Enum):
    """The TLB maintenance operations of the EL1&0 and EL2 regimes.

    Executed at EL2 with HCR_EL2.{E2H, TGE} = {1, 1}, the stage-1 operations of EL1&0 concern
    EL2&0 instead.
    """

    # Columns: op1, CRn, CRm, op2, then the fields of TlbiOperation.
    # fmt: off
    VMALLE1      = 0, 8, 7, 0, EL10, S1,  VMID,    NS
    VMALLE1IS    = 0, 8, 3, 0, EL10, S1,  VMID,    IS
    VMALLE1OS    = 0, 8, 1, 0, EL10, S1,  VMID,    OS
    VAE1         = 0, 8, 7, 1, EL10, S1,  BY_VA,   NS
    VAE1IS       = 0, 8, 3, 1, EL10, S1,  BY_VA,   IS
    VAE1OS       = 0, 8, 1, 1, EL10, S1,  BY_VA,   OS
    ASIDE1       = 0, 8, 7, 2, EL10, S1,  BY_ASID, NS
    ASIDE1IS     = 0, 8, 3, 2, EL10, S1,  BY_ASID, IS
    ASIDE1OS     = 0, 8, 1, 2, EL10, S1,  BY_ASID, OS
    VAAE1        = 0, 8, 7, 3, EL10, S1,  BY_VAA,  NS
    VAAE1IS      = 0, 8, 3, 3, EL10, S1,  BY_VAA,  IS
    VAAE1OS      = 0, 8, 1, 3, EL10, S1,  BY_VAA,  OS
    VALE1        = 0, 8, 7, 5, EL10, S1,  BY_VA,   NS, LAST
    VALE1IS      = 0, 8, 3, 5, EL10, S1,  BY_VA,   IS, LAST
    VALE1OS      = 0, 8, 1, 5, EL10, S1,  BY_VA,   OS, LAST
    VAALE1       = 0, 8, 7, 7, EL10, S1,  BY_VAA,  NS, LAST
    VAALE1IS     = 0, 8, 3, 7, EL10, S1,  BY_VAA,  IS, LAST
    VAALE1OS     = 0, 8, 1, 7, EL10, S1,  BY_VAA,  OS, LAST
    RVAE1        = 0, 8, 6, 1, EL10, S1,  BY_VA,   NS, ANY,  RANGE
    RVAE1IS      = 0, 8, 2, 1, EL10, S1,  BY_VA,   IS, ANY,  RANGE
    RVAE1OS      = 0, 8, 5, 1, EL10, S1,  BY_VA,   OS, ANY,  RANGE
    RVAAE1       = 0, 8, 6, 3, EL10, S1,  BY_VAA,  NS, ANY,  RANGE
    RVAAE1IS     = 0, 8, 2, 3, EL10, S1,  BY_VAA,  IS, ANY,  RANGE
    RVAAE1OS     = 0, 8, 5, 3, EL10, S1,  BY_VAA,  OS, ANY,  RANGE
    RVALE1       = 0, 8, 6, 5, EL10, S1,  BY_VA,   NS, LAST, RANGE
    RVALE1IS     = 0, 8, 2, 5, EL10, S1,  BY_VA,   IS, LAST, RANGE
    RVALE1OS     = 0, 8, 5, 5, EL10, S1,  BY_VA,   OS, LAST, RANGE
    RVAALE1      = 0, 8, 6, 7, EL10, S1,  BY_VAA,  NS, LAST, RANGE
    RVAALE1IS    = 0, 8, 2, 7, EL10, S1,  BY_VAA,  IS, LAST, RANGE
    RVAALE1OS    = 0, 8, 5, 7, EL10, S1,  BY_VAA,  OS, LAST, RANGE
    IPAS2E1      = 4, 8, 4, 1, EL10, S2,  BY_IPA,  NS
    IPAS2E1IS    = 4, 8, 0, 1, EL10, S2,  BY_IPA,  IS
    IPAS2E1OS    = 4, 8, 4, 0, EL10, S2,  BY_IPA,  OS
    IPAS2LE1     = 4, 8, 4, 5, EL10, S2,  BY_IPA,  NS, LAST
    IPAS2LE1IS   = 4, 8, 0, 5, EL10, S2,  BY_IPA,  IS, LAST
    IPAS2LE1OS   = 4, 8, 4, 4, EL10, S2,  BY_IPA,  OS, LAST
    RIPAS2E1     = 4, 8, 4, 2, EL10, S2,  BY_IPA,  NS, ANY,  RANGE
    RIPAS2E1IS   = 4, 8, 0, 2, EL10, S2,  BY_IPA,  IS, ANY,  RANGE
    RIPAS2E1OS   = 4, 8, 4, 3, EL10, S2,  BY_IPA,  OS, ANY,  RANGE
    RIPAS2LE1    = 4, 8, 4, 6, EL10, S2,  BY_IPA,  NS, LAST, RANGE
    RIPAS2LE1IS  = 4, 8, 0, 6, EL10, S2,  BY_IPA,  IS, LAST, RANGE
    RIPAS2LE1OS  = 4, 8, 4, 7, EL10, S2,  BY_IPA,  OS, LAST, RANGE
    VMALLS12E1   = 4, 8, 7, 6, EL10, S12, VMID,    NS
    VMALLS12E1IS = 4, 8, 3, 6, EL10, S12, VMID,    IS
    VMALLS12E1OS = 4, 8, 1, 6, EL10, S12, VMID,    OS
    ALLE1        = 4, 8, 7, 4, EL10, S12, ALL,     NS
    ALLE1IS      = 4, 8, 3, 4, EL10, S12, ALL,     IS
    ALLE1OS      = 4, 8, 1, 4, EL10, S12, ALL,     OS
    ALLE2        = 4, 8, 7, 0, EL2,  S1,  ALL,     NS
    ALLE2IS      = 4, 8, 3, 0, EL2,  S1,  ALL,     IS
    ALLE2OS      = 4, 8, 1, 0, EL2,  S1,  ALL,     OS
    VAE2         = 4, 8, 7, 1, EL2,  S1,  BY_VA,   NS
    VAE2IS       = 4, 8, 3, 1, EL2,  S1,  BY_VA,   IS
    VAE2OS       = 4, 8, 1, 1, EL2,  S1,  BY_VA,   OS
    VALE2        = 4, 8, 7, 5, EL2,  S1,  BY_VA,   NS, LAST
    VALE2IS      = 4, 8, 3, 5, EL2,  S1,  BY_VA,   IS, LAST
    VALE2OS      = 4, 8, 1, 5, EL2,  S1,  BY_VA,   OS, LAST
    RVAE2        = 4, 8, 6, 1, EL2,  S1,  BY_VA,   NS, ANY,  RANGE
    RVAE2IS      = 4, 8, 2, 1, EL2,  S1,  BY_VA,   IS, ANY,  RANGE
    RVAE2OS      = 4, 8, 5, 1, EL2,  S1,  BY_VA,   OS, ANY,  RANGE
    RVALE2       = 4, 8, 6, 5, EL2,  S1,  BY_VA,   NS, LAST, RANGE
    RVALE2IS     = 4, 8, 2, 5, EL2,  S1,  BY_VA,   IS, LAST, RANGE
    RVALE2OS     = 4, 8, 5, 5, EL2,  S1,  BY_VA,   OS, LAST, RANGE
    # fmt: on
