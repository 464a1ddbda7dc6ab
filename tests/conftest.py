"""How hypothesis searches, and what is counted over all tests.

The same examples on every run, more of them on request.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from hypothesis import Phase, settings

if TYPE_CHECKING:
    import pytest

# Tests look inside, and coverage and mutants need the source. Those of the compiled modules start
# processes of their own.
os.environ.setdefault("STAGE2_PURE", "1")

settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("thorough", deadline=None, derandomize=True, max_examples=2000)
settings.register_profile(
    "unshrunk",  # for a run that asks only whether there is a failure
    settings.get_profile("default"),
    phases=(Phase.explicit, Phase.generate),
)
settings.load_profile(os.environ.get("STAGE2_HYPOTHESIS", "default"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the tests that count have counted."""
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    setups = 0
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "two_stage_setups":
                setups += value
            elif name in {"outcomes", "invariant_steps"}:
                counted[name].update(value)
    if setups:
        terminalreporter.section("two-stage translation against the naive walker")
        outcomes = counted["outcomes"]
        for kind, count in outcomes.most_common():
            terminalreporter.line(f"{count:>9,}  {count / outcomes.total():6.1%}  {kind}")
        terminalreporter.line(f"{setups:,} random two-stage set-ups agree with the naive walker")
    if steps := counted["invariant_steps"]:
        terminalreporter.section("the invariants of the stage-2 fault handler")
        for kind, count in steps.most_common():
            terminalreporter.line(f"{count:>9,}  {kind}")
        terminalreporter.line(f"{steps.total():,} steps hold the invariants, and no page is lost")
