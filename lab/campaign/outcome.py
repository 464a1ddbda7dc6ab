"""What a run with faults came to, by comparison with the golden run."""

from __future__ import annotations

import hashlib
import importlib
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lab.errors import UserError
from lab.monitor import EndReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.campaign.escape import Escape
    from lab.campaign.spec import Outcomes


class Outcome(Enum):
    """The classes of outcomes, the worst first: a run has the first that applies.

    What a predicate of the user's says comes behind an isolation escape, and before the others.
    """

    ESCAPE = "isolation escape"
    """An access reached physical memory outside of the VM's slots."""
    HANG = "hang"
    """The guest did not end, or waits for ever."""
    CRASH = "crash"
    """The guest, or the machine under it, gave up."""
    DETECTED = "detected"
    """The guest noticed, and said so."""
    SILENT = "silent corruption"
    """The guest ended as if all were well, and what it put out is wrong."""
    MASKED = "masked"
    """What the guest put out is right."""


class RunFacts(NamedTuple):
    """What is known of a run that is over, with or without faults."""

    reason: EndReason
    detail: str
    """One sentence on how it ended."""
    exit_code: int
    """What the guest gave, 0 if it gave none."""
    console: str
    instructions: int
    disks: tuple[str, ...] = ()
    """A digest of what each disk holds at the end."""
    escapes: tuple[Escape, ...] = ()

    @property
    def console_digest(self) -> str:
        """SHA-256 of the console's text, the first 16 digits."""
        return hashlib.sha256(self.console.encode()).hexdigest()[:16]


class Verdict(NamedTuple):
    """An outcome, and what it follows from."""

    outcome: str
    """A value of :class:`Outcome`, or a name that a predicate gave."""
    why: str


_HANGS: Final = {EndReason.BUDGET, EndReason.IDLE, EndReason.STUCK}
Predicate = Any
"""``(golden: RunFacts, run: RunFacts) -> str | None``, or None where it has nothing to say."""


def classify(rules: Outcomes, golden: RunFacts, run: RunFacts) -> Verdict:
    """Return what a run with faults came to.

    Parameters
    ----------
    rules : Outcomes
        What the campaign says of the guest.
    golden, run : RunFacts
        The run without faults, and the one to be judged.

    Raises
    ------
    UserError
        If a predicate cannot be imported, or returns no text.
    """
    if run.escapes:
        return Verdict(Outcome.ESCAPE.value, str(run.escapes[0]))
    for name in rules.predicates:
        said = load_predicate(name)(golden, run)
        if said is not None and not isinstance(said, str):
            raise UserError(f"the predicate {name} returns a name or None, not {said!r}")
        if said:
            return Verdict(said, f"{name} says so")
    if run.reason in _HANGS:
        return Verdict(Outcome.HANG.value, run.detail)
    found = _crash(rules, golden, run) or _detected(rules, golden, run)
    if found is not None:
        return found
    wrong = _difference(golden, run)
    if wrong:
        return Verdict(Outcome.SILENT.value, wrong)
    return Verdict(Outcome.MASKED.value, "its output is that of the golden run")


def _crash(rules: Outcomes, golden: RunFacts, run: RunFacts) -> Verdict | None:
    if not run.reason.is_normal:
        return Verdict(Outcome.CRASH.value, run.detail)
    if run.reason is EndReason.RESET and golden.reason is not EndReason.RESET:
        return Verdict(Outcome.CRASH.value, run.detail)
    why = _says(rules.panic_words, rules.panic_codes, golden, run)
    return Verdict(Outcome.CRASH.value, why) if why else None


def _detected(rules: Outcomes, golden: RunFacts, run: RunFacts) -> Verdict | None:
    why = _says(rules.detected_words, rules.detected_codes, golden, run)
    return Verdict(Outcome.DETECTED.value, why) if why else None


def _says(words: tuple[str, ...], codes: tuple[int, ...], golden: RunFacts, run: RunFacts) -> str:
    for word in words:
        if run.console.count(word) > golden.console.count(word):
            return f"the console says {word!r}"
    if run.exit_code in codes and run.exit_code != golden.exit_code:
        return f"exit code {run.exit_code}"
    return ""


def _difference(golden: RunFacts, run: RunFacts) -> str:
    """Return what of the output is wrong, the first thing; empty if nothing is."""
    if run.reason is not golden.reason:
        return f"it {run.reason.value}, where the golden run {golden.reason.value}"
    if run.exit_code != golden.exit_code:
        return f"exit code {run.exit_code}, not {golden.exit_code}"
    if run.console != golden.console:
        pairs = zip(golden.console.splitlines(), run.console.splitlines(), strict=False)
        line = next((n for n, (a, b) in enumerate(pairs, 1) if a != b), 0)
        if line:
            return f"line {line} of the console is {run.console.splitlines()[line - 1]!r}"
        return f"the console has {len(run.console)} characters, not {len(golden.console)}"
    for number, (before, after) in enumerate(zip(golden.disks, run.disks, strict=True)):
        if before != after:
            return f"disk {number} holds something else"
    return ""


@cache
def load_predicate(name: str) -> Callable[[RunFacts, RunFacts], str | None]:
    """Return the function of a predicate, ``module:function``.

    Raises
    ------
    UserError
        If there is no such module or function.
    """
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"the predicate {name}: cannot import {module} ({error}); put it where Python looks, "
            "such as by PYTHONPATH"
        ) from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise UserError(f"the predicate {name}: {module} has no function {path}")
    return found  # type: ignore[no-any-return]  # whether it takes two facts shows when it runs
