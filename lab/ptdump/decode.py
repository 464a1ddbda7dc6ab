"""What an entry says, in words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from hyp.pte import (
    ANNOTATION,
    LAST_LEVEL,
    MIN_BLOCK_LEVEL,
    PTE_ADDR,
    PTE_LOCKED,
    MemAttr,
    MemAttrFWB,
    Stage2Pte,
    pte_valid,
)

if TYPE_CHECKING:
    from lab.ptdump.dump import Run


class Kind(Enum):
    """What an entry that is no table is."""

    EMPTY = "empty"
    PAGE = "page"
    BLOCK = "block"
    LOCKED = "locked"
    """A break is under way."""
    ANNOTATED = "annotated"
    """Invalid, and yet it means something."""
    RESERVED = "reserved"
    """Valid, but no form that this level has: a translation fault."""


_XN: Final = ("x", "u", "-", "p")
"""Who may execute, by the XN field: everybody, EL0, nobody, EL1."""

_MEMORY: Final = {
    "DEVICE_nGnRE": "Device-nGnRE",
    "NORMAL_NC": "Normal-NC",
    "NORMAL": "Normal",
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """The fields of an entry, its output address aside.

    Attributes
    ----------
    kind
        What it is.
    prot
        ``rwx``, a dash for what is not allowed; ``u`` or ``p`` in place of ``x`` where only
        EL0 or only EL1 may execute. Empty for an invalid entry, like what follows.
    memory
        The memory type.
    share
        Shareability.
    af
        The access flag.
    sw
        The software bits.
    annotation
        Of an invalid entry: its type, and what else it holds.
    """

    kind: Kind
    prot: str = ""
    memory: str = ""
    share: str = ""
    af: bool = False
    sw: int = 0
    annotation: str = ""


def attributes(run: Run, *, fwb: bool) -> Attributes:
    """Return what the entries of a run say.

    Parameters
    ----------
    run
        The entries.
    fwb
        Whether HCR_EL2.FWB is set.
    """
    return _attributes(word(run), run.level, fwb)


def word(run: Run) -> int:
    """Return what all entries of a run have in common: not the output address."""
    return run.pte & ~PTE_ADDR if run.valid else run.pte


# Thousands of runs have few different words.
@lru_cache(maxsize=1024)
def _attributes(common: int, level: int, fwb: bool) -> Attributes:
    pte = Stage2Pte(common)
    if not pte_valid(pte):
        return _invalid(pte)
    return Attributes(
        kind=_leaf_kind(pte, level),
        prot=("r" if pte.S2AP_R else "-") + ("w" if pte.S2AP_W else "-") + _XN[int(pte.XN)],
        memory=_memory(int(pte.MemAttr), fwb=fwb),
        share=_name(pte.SH),
        af=bool(pte.AF),
        sw=int(pte.SW),
    )


def _leaf_kind(pte: Stage2Pte, level: int) -> Kind:
    if level == LAST_LEVEL:
        return Kind.PAGE if pte.TYPE else Kind.RESERVED
    return Kind.BLOCK if level >= MIN_BLOCK_LEVEL else Kind.RESERVED


def _invalid(pte: Stage2Pte) -> Attributes:
    if pte == 0:
        return Attributes(Kind.EMPTY)
    kind = Kind.LOCKED if pte == PTE_LOCKED else Kind.ANNOTATED
    name, more = _name(pte.INVALID_TYPE), pte & ANNOTATION
    return Attributes(kind, annotation=f"{name} {more:#x}" if more else name)


def _memory(code: int, *, fwb: bool) -> str:
    try:
        return _MEMORY[(MemAttrFWB(code) if fwb else MemAttr(code)).name]
    except ValueError:
        return f"MemAttr {code:#x}"


def _name(value: int) -> str:
    """Return the name of a field's value, or the value where the encoding is reserved."""
    return value.name.lower().replace("_", " ") if isinstance(value, IntEnum) else f"{value:#x}"
