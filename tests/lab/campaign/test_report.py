"""The page of a campaign: all of it in one file, its numbers, and what a browser makes of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest

from lab.campaign import numbers
from lab.campaign.report import page, write_report
from lab.campaign.report.bits import BitProfile, bit_profile
from lab.campaign.report.draw import cells, classes, stacks
from lab.campaign.report.heat import BANDS, COLUMNS, UNTOUCHED, HeatMap, heat_map, natural
from lab.campaign.store import Store
from lab.campaign.summary import summarize
from lab.errors import UserError
from tests.lab.campaign.conftest import CAMPAIGN, ESCAPE, PROVENANCE, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from lab.campaign.row import Row

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return 10,000 rows at 301 locations."""
    path = tmp_path_factory.mktemp("large") / "results.db"
    store = Store.create(path, PROVENANCE.as_text())
    store.add(rows_of(10_000))
    return store


@pytest.fixture(scope="module")
def shown(large: Store) -> str:
    """Return their page."""
    return page(large)


def text_of(html: str) -> str:
    """Return what can be read on a page, without scripts."""
    body = re.sub(r"<(script|style|title).*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())


def data_of(html: str) -> Any:  # noqa: ANN401  # JSON
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    return json.loads(data)


def at(location: str, time: int, outcome: str = "masked", *, injected: bool = True) -> Row:
    injected_at = time if injected else None
    return ESCAPE._replace(location=location, time=time, outcome=outcome, injected_at=injected_at)


# The page


def test_page_loads_nothing(shown: str) -> None:
    assert not re.search(r"https?:|//[a-z]|\bsrc=|@import|url\(|<link|fetch\(|import\(", shown)
    assert "default-src 'none'" in shown


def test_page_of_many_rows_is_small(shown: str) -> None:
    assert len(shown) < 400_000


def test_page_has_the_numbers_of_the_summary(large: Store, shown: str) -> None:
    text = text_of(shown)
    summary = summarize(large)
    assert "10,000 runs in a space of 3,085,504 faults." in text
    assert summary.verdict in text
    assert "the guest powered off after 48,211 instructions" in text
    for each in summary.outcomes:
        assert each.share is not None
        share, where = numbers.percent(each.share.estimate), numbers.interval(each.share)
        assert f"{each.outcome} {each.runs:,} {share} {where}" in text
    assert "9,604 injected 202 not reached 194 invalid" in text
    assert "39.03% of the space is masked without a run" in text


def test_bars_and_whiskers_are_as_long_as_the_shares(large: Store, shown: str) -> None:
    number = r"([\d.]+)%"
    bar = rf'"fill [\w-]+" style="width:{number}.*?"whisker" style="left:{number};width:{number}'
    found = re.findall(bar, shown, flags=re.DOTALL)
    shares = [each.share for each in summarize(large).outcomes if each.share]
    assert len(found) == len(shares) == 6
    for (width, left, wide), share in zip(found, shares, strict=True):
        assert float(width) == pytest.approx(100 * share.estimate, abs=1e-3)
        assert float(left) == pytest.approx(100 * share.low, abs=1e-3)
        assert float(left) + float(wide) == pytest.approx(100 * share.high, abs=2e-3)


def test_worst_runs_have_the_command_that_replays_them(large: Store, shown: str) -> None:
    commands = re.findall(r'<code class="command">(stage2 inject replay [^<]*#\d+)</code>', shown)
    summary = summarize(large)
    assert [unescape(command) for command in commands] == [
        summary.replay(row.id) for row in summary.worst
    ]
    assert len(commands) == 50


def test_provenance_and_the_campaign_are_on_the_page(shown: str) -> None:
    text = text_of(shown)
    for value in (PROVENANCE.guest_sha256, PROVENANCE.plan, "3.12.4", "--mem 64M --gic 3"):
        assert value in text
    assert "seed 7" in text
    assert " ".join(CAMPAIGN.split()) in text
    assert "stage2 inject run flips.toml" in text


def test_page_does_not_depend_on_the_order_of_rows(store: Store, tmp_path: Path) -> None:
    rows = [*rows_of(300)]
    store.add(rows)
    with Store.create(tmp_path / "other.db", PROVENANCE.as_text()) as other:
        other.add(reversed(rows))
        assert page(other).replace("other.db", "results.db") == page(store)


def test_names_of_the_guest_and_of_users_are_text(tmp_path: Path) -> None:
    facts = replace(PROVENANCE, guest=HOSTILE, campaign=HOSTILE, campaign_text=HOSTILE)
    row = ESCAPE._replace(
        location=HOSTILE, change=HOSTILE, why=HOSTILE, outcome=HOSTILE, status=HOSTILE, pc='"><b>'
    )
    with Store.create(tmp_path / "<b>.db", facts.as_text()) as store:
        store.add([row])
        html = page(store)
    assert "<script>alert" not in html
    assert html.count("<script") == html.count("</script") == 2
    assert "<b>.db" not in html
    assert '"><b>' not in html
    assert data_of(html)["bands"] == [[HOSTILE, HOSTILE, 1]]
    assert text_of(html).count(HOSTILE) > 8


def test_page_of_no_rows_says_so(store: Store) -> None:
    text = text_of(page(store))
    assert "Nothing has run yet." in text
    assert "0 of 10,000 runs so far" in text
    assert "stage2 inject resume" in text
    assert "Worst runs" not in text
    assert "Fault space" not in text


def test_page_of_all_classes_has_no_intervals(tmp_path: Path) -> None:
    facts = replace(PROVENANCE, weighting="", draws="", total=40)
    for count, what in ((40, "so they are exact"), (39, "These are no sample")):
        with Store.create(tmp_path / f"{count}.db", facts.as_text()) as store:
            store.add(rows_of(count))
            html = page(store)
        assert what in text_of(html)
        assert 'class="whisker"' not in html


def test_page_is_written_whole(store: Store, tmp_path: Path) -> None:
    store.add([ESCAPE])
    path = tmp_path / "report.html"
    write_report(store, path)
    assert path.read_text(encoding="utf-8") == page(store)
    with pytest.raises(UserError, match=r"cannot write .*nowhere/report\.html: No such file"):
        write_report(store, tmp_path / "nowhere" / "report.html")


def test_without_the_package_one_line_says_what_to_install(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=r"an HTML report needs jinja2.*'stage2\[campaign\]'"):
        page(store)


# The map of the fault space


def test_every_run_is_in_one_cell(large: Store, shown: str) -> None:
    data = data_of(shown)
    found: Counter[str] = Counter()
    for _, _, *parts in data["cells"]:
        for outcome, count in zip(parts[::2], parts[1::2], strict=True):
            found[data["outcomes"][outcome]] += count
    expected = Counter(
        UNTOUCHED if row.injected_at is None else row.outcome for row in large.rows()
    )
    assert found == expected


def test_map_of_many_locations_is_binned_and_keeps_their_order(large: Store) -> None:
    heat = heat_map(large.rows)
    assert len(heat.bands) <= BANDS
    assert heat.columns <= COLUMNS
    assert sum(band.size for band in heat.bands) == len({row.location for row in large.rows()})
    assert [band.first for band in heat.bands] == sorted(
        (band.first for band in heat.bands), key=natural
    )
    assert heat.end > max(row.time for row in large.rows())
    # Few registers are not lumped together because there is much memory.
    sizes = {band.first.split("0x")[0].split(" ")[0][:1]: band.size for band in heat.bands}
    assert sizes["m"] > sizes["x"]


def test_few_locations_have_a_band_each_and_few_moments_a_column_each() -> None:
    rows = [at(f"x{n}", time) for n in range(31) for time in range(20)]
    heat = heat_map(lambda: rows)
    assert [band.first for band in heat.bands] == [f"x{n}" for n in range(31)]
    assert (heat.columns, heat.step) == (20, 1)


def test_locations_of_many_kinds_still_fit() -> None:
    names = [f"{chr(97 + a)}{chr(97 + b)}" for a in range(26) for b in range(10)]
    heat = heat_map(lambda: [at(name, 5) for name in names])
    assert len(heat.bands) <= BANDS
    assert sum(band.size for band in heat.bands) == 260


def test_numbers_in_locations_are_ordered_by_value() -> None:
    names = ["x10", "x2", "memory 0x1000", "memory 0x200", "x2 b", "pc"]
    assert sorted(names, key=natural) == [
        "memory 0x200", "memory 0x1000", "pc", "x2", "x2 b", "x10",
    ]  # fmt: skip


def test_cell_shows_its_worst_or_its_most_frequent_outcome() -> None:
    rows = [
        *[at("x0", 0, "masked")] * 3,
        *[at("x0", 0, "crash")] * 2,
        at("x0", 0, "isolation escape"),
        *[at("x0", 1, "crash", injected=False)] * 9,
        at("x0", 1, "masked"),
        at("x0", 2, "crash", injected=False),
        at("x0", 3, "hang"),
        at("x0", 3, "silent corruption"),
    ]
    heat = heat_map(lambda: rows)
    assert sorted(heat.worst()) == [
        (0, 0, "isolation escape"),
        (0, 1, "masked"),
        (0, 2, UNTOUCHED),
        (0, 3, "silent corruption"),
    ]
    assert sorted(heat.most()) == [
        (0, 0, "masked"),
        (0, 1, UNTOUCHED),
        (0, 2, UNTOUCHED),
        (0, 3, "silent corruption"),
    ]


def test_fault_is_where_it_was_injected_whatever_its_trigger_counts() -> None:
    row = ESCAPE._replace(time=2, injected_at=40)
    assert heat_map(lambda: [row]).cells == {(0, 40): {"isolation escape": 1}}
    row = ESCAPE._replace(time=2, injected_at=None)
    assert heat_map(lambda: [row]).cells == {(0, 2): {UNTOUCHED: 1}}


def test_map_of_nothing_is_empty() -> None:
    assert heat_map(list) == HeatMap((), 1, 1, {})


def test_neighbouring_cells_are_drawn_as_one() -> None:
    coloured = [
        (0, 1, "crash"),
        (0, 0, "crash"),
        (0, 3, "crash"),
        (1, 2, "hang"),
        (2, 4, UNTOUCHED),
    ]
    assert cells(coloured) == {
        "crash": "M0 0h2v.9h-2zM3 0h1v.9h-1z",
        "hang": "M2 1h1v.9h-1z",
        UNTOUCHED: "M4.35 2.35h.3v.3h-.3z",
    }


def test_outcomes_of_users_get_colours_of_their_own() -> None:
    found = classes(["masked", "a", "b", "c", "d", "isolation escape"])
    assert found == {
        "isolation escape": "o-isolation-escape",
        "a": "o-other-1",
        "b": "o-other-2",
        "c": "o-other-3",
        "d": "o-other-1",
        "masked": "o-masked",
        UNTOUCHED: "o-untouched",
    }


def test_every_class_has_a_colour(shown: str) -> None:
    style = shown.partition("<style>")[2].partition("</style>")[0]
    assert set(re.findall(r"\bo-[\w-]+", shown)) == set(re.findall(r"\.(o-[\w-]+) \{ --c", style))


# The profile of bits


def test_profile_counts_injected_faults_by_weight() -> None:
    rows = [
        ESCAPE._replace(bit=1, weight=3, outcome="crash"),
        ESCAPE._replace(bit=1, weight=5, outcome="masked"),
        ESCAPE._replace(bit=3, weight=2, outcome="hang"),
        ESCAPE._replace(bit=3, weight=2, outcome="hang", injected_at=None),
        ESCAPE._replace(bit=None),
    ]
    profile = bit_profile(rows)
    assert profile.positions == ({}, {"crash": 3, "masked": 5}, {}, {"hang": 2})
    assert profile.harm(1) == {"crash": 0.375}
    assert profile.top == 1


@pytest.mark.parametrize(
    ("harmful", "top"), [(0, 0.01), (1, 0.01), (3, 0.05), (26, 0.5), (51, 0.75), (76, 1), (100, 1)]
)
def test_axis_of_bits_ends_at_a_round_share(harmful: int, top: float) -> None:
    profile = BitProfile(({"crash": harmful, "masked": 100 - harmful},))
    assert profile.top == top


def test_bars_of_bits_are_stacked_from_the_worst_up() -> None:
    profile = BitProfile(({"crash": 1, "isolation escape": 2, "masked": 1}, {"crash": 1}))
    assert stacks(profile) == {
        "isolation escape": "M0.1 50.00h.8v50.00h-.8z",
        "crash": "M0.1 25.00h.8v25.00h-.8zM1.1 0.00h.8v100.00h-.8z",
    }


def test_rows_without_bits_have_no_profile(store: Store) -> None:
    store.add([ESCAPE._replace(bit=None)])
    assert 'id="bits"' not in page(store)


# The browser


def browser(file: Path, tmp_path: Path) -> str:
    """Return the page as a browser has it after its script has run."""
    assert BROWSER is not None
    return subprocess.run(
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


KEYS = """
<script>
addEventListener("load", () => {
  const map = document.getElementById("map");
  for (const key of KEYS) map.dispatchEvent(new KeyboardEvent("keydown", { key }));
});
</script>
"""


@pytest.mark.apt
@pytest.mark.skipif(BROWSER is None, reason="no chromium")
def test_browser_shows_the_page_and_reads_cells_out(store: Store, tmp_path: Path) -> None:
    rows = [at("x0", 0), at("x0", 0, "crash"), at("x1", 900, "hang"), at("x1", 901, "hang")]
    store.add(row._replace(id=number) for number, row in enumerate(rows))
    file = tmp_path / "page.html"
    keys = ["ArrowDown", "ArrowRight", "ArrowDown", *["ArrowRight"] * 99]
    for count, said in (
        (1, "x0, instructions 0 to 15: 1 masked, 1 crash"),
        (3, "x1, instructions 16 to 31: no run"),
        (102, "x1, instructions 896 to 911: 2 hang"),
    ):
        script = KEYS.replace("KEYS", json.dumps(keys[:count]))
        # The page's policy lets no other script but those in it run.
        file.write_text(page(store).replace("</body>", f"{script}</body>"), encoding="utf-8")
        text = text_of(browser(file, tmp_path))
        assert said in text
        assert "register and memory flips" in text


@pytest.mark.apt
@pytest.mark.skipif(BROWSER is None, reason="no chromium")
def test_browser_runs_nothing_that_a_guest_is_called(tmp_path: Path) -> None:
    hostile = (
        "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"
    )
    facts = replace(PROVENANCE, guest=hostile, campaign=hostile, campaign_text=hostile)
    with Store.create(tmp_path / "results.db", facts.as_text()) as store:
        store.add([ESCAPE._replace(location=hostile, why=hostile, outcome=hostile)])
        write_report(store, tmp_path / "page.html")
    html = browser(tmp_path / "page.html", tmp_path)
    assert "<title>taken" not in html
    assert "<img" not in html
    assert text_of(html).count("onerror=") > 4
