"""A plan for a terminal, and as JSON."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from lab.campaign.plan import Experiment, Plan
    from lab.campaign.spec import Campaign


def print_plan(campaign: Campaign, plan: Plan, count: int, console: Console) -> None:
    """Print what a campaign would run, and its first ``count`` experiments."""
    title = Text.assemble((campaign.name, "bold"), f" on {campaign.guest}")
    console.print(Rule(title, style="dim", align="left"))
    facts = Table.grid(padding=(0, 2))
    facts.add_column()
    facts.add_column(justify="right")
    facts.add_column(style="dim")
    for name, value, meaning in _facts(campaign, plan):
        facts.add_row(name, value, meaning)
    console.print(facts)
    if count:
        console.print(_list(plan, count))


def as_dict(campaign: Campaign, plan: Plan, count: int) -> dict[str, Any]:
    """Return the same as what JSON can hold."""
    return {
        "campaign": campaign.name,
        "guest": campaign.guest,
        "hash": plan.hash,
        "golden_instructions": _length(plan),
        "space": plan.size,
        "masked": plan.masked,
        "classes": plan.classes,
        "experiments": len(plan.experiments),
        "draws": None if plan.draws is None else len(plan.draws),
        "list": [_as_dict(each) for each in islice(plan.experiments, count)],
    }


def _facts(campaign: Campaign, plan: Plan) -> list[tuple[str, str, str]]:
    rows = [
        ("golden run", f"{_length(plan):,}", "instructions"),
        ("fault space", f"{plan.size:,}", "faults: each place, bit and moment"),
    ]
    if campaign.prune:
        rows += [
            ("never read", f"{plan.masked:,}", "masked without a run: overwritten, or not used"),
            ("classes", f"{plan.classes:,}", "of faults that must come to the same"),
        ]
    if plan.draws is not None:
        what = "faults" if plan.by_lifetime else "classes"
        rows.append(("drawn", f"{len(plan.draws):,}", f"{what}, by seed {campaign.seed}"))
    rows.append(("to be run", f"{len(plan.experiments):,}", "experiments"))
    return rows


def _length(plan: Plan) -> int:
    return 0 if plan.golden is None else plan.golden.instructions


def _list(plan: Plan, count: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("id", "time", "weight", "bit"):
        table.add_column(name, justify="right")
    table.add_column("where")
    for each in islice(plan.experiments, count):
        bit = "" if each.bit is None else str(each.bit)
        table.add_row(str(each.id), f"{each.time:,}", f"{each.weight:,}", bit, each.location)
    return table


def _as_dict(experiment: Experiment) -> dict[str, Any]:
    return {
        "id": experiment.id,
        "location": experiment.location,
        "bit": experiment.bit,
        "time": experiment.time,
        "weight": experiment.weight,
    }
