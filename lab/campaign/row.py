"""What one run of a campaign came to: a row of its results.

A row says nothing of the host: equal campaigns have equal rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from lab.campaign.plan import Experiment

LOST: Final = "lost"
"""The outcome of an experiment that the tool could not bring to an end."""


class Row(NamedTuple):
    """One run."""

    id: int
    """The number of the experiment in the plan."""
    location: str
    """Where the fault is, such as ``x3`` or ``stage2 ipa=0x40001000 level=3 S2AP``."""
    bit: int | None
    time: int
    """The moment of the fault as planned, in instructions of the golden run."""
    weight: int
    """How many faults of the space this one stands for."""
    status: str
    """What became of the faults: of :class:`lab.faults.fault.Status`, one for each fault."""
    injected_at: int | None
    """Instructions retired when the first of them was injected."""
    pc: str
    """Where the vCPU was then, in hexadecimal; empty if nowhere."""
    change: str
    """What they changed."""
    outcome: str
    """Of :class:`lab.campaign.outcome.Outcome`, or what a predicate of the user said."""
    why: str
    """What the outcome follows from, in a few words."""
    end: str
    """How the run ended: of :class:`lab.monitor.EndReason`."""
    instructions: int
    """Retired until then; as in the golden run if this one met its state again."""
    met_at: int | None
    """Instructions retired when the state of the golden run was met, which ended the run."""
    console: str
    """SHA-256 of the console's text, the first 16 digits."""

    @property
    def moment(self) -> int:
        """Instructions retired when the fault was injected; if it was not, :attr:`time`.

        They differ where a trigger is no number of instructions.
        """
        return self.time if self.injected_at is None else self.injected_at


_SQL: Final = {"int": "INTEGER", "int | None": "INTEGER", "str": "TEXT"}


def columns() -> dict[str, str]:
    """Return the SQL types of the fields, by name."""
    return {name: _SQL[Row.__annotations__[name].__forward_arg__] for name in Row._fields}


def lost(experiment: Experiment, why: str) -> Row:
    """Return the row of an experiment that the tool could not bring to an end."""
    return Row(
        id=experiment.id,
        location=experiment.location,
        bit=experiment.bit,
        time=experiment.time,
        weight=experiment.weight,
        status="",
        injected_at=None,
        pc="",
        change="",
        outcome=LOST,
        why=why,
        end="",
        instructions=0,
        met_at=None,
        console="",
    )
