"""What the results of a campaign follow from: every name in the file, declared once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.campaign.plan import Plan
    from lab.campaign.store import Store


def _known(meaning: str, default: Any = "", *, hidden: bool = False) -> Any:  # noqa: ANN401  # a dataclass field stands for its value
    return field(default=default, metadata={"meaning": meaning, "hidden": hidden})


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The provenance of a file of results; a field that is empty or 0 was not recorded."""

    campaign: str = _known("name of the campaign")
    campaign_text: str = _known("the campaign file, all of it", hidden=True)
    campaign_file: str = _known("its file name, without folders")
    guest: str = _known("the guest, as named in the campaign")
    guest_sha256: str = _known("SHA-256 of the guest's image")
    inputs: str = _known("SHA-256 of the other input files, one 'NAME HEX' a line")
    machine: str = _known("configuration of the machine, as options of 'stage2 run'")
    cpu: str = _known("CPU profile")
    seed: int = _known("what a sample follows from", 0)
    stage2: str = _known("version of this project")
    python: str = _known("version of Python")
    unicorn: str = _known("version of Unicorn, the execution engine")
    plan: str = _known("hash of all that decides the plan and its outcomes")
    space: int = _known("faults in the space", 0)
    masked: int = _known("of them, faults that nothing reads any more: masked without a run", 0)
    classes: int = _known("classes of equivalent faults that need a run", 0)
    total: int = _known("experiments planned", 0)
    weighting: str = _known("of a sample: lifetime or uniform; empty if all classes are run")
    draws: str = _known("of a sample: for each draw its experiment, with spaces", hidden=True)
    confidence: float = _known("of the intervals", 0.95)
    golden_instructions: int = _known("instructions of the run without faults", 0)
    golden_end: str = _known("how the run without faults ended")
    golden_console: str = _known("of its console: SHA-256, the first 16 digits")

    def with_plan(self, plan: Plan) -> Provenance:
        """Return it with what a plan decides."""
        weighting = "lifetime" if plan.by_lifetime else "uniform"
        facts = plan.golden
        golden: dict[str, Any] = (
            {}
            if facts is None
            else {
                "golden_instructions": facts.instructions,
                "golden_end": facts.reason.value,
                "golden_console": facts.console_digest,
            }
        )
        return replace(
            self,
            plan=plan.hash,
            space=plan.size,
            masked=plan.masked,
            classes=plan.classes,
            total=len(plan.experiments),
            weighting="" if plan.draws is None else weighting,
            draws="" if plan.draws is None else " ".join(map(str, plan.draws)),
            confidence=plan.confidence,
            **golden,
        )

    def as_text(self) -> dict[str, str]:
        """Return what :meth:`lab.campaign.store.Store.create` takes."""
        return {name: str(value) for name, value in asdict(self).items()}

    @classmethod
    def of(cls, store: Store) -> Provenance:
        """Return the provenance of a file of results.

        Raises
        ------
        UserError
            If a number in it is none.
        """
        try:
            return cls.read(store.provenance())
        except ValueError as error:
            raise UserError(f"{store.path} is damaged: its provenance has {error}") from error

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> Provenance:
        """Return the provenance that texts hold; names that are not declared are left out.

        Raises
        ------
        ValueError
            If a number is none.
        """
        values: dict[str, str | int | float] = {}
        for name, kind in KINDS.items():
            if name in texts:
                try:
                    values[name] = kind(texts[name])
                except ValueError as error:
                    raise ValueError(f"{name} = {texts[name]!r}, which is no number") from error
        return cls(**values)  # type: ignore[arg-type]  # each of its own kind


KINDS: Final[dict[str, type[str | int | float]]] = {
    each.name: {"str": str, "int": int, "float": float}[str(each.type)]
    for each in fields(Provenance)
}
"""The type of each field by name."""

MEANINGS: Final[dict[str, str]] = {
    each.name: each.metadata["meaning"] for each in fields(Provenance)
}
"""What each field says, by name."""

SHORT: Final = tuple(each.name for each in fields(Provenance) if not each.metadata["hidden"])
"""The fields that fit a line or few; of the others there is a page or more."""
