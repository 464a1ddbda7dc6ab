"""The configuration of a run: machines that cannot exist."""

import pytest

from lab.config import RunConfig
from lab.errors import UserError


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (RunConfig(smp=0), "--smp is 1 to 123 on a machine with a GICv3, not 0"),
        (RunConfig(smp=124), "--smp is 1 to 123 on a machine with a GICv3, not 124"),
        (
            RunConfig(gic=2, smp=9),
            "--smp is 1 to 8 on a machine with a GICv2, not 9; --gic 3 has more",
        ),
        (RunConfig(gic=2, smp=-1), "--smp is 1 to 8 on a machine with a GICv2, not -1"),
        (RunConfig(gic=0, smp=513), "--smp is 1 to 512 on a machine with no GIC, not 513"),
        (RunConfig(gic=4), "--gic is one of none, 2, 3, not 4"),
        (RunConfig(quantum=0), "--quantum 0 leaves no vCPU a turn; give at least 1"),
    ],
)
def test_an_impossible_machine_is_refused_in_one_line(config: RunConfig, text: str) -> None:
    with pytest.raises(UserError) as caught:
        config.check()
    assert str(caught.value) == text


@pytest.mark.parametrize("config", [RunConfig(smp=123), RunConfig(gic=2, smp=8)])
def test_as_many_cpus_as_the_gic_has_room_for_are_accepted(config: RunConfig) -> None:
    config.check()
