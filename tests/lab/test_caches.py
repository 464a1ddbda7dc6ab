"""The caches of the machine, and by which year's rules KVM maintains them, as options."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from emu.arch.registers.identification import IcachePolicy
from hyp.icache import RULES
from lab.cli import cli
from lab.config import CACHE_RULES, ICACHES, PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYSTEM_OFF = (0xD2800100, 0xF2B08000, 0xD4000002)  # mov x0, #8; movk x0, #0x8400, lsl 16; hvc #0
STORE_AND_LOAD = (
    0xD2A84001,  # mov x1, #0x42000000
    0xF9000023,  # str x3, [x1]
    0xF9480024,  # ldr x4, [x1, #0x1000]
)
READ_CTR = (
    0xD53B0022,  # mrs x2, ctr_el0
    0xD2A16001,  # mov x1, #0x0b000000
    0xD34EFC42,  # lsr x2, x2, #14
)
TO_EXIT_CODE = (0xB9000022,)  # str w2, [x1]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments)])


def maintenance(*arguments: str | Path) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    facts: dict[str, Any] = json.loads(result.stdout)["maintenance"]
    return facts


def test_the_command_line_knows_policies_and_years() -> None:
    assert {name.upper() for name in ICACHES} == {policy.name for policy in IcachePolicy}
    assert tuple(map(str, RULES)) == CACHE_RULES


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0b11),
        (("--icache", "vipt"), 0b10),
        (("--icache", "aivivt"), 0b01),
        (("--icache", "vpipt"), 0b00),
        (("--idc",), 0b11 | 1 << 2),
        (("--dic",), 0b11 | 1 << 3),
    ],
)
def test_the_guest_reads_the_caches_in_ctr_el0(
    program: Callable[..., Path], options: tuple[str, ...], code: int
) -> None:
    # L1Ip is in [1:0] then, IDC and DIC in [14] and [15]: they go to [2] and [3].
    path = program(
        *READ_CTR,
        0xD34EFC43,  # lsr x3, x2, #14
        0x92400442,  # and x2, x2, #3
        0x92400463,  # and x3, x3, #3
        0xAA030842,  # orr x2, x2, x3, lsl #2
        *TO_EXIT_CODE,
        *SYSTEM_OFF,
    )
    assert run(path, *options).exit_code == code


@pytest.mark.parametrize(
    ("rules", "icache", "invalidations"),
    [
        # A page that is stored to, one that is read, and that of the program.
        ("2012", "pipt", 3),
        ("2012", "aivivt", 0),
        # Only the page that is fetched from.
        ("2018", "pipt", 1),
        ("2018", "aivivt", 1),
        ("2021", "vipt", 1),
        ("2026", "vpipt", 1),
    ],
)
def test_what_is_invalidated_goes_by_policy_and_year(
    program: Callable[..., Path], rules: str, icache: str, invalidations: int
) -> None:
    path = program(*STORE_AND_LOAD, *SYSTEM_OFF)
    options = ("--cache-rules", rules, "--icache", icache)
    assert maintenance(path, *options)["icache_invalidations"] == invalidations


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_brings_the_rules_of_its_year(program: Callable[..., Path], profile: str) -> None:
    path = program(*STORE_AND_LOAD, *SYSTEM_OFF)
    options = ("--kvm-profile", profile, "--icache", "aivivt")
    year = {"2021-granule": "2021", "6.1": "2021"}.get(profile, profile)
    assert maintenance(path, *options) == maintenance(path, *options, "--cache-rules", year)


@pytest.mark.parametrize(("rules", "more"), [("2018", True), ("2021", True), ("2026", False)])
def test_vpipt_lines_went_with_the_tlb_for_some_years(
    program: Callable[..., Path], rules: str, *, more: bool
) -> None:
    # The page of zeros is replaced by a copy: stage 2 is invalidated by IPA.
    path = program(0xD2A84001, 0xF9400024, 0xF9000023, *SYSTEM_OFF)
    counts = [
        maintenance(path, "--backing", "private", "--cache-rules", rules, "--icache", icache)
        for icache in ("vpipt", "vipt")
    ]
    vpipt, vipt = (count["icache_invalidations"] for count in counts)
    assert (vpipt > vipt) == more


@pytest.mark.parametrize("rules", [year for year in CACHE_RULES if year != "2012"])
def test_the_first_profile_cannot_make_pages_executable_later(rules: str) -> None:
    result = run("hello", "--kvm-profile", "2012", "--cache-rules", rules)
    assert result.exit_code == 2
    assert result.stderr == (
        f"stage2: error: --cache-rules {rules} make a page executable by a fault that "
        "--kvm-profile 2012 refuses; use another profile, or leave them out\n"
    )


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "2012"])
@pytest.mark.parametrize("rules", CACHE_RULES)
def test_other_profiles_run_under_the_rules_of_any_year(profile: str, rules: str) -> None:
    assert run("self_modify", "--kvm-profile", profile, "--cache-rules", rules).exit_code == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ("--icache", "fast"),
            (
                "Invalid value for '--icache': 'fast' is not one of 'pipt', 'vipt', 'aivivt', "
                "'vpipt'"
            ),
        ),
        (
            ("--cache-rules", "2013"),
            (
                "Invalid value for '--cache-rules': '2013' is not one of '2012', '2018', '2021', "
                "'2026'"
            ),
        ),
    ],
)
def test_caches_that_cannot_be_are_refused(options: tuple[str, ...], text: str) -> None:
    result = run("hello", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"stage2: error: {text}")
    assert result.stderr.count("\n") == 1


def test_maintenance_is_traced_beside_kvms_events_or_alone(
    program: Callable[..., Path], tmp_path: Path
) -> None:
    path = program(*STORE_AND_LOAD, *SYSTEM_OFF)
    alone = run(path, "--quiet", "--mmu-trace").stderr
    names = [line.split(": ")[1] for line in alone.splitlines()]
    assert set(names) == {"cache_maintenance_op", "memcache_topup", "stage2_install"}
    assert names.count("cache_maintenance_op") == 4
    file = tmp_path / "trace.jsonl"
    run(path, "--quiet", "--mmu-trace", "--trace-file", file)
    events = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    assert events.count("cache_maintenance_op") == 4
    assert "kvm_guest_fault" in events


def test_the_search_for_a_loop_is_not_traced(program: Callable[..., Path]) -> None:
    # A page every three instructions, for ever.
    path = program(0xD2A84001, 0xF9000023, 0x91400421, 0x17FFFFFE)
    result = run(path, "--quiet", "--mmu-trace", "--max-insns", "10")
    assert result.exit_code == 3
    assert result.stderr.count("stage2_install") == 1 + 3
