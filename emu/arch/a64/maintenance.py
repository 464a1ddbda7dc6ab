"""Address translation and cache maintenance operations: AT, DC and IC (Arm ARM C5.3, C5.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from emu.arch.a64.operations import Shareability, Stage, SysOperation, TranslationRegime


@dataclass(frozen=True, eq=False)
class AtOperation(SysOperation):
    """The properties of an address translation operation."""

    regime: TranslationRegime
    stages: Stage
    el: int
    """The Exception level whose access is tried."""
    write: bool
    pan: bool = False
    """PSTATE.PAN is honoured (FEAT_PAN2)."""


EL10, EL2 = TranslationRegime.EL10, TranslationRegime.EL2
S1, S12 = Stage.S1, Stage.S12
READ, WRITE = False, True
PAN = True


class AT(AtOperation, Enum):
    """Translate the VA in Xt and report in PAR_EL1."""

    # Columns: op1, CRn, CRm, op2, then the fields of AtOperation.
    # fmt: off
    S1E1R  = 0, 7, 8, 0, EL10, S1,  1, READ
    S1E1W  = 0, 7, 8, 1, EL10, S1,  1, WRITE
    S1E0R  = 0, 7, 8, 2, EL10, S1,  0, READ
    S1E0W  = 0, 7, 8, 3, EL10, S1,  0, WRITE
    S1E1RP = 0, 7, 9, 0, EL10, S1,  1, READ,  PAN
    S1E1WP = 0, 7, 9, 1, EL10, S1,  1, WRITE, PAN
    S1E2R  = 4, 7, 8, 0, EL2,  S1,  2, READ
    S1E2W  = 4, 7, 8, 1, EL2,  S1,  2, WRITE
    S12E1R = 4, 7, 8, 4, EL10, S12, 1, READ
    S12E1W = 4, 7, 8, 5, EL10, S12, 1, WRITE
    S12E0R = 4, 7, 8, 6, EL10, S12, 0, READ
    S12E0W = 4, 7, 8, 7, EL10, S12, 0, WRITE
    # fmt: on


class CacheAction(Enum):
    """What a data cache operation does to a line."""

    INVALIDATE = "invalidate"
    CLEAN = "clean"
    CLEAN_INVALIDATE = "clean and invalidate"
    ZERO = "zero"
    """Stores zeros, tags, or both: an access to memory, not maintenance of a cache."""


class CachePoint(Enum):
    """How far an operation by VA reaches."""

    SET_WAY = "set/way"
    """One line of one cache of this PE: not by VA at all."""
    POU = "PoU"
    POC = "PoC"
    POP = "PoP"
    PODP = "PoDP"
    MEMORY = "memory"
    """The block of DCZID_EL0.BS that holds the address."""


@dataclass(frozen=True, eq=False)
class DcOperation(SysOperation):
    """The properties of a data cache operation."""

    action: CacheAction
    point: CachePoint
    data: bool = True
    tags: bool = False

    @property
    def by_va(self) -> bool:
        """Whether Xt holds a VA that is translated, and may fault."""
        return self.point is not CachePoint.SET_WAY

    @property
    def needs_write(self) -> bool:
        """Whether write permission is checked: for stores, and for discarding dirty lines."""
        return self.by_va and self.action in {CacheAction.ZERO, CacheAction.INVALIDATE}

    @property
    def is_maintenance(self) -> bool:
        """ISS.CM of an abort: 1 for every operation that is not itself a store."""
        return self.action is not CacheAction.ZERO


INV, CLEAN, CLEAN_INV = CacheAction.INVALIDATE, CacheAction.CLEAN, CacheAction.CLEAN_INVALIDATE
ZERO = CacheAction.ZERO
SW, POU, POC = CachePoint.SET_WAY, CachePoint.POU, CachePoint.POC
POP, PODP, MEM = CachePoint.POP, CachePoint.PODP, CachePoint.MEMORY
DATA, TAGS = True, True
NO_DATA = False


class DC(DcOperation, Enum):
    """The data cache operations, those on allocation tags (FEAT_MTE) included."""

    # Columns: op1, CRn, CRm, op2, then the fields of DcOperation.
    # fmt: off
    IVAC    = 0, 7, 6,  1, INV,       POC
    IGVAC   = 0, 7, 6,  3, INV,       POC,  NO_DATA, TAGS
    IGDVAC  = 0, 7, 6,  5, INV,       POC,  DATA,    TAGS
    ISW     = 0, 7, 6,  2, INV,       SW
    IGSW    = 0, 7, 6,  4, INV,       SW,   NO_DATA, TAGS
    IGDSW   = 0, 7, 6,  6, INV,       SW,   DATA,    TAGS
    CSW     = 0, 7, 10, 2, CLEAN,     SW
    CGSW    = 0, 7, 10, 4, CLEAN,     SW,   NO_DATA, TAGS
    CGDSW   = 0, 7, 10, 6, CLEAN,     SW,   DATA,    TAGS
    CISW    = 0, 7, 14, 2, CLEAN_INV, SW
    CIGSW   = 0, 7, 14, 4, CLEAN_INV, SW,   NO_DATA, TAGS
    CIGDSW  = 0, 7, 14, 6, CLEAN_INV, SW,   DATA,    TAGS
    ZVA     = 3, 7, 4,  1, ZERO,      MEM
    GVA     = 3, 7, 4,  3, ZERO,      MEM,  NO_DATA, TAGS
    GZVA    = 3, 7, 4,  4, ZERO,      MEM,  DATA,    TAGS
    CVAC    = 3, 7, 10, 1, CLEAN,     POC
    CGVAC   = 3, 7, 10, 3, CLEAN,     POC,  NO_DATA, TAGS
    CGDVAC  = 3, 7, 10, 5, CLEAN,     POC,  DATA,    TAGS
    CVAU    = 3, 7, 11, 1, CLEAN,     POU
    CVAP    = 3, 7, 12, 1, CLEAN,     POP
    CGVAP   = 3, 7, 12, 3, CLEAN,     POP,  NO_DATA, TAGS
    CGDVAP  = 3, 7, 12, 5, CLEAN,     POP,  DATA,    TAGS
    CVADP   = 3, 7, 13, 1, CLEAN,     PODP
    CGVADP  = 3, 7, 13, 3, CLEAN,     PODP, NO_DATA, TAGS
    CGDVADP = 3, 7, 13, 5, CLEAN,     PODP, DATA,    TAGS
    CIVAC   = 3, 7, 14, 1, CLEAN_INV, POC
    CIGVAC  = 3, 7, 14, 3, CLEAN_INV, POC,  NO_DATA, TAGS
    CIGDVAC = 3, 7, 14, 5, CLEAN_INV, POC,  DATA,    TAGS
    # fmt: on


@dataclass(frozen=True, eq=False)
class IcOperation(SysOperation):
    """The properties of an instruction cache operation."""

    shareability: Shareability
    by_va: bool = False
    """Xt holds a VA, invalidated to the PoU of its shareability domain."""


class IC(IcOperation, Enum):
    """The instruction cache operations."""

    IALLUIS = 0, 7, 1, 0, Shareability.INNER
    IALLU = 0, 7, 5, 0, Shareability.NONE
    IVAU = 3, 7, 5, 1, Shareability.INNER, True
