"""Where faults are: what reports call the place, and what the golden run does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from emu.arch.descriptors import Stage1Leaf, Stage2Leaf
from emu.arch.granule import LAST_LEVEL
from lab.campaign.trace import GENERAL, Access, Trace
from lab.faults.parameter import parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.faults.fault import Fault

_WHAT: Final = frozenset({"bit", "width", "value"})
"""Parameters that say what happens to a place, not where it is."""

DESCRIPTOR_BYTES: Final = 8
ONCE: Final = frozenset(
    {"register-flip", "register-set", "memory-flip", "memory-set", "descriptor-flip"}
    | {"descriptor-set"}
)
"""Models that change a place once and leave it to the guest: their faults have classes."""


def name_of(fault: Fault) -> str:
    """Return the place of a fault, for people: ``x3``, ``stage2 ipa=0x40001000 level=3 S2AP``.

    Of a descriptor at the last level, the field that a bit belongs to is named.
    """
    values = {
        name: getattr(fault, name) for name in parameters_of(type(fault)) if name not in _WHAT
    }
    kind = fault.name.partition("-")[0]
    if list(values) == ["register"]:
        return str(values["register"])
    if kind == "memory" and "space" in values:
        return f"memory {values['space']}={values['address']:#x}"
    if kind == "descriptor":
        stage, level = values["stage"], values["level"]
        address = f"{'va' if stage == 1 else 'ipa'}={values['address']:#x}"
        at = f"level={level}" if level <= LAST_LEVEL else "last level"
        field = values["field"] or _field_of(stage, level, bit_of(fault))
        return f"stage{stage} {address} {at} {field}".rstrip()
    return " ".join([kind, *(f"{name}={_shown(value)}" for name, value in values.items())])


def _field_of(stage: int, level: int, bit: int | None) -> str:
    if level != LAST_LEVEL or bit is None:
        return ""
    layout = Stage1Leaf if stage == 1 else Stage2Leaf
    fields = layout.FIELDS.items()
    return next((name for name, field in fields if field.in_place >> bit & 1), "other bits")


def bit_of(fault: Fault) -> int | None:
    """Return the bit that a fault changes, if it names one."""
    bit = getattr(fault, "bit", None)
    return bit if isinstance(bit, int) else None


def _shown(value: object) -> str:
    return f"{value:#x}" if isinstance(value, int) and value > 9 else str(value)


class Register(NamedTuple):
    """A general-purpose register of whichever vCPU runs."""

    name: str


class Bytes(NamedTuple):
    """Bytes of memory."""

    pa: int
    size: int
    appears: bool = True
    """Whether they are there only once the page is in use."""


class Nowhere(NamedTuple):
    """A place that is not there in all of the golden run: no fault can be injected."""


Place = Register | Bytes | Nowhere


def place_of(fault: Fault, golden: Trace) -> Place | None:
    """Return the place that a fault changes once; None if its faults have no classes.

    They have none where the same address is another place at another time.
    """
    if fault.name not in ONCE:
        return None
    values: dict[str, Any] = {n: getattr(fault, n) for n in parameters_of(type(fault))}
    kind = fault.name.partition("-")[0]
    return _PLACES[kind](values, golden)


def _register(values: Mapping[str, Any], _golden: Trace) -> Place | None:
    name = values["register"]
    return Register(name) if name in GENERAL else None


def _memory(values: Mapping[str, Any], golden: Trace) -> Place | None:
    if values["space"] == "va":
        return None
    pa = values["address"]
    by_ipa = values["space"] == "ipa"
    if by_ipa:
        if golden.has_moved(pa):
            return None
        pa = golden.pa_of(pa)
        if pa is None:
            return Nowhere()
    if "bit" not in values:
        return Bytes(pa, values["size"], by_ipa)
    first, last = values["bit"] // 8, (values["bit"] + values["width"] - 1) // 8
    return Bytes(pa + first, last - first + 1, by_ipa)


def _descriptor(values: Mapping[str, Any], golden: Trace) -> Place | None:
    levels = range(len(golden.table_shifts))
    if values["stage"] != 2 or values["level"] not in levels or golden.tables_moved:
        return None
    pa = golden.descriptor_of(values["address"], values["level"])
    return Nowhere() if pa is None else Bytes(pa, DESCRIPTOR_BYTES)


_PLACES: Final = {"register": _register, "memory": _memory, "descriptor": _descriptor}


def together(bytes_: Sequence[Sequence[Access]]) -> list[Access]:
    """Return the accesses to several bytes as to one place.

    It is overwritten when all bytes are; any other access may be a use.
    """
    if len(bytes_) == 1:
        return list(bytes_[0])
    seen: dict[int, list[bool]] = {}
    for accesses in bytes_:
        for time, reads in accesses:
            seen.setdefault(time, []).append(reads)
    return [
        Access(time, any(reads) or len(reads) < len(bytes_)) for time, reads in sorted(seen.items())
    ]
