"""Campaigns as text: what is written is read back as the same campaign."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lab.campaign.read import parse_campaign
from lab.campaign.spec import Campaign, FaultSpace, Limits, Outcomes, Sampling, When
from lab.campaign.write import as_toml

if TYPE_CHECKING:
    from pathlib import Path

SPACE = FaultSpace(
    model="register-flip",
    parameters={"register": ["x0", "x30", "sp"], "bit": range(64)},
    when=When(windows=(range(100, 200), range(300, 301))),
)
CAMPAIGN = Campaign(name='flips "of" registers \\ é', guest="hello", spaces=(SPACE,))


def again(campaign: Campaign) -> Campaign:
    return parse_campaign(as_toml(campaign), "again", symbols={"main": range(4)})


@pytest.mark.parametrize(
    "campaign",
    [
        CAMPAIGN,
        replace(CAMPAIGN, seed=7, prune=False, mode="sample", sample=Sampling(margin=0.015)),
        replace(CAMPAIGN, mode="sample", sample=Sampling(n=100, weighting="uniform")),
        replace(CAMPAIGN, limits=Limits(max_insns=1000, hang_factor=1.5)),
        replace(CAMPAIGN, outcome=Outcomes(detected_words=("BAD",), panic_codes=(3, 4))),
        replace(CAMPAIGN, outcome=Outcomes(predicates=("checks.more:is_wrong",))),
        replace(
            CAMPAIGN,
            spaces=(
                replace(
                    SPACE, when=When(trigger="retired", parameters={"count": range(0, 90, 30)})
                ),
            ),
        ),
        replace(CAMPAIGN, spaces=(replace(SPACE, lifespans=(None, 10, 200)),)),
        replace(CAMPAIGN, spaces=(SPACE, replace(SPACE, also=(SPACE, SPACE)))),
        replace(CAMPAIGN, spaces=(replace(SPACE, when=When(symbols=("main",))),)),
        replace(
            CAMPAIGN,
            machine=(
                "--mem",
                "32M",
                "--smp=2",
                "--pmu",
                "--no-dic",
                "--slot",
                "id=1,gpa=0x50000000,size=64K",
                "--slot",
                "id=2,gpa=0x60000000,size=64K",
            ),
        ),
    ],
)
def test_a_campaign_is_read_back_as_it_was(campaign: Campaign) -> None:
    read = again(campaign)
    assert as_toml(read) == as_toml(campaign)
    assert (read.name, read.mode, read.sample, read.limits, read.outcome) == (
        campaign.name,
        campaign.mode,
        campaign.sample,
        campaign.limits,
        campaign.outcome,
    )
    assert len(read.spaces) == len(campaign.spaces)
    for one, other in zip(read.spaces, campaign.spaces, strict=True):
        assert (one.when, one.lifespans, len(one.also)) == (
            other.when,
            other.lifespans,
            len(other.also),
        )
        assert {
            k: list(v) if isinstance(v, range | list | tuple) else v
            for k, v in one.parameters.items()
        } == {
            k: list(v) if isinstance(v, range | list | tuple) else v
            for k, v in other.parameters.items()
        }


def test_the_machine_is_written_by_the_names_of_its_options() -> None:
    machine = ("--smp", "2", "--pmu", "--no-dic")
    assert '[machine]\nsmp = "2"\npmu = true\ndic = false\n' in as_toml(
        replace(CAMPAIGN, machine=machine)
    )


def test_a_guest_that_is_a_file_is_found_from_any_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert again(replace(CAMPAIGN, guest="sub/guest.elf")).guest == str(tmp_path / "sub/guest.elf")
