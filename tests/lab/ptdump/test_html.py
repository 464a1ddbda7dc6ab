"""The page with the map: all data in it, nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from emu.arch.address import IPA
from hyp.pte import GRANULE
from lab.ptdump import Dump, Extent, SlotInfo
from lab.ptdump.html import as_data, page

if TYPE_CHECKING:
    from pathlib import Path

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
SLOTS = (
    SlotInfo(0, IPA(0x4000_0000), 64 << 20, False, (Extent(IPA(0x4000_2000), 0x2000),)),
    SlotInfo(7, IPA(0x8000_0000), 1 << 30, True),
)


@pytest.fixture(scope="module")
def dump(mixed_dump: Dump) -> Dump:
    """Return a dump with slots."""
    return replace(mixed_dump, slots=SLOTS)


def data_of(text: str) -> Any:  # noqa: ANN401  # JSON
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    return json.loads(data)


def test_every_entry_can_be_read_off_the_page(dump: Dump) -> None:
    data = data_of(page(dump))
    columns = data["entries"]
    found = {}
    for ipa, n, attr, pa in zip(*(columns[key] for key in ("ipa", "n", "attr", "pa")), strict=True):
        attrs = data["attrs"][attr]
        for i in range(n):
            output = pa + i * attrs["pages"] if attrs["prot"] else 0
            at = ipa + i * attrs["pages"] << 12
            found[at] = (attrs["level"], int(attrs["word"], 16) | output << 12)
    assert found == {
        ipa: (run.level, pte) for run in dump.runs if run.pte for ipa, pte in run.entries()
    }
    assert [GRANULE[each["level"]] >> 12 for each in data["attrs"]] == [
        each["pages"] for each in data["attrs"]
    ]


def test_tables_slots_and_dirty_pages_are_on_the_page(dump: Dump) -> None:
    data = data_of(page(dump))
    assert list(zip(*data["tables"].values(), strict=True)) == [
        (table.ipa >> 12, table.level, table.pa >> 12) for table in dump.tables
    ]
    assert data["slots"] == [
        {"id": 0, "ipa": 0x40000, "pages": 16384, "readOnly": False, "dirty": [[0x40002, 2]]},
        {"id": 7, "ipa": 0x80000, "pages": 1 << 18, "readOnly": True, "dirty": None},
    ]
    assert (data["ipaBits"], data["levels"], data["instructions"]) == (40, 3, 1234)


def test_page_loads_nothing(dump: Dump) -> None:
    text = page(dump)
    assert not re.search(r"https?:|//[a-z]|\bsrc=|@import|url\(|<link|fetch\(|import\(", text)
    assert "default-src 'none'" in text


def test_name_of_a_guest_cannot_end_the_data(dump: Dump) -> None:
    dump = replace(dump, guest="</script><script>alert(1)</script>$data")
    text = page(dump)
    assert "alert(1)</script>" not in text
    assert data_of(text) == json.loads(json.dumps(as_data(dump)))


def test_no_placeholder_is_left(dump: Dump) -> None:
    assert not re.search(r"\$(style|model|map|controls|data)\b", page(dump))


@pytest.mark.apt
@pytest.mark.skipif(BROWSER is None, reason="no chromium")
def test_browser_shows_legend_slots_and_the_first_entry(dump: Dump, tmp_path: Path) -> None:
    assert BROWSER is not None
    file = tmp_path / "map.html"
    file.write_text(page(dump), encoding="utf-8")
    shown = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            file.as_uri(),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        timeout=120,
    ).stdout  # fmt: skip
    body = re.sub(r"<script.*?</script>", "", shown, flags=re.DOTALL)
    text = " ".join(re.sub(r"<[^>]*>", " ", body).split())
    assert "Stage-2 tables of by hand" in text
    assert "power off after 1,234 instructions · 40 bits of addresses · 3 levels" in text
    assert "4K page 28K 2M block 4M 1G block 1G not a mapping 12K" in text
    assert "IPA 0x4000_0000-0x4000_1000 entry level 3 4K page PA 0x9_0000_0000 rights rwx" in text
    assert "7: 0x8000_0000, 1G read-only" in text
