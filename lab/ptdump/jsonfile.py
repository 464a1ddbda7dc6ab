"""Dumps as JSON: docs/ptdump.md describes the keys."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from emu.arch.address import IPA, PA
from hyp.pte import GRANULE, LAST_LEVEL, pte_to_phys
from lab.errors import UserError
from lab.ptdump.decode import attributes
from lab.ptdump.dump import Dump, Extent, Run, SlotInfo, Table

if TYPE_CHECKING:
    from pathlib import Path

FORMAT: Final = "stage2 ptdump"
VERSION: Final = 1
"""Raised when a key changes its meaning or goes; new keys leave it as it is."""

_MIN_IPA_BITS, _MAX_IPA_BITS = 32, 52
_WORD: Final = 1 << 64


def as_dict(dump: Dump) -> dict[str, Any]:
    """Return a dump as what JSON can hold; numbers stay numbers."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "guest": dump.guest,
        "end": dump.end,
        "instructions": dump.instructions,
        "ipa_range": dump.ipa_bits,
        "stage2_levels": dump.levels,
        "fwb": dump.fwb,
        "tables": [table._asdict() for table in dump.tables],
        "entries": [_entry(run, dump) for run in dump.runs],
        "slots": [
            {
                "id": slot.id,
                "ipa": slot.base,
                "size": slot.size,
                "read_only": slot.read_only,
                "dirty": None if slot.dirty is None else [part._asdict() for part in slot.dirty],
            }
            for slot in dump.slots
        ],
    }


def text(dump: Dump) -> str:
    """Return the file that :func:`read` reads: one table, entry or slot a line."""
    parts = []
    for key, value in as_dict(dump).items():
        if isinstance(value, list):
            items = ",".join(f"\n  {json.dumps(item)}" for item in value)
            parts.append(f"{json.dumps(key)}: [{items}\n ]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{" + ",".join(f"\n {part}" for part in parts) + "\n}\n"


def read(path: Path) -> Dump:
    """Read a dump.

    Raises
    ------
    UserError
        If the file is not one, or of another version.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}; {_WAY_OUT}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is no dump of page tables; {_WAY_OUT}")
    if content.get("version") != VERSION:
        raise UserError(
            f"{path} is a dump of version {content.get('version')!r}, and this program reads "
            f"version {VERSION}; make it again"
        )
    try:
        dump = _dump(content)
        _check(dump)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path} is a damaged dump: {what}; make it again") from error
    return dump


_WAY_OUT: Final = "'stage2 ptdump GUEST --save FILE.json' writes one"


def _entry(run: Run, dump: Dump) -> dict[str, Any]:
    found = attributes(run, fwb=dump.fwb)
    entry = {
        "ipa": run.ipa,
        "size": run.size,
        "level": run.level,
        "count": run.length,
        "pte": run.pte,
        "kind": found.kind.value,
    }
    if run.valid:
        entry |= {
            "pa": pte_to_phys(run.pte),
            "prot": found.prot,
            "memory": found.memory,
            "share": found.share,
            "af": found.af,
            "sw": found.sw,
        }
    elif found.annotation:
        entry["annotation"] = found.annotation
    return entry


def _dump(content: dict[str, Any]) -> Dump:
    return Dump(
        guest=_text(content, "guest"),
        end=_text(content, "end"),
        instructions=_number(content, "instructions"),
        ipa_bits=_number(content, "ipa_range"),
        start_level=LAST_LEVEL + 1 - _number(content, "stage2_levels"),
        fwb=bool(content["fwb"]),
        tables=tuple(
            Table(IPA(_number(item, "ipa")), _number(item, "level"), PA(_number(item, "pa")))
            for item in content["tables"]
        ),
        runs=tuple(
            Run(
                IPA(_number(item, "ipa")),
                _number(item, "level"),
                _number(item, "pte"),
                _number(item, "count"),
            )
            for item in content["entries"]
        ),
        slots=tuple(
            SlotInfo(
                _number(item, "id"),
                IPA(_number(item, "ipa")),
                _number(item, "size"),
                bool(item["read_only"]),
                None if item["dirty"] is None else tuple(map(_extent, item["dirty"])),
            )
            for item in content["slots"]
        ),
    )


def _extent(item: dict[str, Any]) -> Extent:
    return Extent(IPA(_number(item, "ipa")), _number(item, "size"))


def _number(item: dict[str, Any], key: str) -> int:
    value = item[key]
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _WORD:
        raise ValueError(f"{key} is a number of 64 bits, not {value!r}")
    return value


def _text(item: dict[str, Any], key: str) -> str:
    value = item[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is a text, not {value!r}")
    return value


def _check(dump: Dump) -> None:
    """Check what every dump that was read has: the entries leave no address out."""
    if not _MIN_IPA_BITS <= dump.ipa_bits <= _MAX_IPA_BITS:
        raise ValueError(f"ipa_range is {_MIN_IPA_BITS} to {_MAX_IPA_BITS}, not {dump.ipa_bits}")
    if not 0 <= dump.start_level < LAST_LEVEL:
        raise ValueError(f"stage2_levels is 2 to 4, not {dump.levels}")
    if not dump.tables or not dump.runs:
        raise ValueError("there are no tables or no entries")
    for table in dump.tables:
        if not dump.start_level <= table.level <= LAST_LEVEL:
            raise ValueError(f"no table has level {table.level}")
    for run in dump.runs:
        if not dump.start_level <= run.level <= LAST_LEVEL or not run.length:
            raise ValueError(f"no {run.length} entries of level {run.level} are at {run.ipa:#x}")
        if run.ipa % GRANULE[run.level]:
            raise ValueError(f"{run.ipa:#x} is not aligned to level {run.level}")
    first, last = dump.runs[0], dump.runs[-1]
    if first.ipa or last.end != 1 << dump.ipa_bits:
        raise ValueError(f"the entries are not those of {dump.ipa_bits} bits of addresses")
    for before, after in pairwise(dump.runs):
        if before.end != after.ipa:
            raise ValueError(f"no entry is at {before.end:#x}, where one ends")
