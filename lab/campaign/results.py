"""From a campaign to its file of results, and back."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING

from lab.campaign.identity import project_version
from lab.campaign.planning import plan_campaign
from lab.campaign.prepare import prepare
from lab.campaign.provenance import Provenance
from lab.campaign.read import parse_campaign
from lab.campaign.store import Store
from lab.campaign.write import as_toml
from lab.cpu import cpu_of
from lab.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from lab.campaign.plan import Plan
    from lab.campaign.prepare import Prepared


def new_results(path: Path, prepared: Prepared, plan: Plan, file: str = "") -> Store:
    """Make a file for the results of a campaign.

    Parameters
    ----------
    path : Path
        Where; there must be no file yet.
    prepared, plan : Prepared, Plan
        The campaign.
    file : str
        The name of its file, if it has one.

    Raises
    ------
    UserError
        If there is a file already, or none can be made.
    """
    campaign = prepared.campaign
    known = Provenance(
        campaign=campaign.name,
        campaign_text=as_toml(campaign),
        campaign_file=file,
        guest=campaign.guest,
        guest_sha256=prepared.sha256,
        inputs="\n".join(f"{name} {digest}" for name, digest in prepared.inputs),
        machine=" ".join(campaign.machine),
        cpu=cpu_of(prepared.config).name,
        seed=campaign.seed,
        stage2=project_version(),
        python=platform.python_version(),
        unicorn=version("unicorn"),
    )
    return Store.create(path, known.with_plan(plan).as_text())


def prepared_again(store: Store) -> tuple[Prepared, Plan]:
    """Return the campaign of a file of results, and its plan.

    Raises
    ------
    UserError
        If its guest, another of its inputs or the program is not what it was: rows made now
        would be of another campaign.
    """
    known = Provenance.of(store)
    prepared = prepare(parse_campaign(known.campaign_text, f"the campaign in {store.path}"))
    if prepared.sha256 != known.guest_sha256:
        raise _changed(store, f"the guest {known.guest}", known.guest_sha256, prepared.sha256)
    then = dict(line.rsplit(" ", 1) for line in known.inputs.splitlines())
    for name, digest in prepared.inputs:
        if then.get(name) != digest:
            raise _changed(store, name, then.get(name, "nothing"), digest)
    if known.stage2 != project_version():
        raise UserError(
            f"{store.path} is of stage2 {known.stage2}, this is {version('stage2')}: install that "
            "version to go on, or run the campaign again into another file"
        )
    plan = plan_campaign(prepared)
    if plan.hash != known.plan:
        raise _changed(store, "what the campaign follows from", known.plan, plan.hash)
    return prepared, plan


def _changed(store: Store, what: str, then: str, now: str) -> UserError:
    return UserError(
        f"{what} has changed since {store.path} was begun (hash {then[:12]}, now {now[:12]}); "
        "bring back what it was, or run the campaign again into another file"
    )
