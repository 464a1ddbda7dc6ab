"""Golden runs of bundled guests, and results made by hand: rows as a campaign leaves them."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from lab.campaign.golden import GoldenRecorder
from lab.campaign.provenance import Provenance
from lab.campaign.row import Row
from lab.campaign.store import Store
from lab.commands.run import configuration
from lab.loader import load
from lab.target import open_target
from lab.vmm import Vmm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lab.campaign.trace import Trace

    Start = Callable[..., Vmm]
    Record = Callable[[str], tuple[Vmm, Trace]]


CAMPAIGN: Final = """\
name = "register and memory flips"
guest = "checksum"
seed = 7

[sample]
margin = 0.01
confidence = 0.95

[[faults]]
model = "register-flip"
register = ["x0", "x1", "x2"]
bit = "0-63"
"""

PROVENANCE: Final = Provenance(
    campaign="register and memory flips",
    campaign_text=CAMPAIGN,
    campaign_file="flips.toml",
    guest="checksum",
    guest_sha256="6a1f0c9e3b7d5824" * 4,
    machine="--mem 64M --gic 3",
    cpu="max",
    seed=7,
    stage2="0.1.0",
    python="3.12.4",
    unicorn="2.1.4",
    plan="9b3c55d07e21f6a8" * 4,
    space=3_085_504,
    masked=1_204_311,
    classes=94_208,
    total=10_000,
    weighting="lifetime",
    draws=" ".join(map(str, range(10_000))),
    golden_instructions=48_211,
    golden_end="powered off",
    golden_console="5d41402abc4b2a76",
)

ESCAPE: Final = Row(
    id=0,
    location="stage2 ipa=0x40001000 level=3 OA",
    bit=33,
    time=1200,
    weight=1,
    status="injected",
    injected_at=1200,
    pc="0x40080123",
    change="0x9000007ff -> 0xb000007ff",
    outcome="isolation escape",
    why="read of PA 0xb0000010, outside of all slots",
    end="powered off",
    instructions=48_211,
    met_at=None,
    console="5d41402abc4b2a76",
)


def rows_of(count: int, *, seed: int = 1) -> Iterator[Row]:
    """Yield rows that look like those of a campaign over registers, memory and descriptors."""
    random = Random(seed)  # noqa: S311  # made-up results
    places = [
        *(f"x{n}" for n in range(31)),
        *(f"memory 0x{0x4008_0000 + 64 * n:x}" for n in range(180)),
        *(
            f"stage2 ipa={0x4000_0000 + 0x1000 * page:#x} level=3 {name}"
            for page in range(18)
            for name in ("OA", "S2AP", "XN", "AF", "MemAttr")
        ),
    ]
    for number in range(count):
        place = random.choice(places)
        yield _row(number, place, random)


def _row(number: int, place: str, random: Random) -> Row:
    time, bit = random.randrange(48_211), random.randrange(64)
    table = place.startswith("stage2")
    harm = 0.7 if table or place in {"x0", "x1", "x19"} else 0.08 + 0.3 * (time < 9_000)
    outcome, status = "masked", "injected"
    if random.random() < 0.04:
        status = random.choice(["not reached", "invalid"])
    elif random.random() < harm:
        kinds = ["silent corruption", "crash", "hang", "detected", "isolation escape"]
        escape = 1 if place.endswith("OA") and bit >= 30 else 0
        odds = [1, 5, 1, 3, escape] if table or bit > 31 else [6, 1, 1, 2, 0]
        (outcome,) = random.choices(kinds, odds)
    old = random.getrandbits(64)
    return ESCAPE._replace(
        id=number,
        location=place,
        bit=bit,
        time=time,
        status=status,
        injected_at=time if status == "injected" else None,
        pc=f"{0x4008_0000 + 4 * (time % 400):#x}" if status == "injected" else "",
        change=f"{old:#x} -> {old ^ 1 << bit:#x}" if status == "injected" else "",
        outcome=outcome,
        why={
            "masked": "state and console of the golden run",
            "silent corruption": "console differs at character 17",
            "crash": "data abort at EL1, level 1 translation fault",
            "hang": "480,000 instructions and no end",
            "detected": "exit code 3",
            "isolation escape": "read of PA 0xb0000010, outside of all slots",
        }[outcome],
        end={"hang": "never ended", "crash": "crashed"}.get(outcome, "powered off"),
        met_at=time + 40 if outcome == "masked" and status == "injected" else None,
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Return an empty file of results."""
    with Store.create(tmp_path / "results.db", PROVENANCE.as_text()) as made:
        yield made


def make(guest: str) -> Vmm:
    with open_target(guest) as target:
        config = configuration(target, ())
        image = load(target.image, config.memory, config.flash)
    return Vmm(config, image)


@pytest.fixture(name="start")
def start_fixture() -> Start:
    """Return a function that makes a guest ready to run."""
    return make


@cache
def recorded(guest: str) -> tuple[Vmm, Trace]:
    vmm = make(guest)
    _, trace = GoldenRecorder(vmm).run()
    return vmm, trace


@pytest.fixture(name="record")
def record_fixture() -> Record:
    """Return a function that gives a guest after its golden run, and the trace of that."""
    return recorded
