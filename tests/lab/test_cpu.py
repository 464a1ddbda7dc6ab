"""The CPU of a run: which one it is, and what the guest sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from emu.arch.features import CORTEX_A72
from emu.arch.registers.identification import CTR_EL0
from lab.campaign.store import Store
from lab.cli import cli
from lab.config import RunConfig
from lab.cpu import cpu_of
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYSTEM_OFF = (0xD2800100, 0xF2B08000, 0xD4000002)  # mov x0, #8; movk x0, #0x8400, lsl 16; hvc #0
PART_TO_EXIT_CODE = (
    0xD5380002,  # mrs x2, midr_el1
    0xD3443C42,  # ubfx x2, x2, #4, #12
    0x12001C42,  # and w2, w2, #0xff
    0xD2A16001,  # mov x1, #0x0b000000
    0xB9000022,  # str w2, [x1]
    *SYSTEM_OFF,
)
RANDOM_TO_EXIT_CODE = (
    0xD53B2402,  # mrs x2, rndr
    0x12001842,  # and w2, w2, #0x7f
    *PART_TO_EXIT_CODE[3:],
)

CAMPAIGN = """
name = "flips"
guest = "checksum"
mode = "sample"
prune = false

[machine]
cpu = "neoverse-n1"

[sample]
n = 2

[[space]]
model = "register-flip"
fault = { register = ["x0"], bit = [1] }
when = { windows = [{ from = 200, to = 2900 }] }
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


@pytest.mark.parametrize(
    ("options", "part"),
    [((), 0x08), (("--cpu", "neoverse-n1"), 0x0C), (("--cpu", "max"), 0x51)],
)
def test_a_guest_sees_the_cpu(
    program: Callable[..., Path], options: tuple[str, ...], part: int
) -> None:
    result = run("run", program(*PART_TO_EXIT_CODE), *options)
    assert f"exit code {part}" in result.stderr


def test_a_cpu_of_ones_own_is_a_file(program: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nbase = "max"\n[id_registers]\nMIDR_EL1 = 0x410f_0230\n')
    result = run("run", program(*PART_TO_EXIT_CODE), "--cpu", file)
    assert f"exit code {0x23}" in result.stderr


def test_random_numbers_of_the_cpu_follow_from_the_seed(program: Callable[..., Path]) -> None:
    guest = program(*RANDOM_TO_EXIT_CODE)
    codes = [
        run("run", guest, "--cpu", "max", "--seed", seed).exit_code for seed in ("5", "5", "6")
    ]
    assert codes[0] == codes[1] != codes[2]


def test_caches_are_those_that_were_asked_for() -> None:
    for name in (CORTEX_A72.name, "max"):
        plain = cpu_of(RunConfig(cpu=name)).read(CTR_EL0)
        changed = cpu_of(RunConfig(cpu=name, dic=True, idc=True, icache="vipt")).read(CTR_EL0)
        assert (plain.DIC, plain.IDC, plain.L1Ip.name) == (0, 0, "PIPT")
        assert (changed.DIC, changed.IDC, changed.L1Ip.name) == (1, 1, "VIPT")


def test_a_cpu_that_nobody_knows_is_an_error_of_the_user() -> None:
    with pytest.raises(UserError, match="no profile and no file is called 'nonsense'"):
        cpu_of(RunConfig(cpu="nonsense"))


def test_a_campaign_records_its_cpu(tmp_path: Path) -> None:
    file = tmp_path / "flips.toml"
    file.write_text(CAMPAIGN)
    done = run("inject", "run", file, "--workers", "0")
    assert done.exit_code == 0, done.output
    with Store.open(tmp_path / "flips.db") as store:
        assert store.provenance()["cpu"] == "neoverse-n1"


OWN = 'name = "mine"\nbase = "max"\n[id_registers]\nMIDR_EL1 = 0x410f_0230\n'


def test_a_campaign_is_not_gone_on_with_on_a_cpu_that_has_changed(tmp_path: Path) -> None:
    own, file = tmp_path / "mine.toml", tmp_path / "flips.toml"
    own.write_text(OWN)
    file.write_text(CAMPAIGN.replace("neoverse-n1", str(own)))
    assert run("inject", "run", file, "--workers", "0").exit_code == 0
    assert run("inject", "resume", tmp_path / "flips.db", "--workers", "0").exit_code == 0
    own.write_text(OWN.replace("0230", "0240"))
    refused = run("inject", "resume", tmp_path / "flips.db", "--workers", "0")
    assert refused.exit_code == 2
    assert "has changed" in refused.stderr


def test_a_snapshot_is_of_what_the_cpu_is_and_not_of_its_name(tmp_path: Path) -> None:
    own, copy = tmp_path / "mine.toml", tmp_path / "copy.toml"
    own.write_text(OWN)
    copy.write_text(OWN)
    snapshot = tmp_path / "hello.snap"

    def hello(cpu: Path, *options: str | Path) -> Result:
        return run("run", "hello", "--quiet", "--cpu", cpu, *options)

    assert hello(own, "--snapshot-at", "300", "--snapshot-file", snapshot).exit_code == 0
    assert hello(copy, "--restore", snapshot).exit_code == 0
    own.write_text(OWN.replace("0230", "0240"))
    refused = hello(own, "--restore", snapshot)
    assert refused.exit_code == 2
    assert "another CPU: MIDR_EL1 was 0x410f0230, not 0x410f0240" in refused.stderr
