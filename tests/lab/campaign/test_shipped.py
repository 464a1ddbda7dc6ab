"""The campaigns that come with the project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.campaign.planning import plan_campaign
from lab.campaign.prepare import prepare
from lab.campaign.read import read_campaign
from lab.campaign.shipped import find_campaign, shipped_campaigns
from lab.errors import UserError

if TYPE_CHECKING:
    from lab.campaign.row import Row

SIZES = {"checksum": 2000, "checksum_twice": 2000, "rewrite": 43, "stage2_flips": 13 * 64}
"""Faults that are run or drawn."""


def test_every_shipped_campaign_is_known_here() -> None:
    assert list(shipped_campaigns()) == sorted(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_a_shipped_campaign_can_be_planned(name: str) -> None:
    made = plan_campaign(prepare(read_campaign(find_campaign(name))))
    assert (len(made.draws) if made.draws is not None else len(made.experiments)) == SIZES[name]


def test_a_campaign_is_a_file_or_a_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_campaign("rewrite").name == "rewrite.toml"
    (tmp_path / "rewrite").write_text("")
    assert find_campaign("rewrite") == Path("rewrite")
    (tmp_path / "mine.toml").write_text("")
    assert find_campaign("mine.toml") == Path("mine.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "stage2_flip",
            (
                "there is no file stage2_flip, and no shipped campaign of that name; "
                "did you mean 'stage2_flips'?"
            ),
        ),
        (
            "nothing",
            (
                "there is no file nothing, and no shipped campaign of that name; there are "
                "checksum, checksum_twice, rewrite, stage2_flips"
            ),
        ),
        ("a/b.toml", "there is no file a/b.toml; check the path"),
        (".", ". is a folder; give a campaign file in it"),
    ],
)
def test_an_unknown_campaign_is_one_line_with_the_way_out(text: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        find_campaign(text)
    assert str(caught.value) == expected


@pytest.fixture(scope="module")
def rewrite() -> dict[str, Row]:
    """Run the smallest of them."""
    prepared = prepare(read_campaign(find_campaign("rewrite")))
    runner = prepared.runner()
    rows = [runner.run(experiment) for experiment in plan_campaign(prepared).experiments]
    return {row.location: row for row in rows}


def stale(rows: dict[str, Row], word: str) -> set[str]:
    return {place for place, row in rows.items() if f"STALE {word}" in row.why}


def drop(operation: str, before: int) -> str:
    return f"maintenance operation={operation} by=guest before={before} count=1"


SKIPPED = "step step=tlb-flush-ipa-nsh before=0 count=1"


def test_a_dropped_tlbi_shows_the_old_page(rewrite: dict[str, Row]) -> None:
    """The third of a round is followed by one of the hypervisor, unless that is skipped, too."""
    assert stale(rewrite, "PAGE") == {
        drop("TLBI", 1),
        drop("TLBI", 2),
        f"{drop('TLBI', 3)} + {SKIPPED}",
    }


def test_a_dropped_ic_shows_the_old_code_where_there_is_old_code(rewrite: dict[str, Row]) -> None:
    assert stale(rewrite, "CODE") == {drop("IC", 0), drop("IC", 1), drop("IC", 3)}


def test_what_the_machine_has_no_state_for_is_masked_or_invalid(rewrite: dict[str, Row]) -> None:
    rows = {place: row for place, row in rewrite.items() if "=DC " in place or "=DSB " in place}
    assert {row.outcome for row in rows.values()} == {"masked"}
    assert {"=DSB " in place: row.status for place, row in rows.items()} == {
        True: "invalid",
        False: "injected",
    }


def outcomes_of_memory_flips(name: str, count: int = 30) -> set[str]:
    """Run the first flips in data that a campaign has drawn."""
    prepared = prepare(read_campaign(find_campaign(name)))
    runner = prepared.runner()
    drawn = plan_campaign(prepared).experiments
    flips = [drawn[i] for i in range(len(drawn)) if drawn[i].location.startswith("memory")]
    return {runner.run(flip).outcome for flip in flips[:count]}


def test_a_flip_in_data_that_is_read_is_silent_without_redundancy_and_detected_with_it() -> None:
    assert outcomes_of_memory_flips("checksum") == {"silent corruption"}
    assert outcomes_of_memory_flips("checksum_twice") == {"detected"}
