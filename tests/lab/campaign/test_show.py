"""What the results of a campaign come to: the summary, in a terminal and as JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from lab.campaign import numbers
from lab.campaign.outcome import Outcome
from lab.campaign.plan import Experiment, Plan
from lab.campaign.provenance import MEANINGS, Provenance
from lab.campaign.row import LOST
from lab.campaign.severity import is_known, severity
from lab.campaign.show import as_json, print_results
from lab.campaign.statistics import wilson
from lab.campaign.store import Store
from lab.campaign.summary import Summary, summarize
from lab.errors import UserError
from tests.docs.pages import ROOT
from tests.lab.campaign.conftest import ESCAPE, PROVENANCE, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lab.campaign.row import Row

SPACE = replace(PROVENANCE, space=1000, masked=200, classes=10, total=10)
"""Of 1000 faults, 800 in 10 classes."""
ALL = replace(SPACE, weighting="", draws="")


def rows(*outcomes: str, weight: int = 1) -> list[Row]:
    return [
        ESCAPE._replace(id=number, outcome=outcome, weight=weight)
        for number, outcome in enumerate(outcomes)
    ]


@pytest.fixture
def summary_of(tmp_path: Path) -> Callable[..., Summary]:
    """Return the summary of rows, as read from a file."""

    def summary_of(
        found: Iterable[Row], facts: Provenance = PROVENANCE, worst: int = 10
    ) -> Summary:
        path = tmp_path / "results.db"
        path.unlink(missing_ok=True)
        with Store.create(path, facts.as_text()) as store:
            store.add(found)
            return replace(summarize(store, worst), path=Path("results.db"))

    return summary_of


Summarize = Any


def printed(summary: Summary, width: int) -> str:
    out = io.StringIO()
    print_results(summary, Console(file=out, width=width, color_system=None))
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


# Shares


def test_sample_by_lifetime_has_wilsons_interval_of_the_live_faults(summary_of: Summarize) -> None:
    facts = replace(SPACE, draws="0 1 2 3 4 5 6 7 8 9")
    found = summary_of(rows(*["crash"] * 3, *["masked"] * 7), facts).outcomes
    assert [(each.outcome, each.runs) for each in found] == [
        ("isolation escape", 0),
        ("crash", 3),
        ("masked", 7),
    ]
    shares = [each.share for each in found]
    assert shares[1] == wilson(3, 10, 0.95, 800).scaled(0.8)
    assert shares[2] == wilson(7, 10, 0.95, 800).scaled(0.8).moved(0.2)
    assert shares[0] == wilson(0, 10, 0.95, 800).scaled(0.8)


def test_experiment_that_was_drawn_twice_counts_twice(summary_of: Summarize) -> None:
    facts = replace(SPACE, total=3, draws="0 1 0 2")
    crash = summary_of(rows("crash", "masked", "masked"), facts).outcomes[1]
    assert crash.runs == 1
    assert crash.share == wilson(2, 4, 0.95, 800).scaled(0.8)


def test_sample_that_is_not_done_says_what_its_first_draws_say(summary_of: Summarize) -> None:
    facts = replace(SPACE, total=4, draws="0 1 3 2")
    found = rows("crash", "masked", "crash")
    crash = summary_of(found, facts).outcomes[1]
    assert crash.runs == 2
    assert crash.share == wilson(1, 2, 0.95, 800).scaled(0.8)


def test_classes_that_were_all_run_are_weighed_and_exact(summary_of: Summarize) -> None:
    found = [*rows(*["masked"] * 9, weight=50), ESCAPE._replace(id=9, weight=350)]
    summary = summary_of(found, ALL)
    assert summary.is_exact
    assert [each.share.estimate for each in summary.outcomes] == pytest.approx([0.35, 0.65])
    assert all(each.share.low == each.share.high for each in summary.outcomes)


@pytest.mark.parametrize("draws", [None, (0, 1, 1, 2, 3, 0)])
@pytest.mark.parametrize("by_lifetime", [True, False])
def test_file_says_the_same_as_the_plan(
    summary_of: Summarize, draws: tuple[int, ...] | None, by_lifetime: bool
) -> None:
    experiments = [Experiment(n, (), 10 * n + 10, "x0", 0, n) for n in range(4)]
    plan = Plan(
        experiments=experiments,
        size=500,
        classes=40,
        masked=100,
        hash="f0",
        draws=draws,
        by_lifetime=by_lifetime,
        confidence=0.9,
    )
    facts = PROVENANCE.with_plan(plan)
    outcomes = ("crash", "masked", "masked", "hang")
    found = [
        row._replace(weight=experiment.weight)
        for row, experiment in zip(rows(*outcomes), experiments, strict=True)
    ]
    summary = summary_of(found, facts)
    shares = {each.outcome: each.share for each in summary.outcomes if each.runs}
    assert shares == plan.estimate(dict(enumerate(outcomes)))
    assert summary.is_complete


# The verdict


def test_verdict_on_an_escape_says_how_much_of_the_space(summary_of: Summarize) -> None:
    facts = replace(SPACE, draws="0 1 2 3 4 5 6 7 8 9")
    verdict = summary_of(rows("isolation escape", *["masked"] * 9), facts).verdict
    assert verdict == "Isolation did not hold in 1 run: 8.00% of the space (1.44% to 32.18%)."


def test_verdict_on_a_sample_without_escape_bounds_them(summary_of: Summarize) -> None:
    facts = replace(SPACE, draws="0 1 2 3 4 5 6 7 8 9")
    verdict = summary_of(rows(*["masked"] * 10), facts).verdict
    high = wilson(0, 10, 0.95, 800).high * 0.8
    assert (
        verdict
        == f"Isolation held in all runs. It fails for at most {high:.2%} of the space (95%)."
    )


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["crash"] * 10, "Isolation held in all runs. They cover the space."),
        (["crash"] * 9, "Isolation held so far in all runs."),
        (["crash"] * 9 + ["lost"], "Isolation held in all runs but 1 that were lost. They"),
        (["isolation escape"] * 10, "Isolation did not hold in 10 runs: 100.00% of the space."),
        (["isolation escape"] * 2, "Isolation did not hold in 2 runs."),
        ([], "Nothing has run yet."),
    ],
)
def test_verdict_claims_no_more_than_was_run(
    summary_of: Summarize, outcomes: list[str], verdict: str
) -> None:
    found = summary_of(rows(*outcomes), replace(ALL, masked=0)).verdict
    assert found.startswith(verdict)


# Order, statuses, the worst


def test_outcomes_are_ordered_worst_first_with_unknown_ones_behind_silent_corruption() -> None:
    known = [
        "isolation escape", "silent corruption", "a key leaked", "zero sum", "lost", "hang",
        "crash", "detected", "masked",
    ]  # fmt: skip
    assert sorted(set(known), key=severity) == known


def test_every_outcome_that_runs_are_given_has_its_place() -> None:
    assert all(is_known(outcome.value) for outcome in Outcome)
    assert is_known(LOST)
    assert not is_known("a key leaked")
    assert not is_known("")


def test_faults_of_all_runs_are_counted_by_status(summary_of: Summarize) -> None:
    statuses = ["injected", "invalid", "injected, not reached", "not reached, not reached", "odd"]
    found = [ESCAPE._replace(id=n, status=status) for n, status in enumerate(statuses)]
    assert list(summary_of(found).statuses.items()) == [
        ("injected", 2),
        ("not reached", 3),
        ("invalid", 1),
        ("odd", 1),
    ]


def test_worst_runs_are_those_that_stand_for_most_faults_of_each_outcome(
    summary_of: Summarize,
) -> None:
    outcomes = ("masked", "crash", "isolation escape")
    found = [
        ESCAPE._replace(id=n, outcome=outcomes[n % 3], weight=n // 6, time=n) for n in range(60)
    ]
    worst = summary_of(found, worst=3).worst
    assert [(row.outcome, row.id) for row in worst] == [
        ("isolation escape", 56),
        ("isolation escape", 59),
        ("isolation escape", 50),
        ("crash", 55),
        ("crash", 58),
        ("crash", 49),
    ]


def test_worst_runs_of_an_outcome_are_of_different_places(summary_of: Summarize) -> None:
    found = [
        ESCAPE._replace(id=n, location=f"x{n % 2}", time=n // 30, weight=n % 7 + 1)
        for n in range(60)
    ]
    worst = summary_of(found, worst=9).worst
    assert [(row.id, row.weight, row.location, row.time) for row in worst] == [
        (6, 7, "x0", 0),
        (13, 7, "x1", 0),
        (34, 7, "x0", 1),
        (41, 7, "x1", 1),
    ]
    assert [row.id for row in summary_of(found, worst=1).worst] == [6]


def test_terminal_cuts_long_reasons_and_long_lists(summary_of: Summarize) -> None:
    found = [ESCAPE._replace(id=n, time=n, why="again and " * 99) for n in range(20)]
    text = printed(summary_of(found), 80)
    assert text.count(" ...") == 3


def test_command_that_replays_a_row_is_quoted_for_a_shell(summary_of: Summarize) -> None:
    summary = summary_of([ESCAPE])
    assert summary.replay(17) == "stage2 inject replay results.db#17"
    summary = replace(summary, path=Path("my results.db"))
    assert summary.replay(17) == "stage2 inject replay 'my results.db'#17"


# The terminal


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_shows_outcomes_statuses_the_worst_and_the_file(
    summary_of: Summarize, width: int
) -> None:
    summary = summary_of(rows_of(10_000), worst=2)
    text = printed(summary, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "10,000 runs, in a space of 3,085,504 faults, of which 39.03% need no run" in text
    assert "without a fault: powered off after 48,211 instructions" in text
    for each in summary.outcomes:
        share = numbers.percent(each.share.estimate)
        line = next(line for line in text.splitlines() if line.startswith(f"{each.outcome} "))
        assert line.split()[len(each.outcome.split()) :][:2] == [f"{each.runs:,}", share]
        assert numbers.interval(each.share) in line
        assert "█" in line or "▏" in line or each.share.estimate < 0.04
    assert summary.verdict in text
    assert "faults  9,604 injected, 202 not reached, 194 invalid" in text
    for row in summary.worst:
        line = next(line for line in text.splitlines() if line.lstrip().startswith(f"{row.id} "))
        assert f"{row.time:,}" in line
        assert row.location[:20] in line
    assert "one run again: stage2 inject replay results.db#ID\n" in text
    assert "resume" not in text


def test_terminal_shows_how_to_go_on_with_what_is_not_done(summary_of: Summarize) -> None:
    text = printed(summary_of(rows_of(30)), 80)
    assert "30 of 10,000 runs so far" in text
    assert "stage2 inject resume results.db" in text


def test_terminal_shows_no_interval_where_there_is_none(summary_of: Summarize) -> None:
    text = printed(summary_of(rows(*["crash"] * 10), ALL), 80)
    assert "of the space" in text
    assert "interval" not in text
    text = printed(summary_of(rows(*["crash"] * 4), ALL), 80)
    assert "so far" in text
    assert "of the space" not in text.partition("outcome")[2]


def test_terminal_shows_markup_and_control_characters_as_text(summary_of: Summarize) -> None:
    hostile = ESCAPE._replace(outcome="[red]odd", location="[bold]x0", why="\x1b[2Jgone\x07")
    text = printed(summary_of([hostile], replace(PROVENANCE, guest="[b]\x1b]0;t\x07")), 80)
    assert "[red]odd" in text
    assert "[bold]x0" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_share_that_is_little_can_be_seen_and_nothing_cannot(summary_of: Summarize) -> None:
    text = printed(summary_of(rows_of(10_000)), 80)
    escapes = next(line for line in text.splitlines() if line.startswith("isolation escape "))
    assert escapes.endswith("▏")
    text = printed(summary_of(rows(*["crash"] * 10), ALL), 80)
    escapes = next(line for line in text.splitlines() if line.startswith("isolation escape "))
    assert escapes.endswith("0.00%")


# JSON


def test_json_has_all_numbers(summary_of: Summarize) -> None:
    summary = summary_of(rows_of(10_000), worst=2)
    data = json.loads(json.dumps(as_json(summary)))
    assert (data["file"], data["runs"], data["complete"]) == ("results.db", 10_000, True)
    assert data["provenance"]["space"] == 3_085_504
    assert data["provenance"]["guest_sha256"] == PROVENANCE.guest_sha256
    assert data["statuses"] == {"injected": 9604, "not reached": 202, "invalid": 194}
    escape = data["outcomes"][0]
    share = wilson(29, 10_000, 0.95, 3_085_504 - 1_204_311).scaled(1 - 1_204_311 / 3_085_504)
    assert (escape["outcome"], escape["runs"]) == ("isolation escape", 29)
    assert [escape[key] for key in ("share", "low", "high")] == pytest.approx(list(share))
    assert data["worst"][0] == {
        **summary.worst[0]._asdict(),
        "replay": f"stage2 inject replay results.db#{summary.worst[0].id}",
    }


def test_json_of_no_rows_has_no_shares(summary_of: Summarize) -> None:
    data = as_json(summary_of([], replace(PROVENANCE, masked=0)))
    assert {each["share"] for each in data["outcomes"]} == {None}
    assert data["worst"] == []


# Provenance and numbers


def test_provenance_comes_back_as_it_was(store: Store) -> None:
    assert Provenance.of(store) == PROVENANCE


def test_provenance_of_another_version_is_read_as_far_as_it_is_known() -> None:
    assert Provenance.read({"guest": "hello", "colour": "red"}) == Provenance(guest="hello")


def test_damaged_provenance_is_one_line(store: Store) -> None:
    with store._connection as transaction:
        transaction.execute("UPDATE provenance SET value = 'many' WHERE name = 'space'")
    with pytest.raises(UserError, match=r"results\.db is damaged: .*space = 'many'"):
        Provenance.of(store)


def test_documentation_has_every_name_of_provenance() -> None:
    text = (ROOT / "docs" / "campaign-reports.md").read_text(encoding="utf-8")
    assert all(MEANINGS.values())
    for name, meaning in MEANINGS.items():
        assert f"| `{name}` | {meaning} |" in text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.00%"),
        (1e-9, "<0.01%"),
        (0.00005, "0.01%"),
        (0.1234567, "12.35%"),
        (0.99994, "99.99%"),
        (0.999951, ">99.99%"),
        (1.0, "100.00%"),
    ],
)
def test_little_is_not_shown_as_nothing_nor_most_as_all(share: float, text: str) -> None:
    assert numbers.percent(share) == text
