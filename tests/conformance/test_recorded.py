"""Every recorded case on every profile: no difference that is not listed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.profiles import NAMES, profile
from lab.conformance.deviations import listed
from lab.conformance.reader import read
from lab.conformance.run import Verdict, run_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _pytest.mark import ParameterSet

    from lab.conformance.cases import Case

FILES: Final = sorted(Path(__file__).parent.glob("*.jsonl.gz"))
SHOWN: Final = 5


def family(file: Path) -> str:
    return file.name.removesuffix(".jsonl.gz")


def families() -> Iterator[ParameterSet]:
    """Yield every file with every profile."""
    for file in FILES:
        for name in NAMES:
            yield pytest.param(file, name, id=f"{family(file)}-{name}")


@cache
def cases(file: Path) -> tuple[Case, ...]:
    found = read([file])
    assert found.errors == []
    return tuple(found.cases)


def test_all_families_are_here() -> None:
    assert len(FILES) == 20
    assert sum(len(cases(file)) for file in FILES) == 8298


@pytest.mark.parametrize(("file", "name"), [*families()])
def test_recorded_cases_are_reproduced(file: Path, name: str) -> None:
    result = run_profile(cases(file), profile(name), listed())
    different = result.with_verdict(Verdict.DIFFERENT)
    shown = [f"{x.case.name}: {', '.join(d.field for d in x.differences)}" for x in different]
    assert not different, f"{len(different)} differ: {'; '.join(shown[:SHOWN])}"
    assert result.with_verdict(Verdict.SKIPPED) == []


@pytest.mark.parametrize("name", NAMES)
def test_cases_in_another_order_end_alike(name: str) -> None:
    by_family = [case for file in FILES for case in cases(file)[::9]]
    forward = run_profile(by_family, profile(name), ()).cases
    backward = run_profile(by_family[::-1], profile(name), ()).cases
    assert [each.here for each in forward] == [each.here for each in backward[::-1]]
