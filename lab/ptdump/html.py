"""A dump as one page with a map: everything in it, nothing loaded from elsewhere."""

from __future__ import annotations

import json
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, Any

from emu.arch.address import PAGE_SHIFT
from hyp.pte import GRANULE, pte_to_phys
from lab.ptdump.decode import attributes, word

if TYPE_CHECKING:
    from lab.ptdump.dump import Dump, Run


def page(dump: Dump) -> str:
    """Return the HTML of a page that shows a dump."""
    parts = resources.files(__package__) / "page"
    files = {"style": "map.css", "model": "model.js", "map": "map.js", "controls": "controls.js"}
    texts = {name: (parts / file).read_text(encoding="utf-8") for name, file in files.items()}
    template = Template((parts / "page.html").read_text(encoding="utf-8"))
    # "<" would let a guest's name end the element that holds the data.
    data = json.dumps(as_data(dump), separators=(",", ":")).replace("<", "\\u003c")
    return template.substitute(texts, data=data)


def as_data(dump: Dump) -> dict[str, Any]:
    """Return what the page's script reads: columns of numbers, to be small for many entries.

    ``ipa`` and ``pa`` are page numbers, ``n`` counts entries, ``attr`` is an index of ``attrs``.
    Empty entries are left out.
    """
    attrs: list[dict[str, Any]] = []
    numbers: dict[tuple[int, int], int] = {}
    columns: dict[str, list[int]] = {"ipa": [], "n": [], "attr": [], "pa": []}
    for run in dump.runs:
        if run.pte == 0:
            continue
        key = (run.level, word(run))
        if key not in numbers:
            numbers[key] = len(attrs)
            attrs.append(_attributes(run, dump))
        columns["ipa"].append(run.ipa >> PAGE_SHIFT)
        columns["n"].append(run.length)
        columns["attr"].append(numbers[key])
        columns["pa"].append(pte_to_phys(run.pte) >> PAGE_SHIFT if run.valid else 0)
    return {
        "guest": dump.guest,
        "end": dump.end,
        "instructions": dump.instructions,
        "ipaBits": dump.ipa_bits,
        "levels": dump.levels,
        "attrs": attrs,
        "entries": columns,
        "tables": {
            "ipa": [table.ipa >> PAGE_SHIFT for table in dump.tables],
            "level": [table.level for table in dump.tables],
            "pa": [table.pa >> PAGE_SHIFT for table in dump.tables],
        },
        "slots": [
            {
                "id": slot.id,
                "ipa": slot.base >> PAGE_SHIFT,
                "pages": slot.size >> PAGE_SHIFT,
                "readOnly": slot.read_only,
                "dirty": None
                if slot.dirty is None
                else [[part.ipa >> PAGE_SHIFT, part.size >> PAGE_SHIFT] for part in slot.dirty],
            }
            for slot in dump.slots
        ],
    }


def _attributes(run: Run, dump: Dump) -> dict[str, Any]:
    found = attributes(run, fwb=dump.fwb)
    return {
        "level": run.level,
        "pages": GRANULE[run.level] >> PAGE_SHIFT,
        "word": f"{word(run):#x}",
        "kind": found.kind.value,
        "prot": found.prot,
        "memory": found.memory,
        "share": found.share,
        "af": found.af,
        "sw": found.sw,
        "annotation": found.annotation,
    }
