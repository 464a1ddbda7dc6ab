"""A case small enough to read: stage 1 off, one 1 GiB block at stage 2, one load."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from emu.arch.profiles import profile
from lab.conformance.parse import parse
from lab.conformance.setup import Bench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.conformance.cases import Case

CODE: Final = 0x4E00_0000
DATA: Final = 0x4E20_0128
UNMAPPED: Final = 0x8000_0128
"""An IPA without a stage-2 entry at level 1."""

LDR_X0_X1: Final = "0xf9400020"
STR_X2_X1: Final = "0xf9000022"
HVC_0: Final = "0xd4000002"

OK: Final = {"outcome": "ok", "elr": hex(CODE + 8), "imm": 0, "via": "hvc"}
LOADED: Final = OK | {"gpr_changed": {"x0": "0x1122334455667788"}}
ABORTED: Final = {
    "outcome": "exception",
    "taken_to": 2,
    "esr": "0x93c08005",
    "far": hex(UNMAPPED),
    "hpfar": "0x800000",
    "elr": hex(CODE),
    "spsr": "0x3c5",
    "gpr_changed": {},
}

_SIMPLE: Final[dict[str, Any]] = {
    "name": "made/load",
    "family": "made",
    "sys": {
        "hcr_el2": "0x80000001",
        "vtcr_el2": "0x80023558",
        "vttbr_el2": "0x1000048000000",
        "sctlr_el1": "0x34d0d804",
        "tcr_el1": "0x0",
        "ttbr0_el1": "0x0",
        "ttbr1_el1": "0x0",
        "mair_el1": "0x0",
        "vbar_el1": "0x4e010000",
        "cpacr_el1": "0x300000",
        "sp_el1": "0x4e0f0000",
        "sp_el0": "0x4e0e0000",
    },
    "s2": {"granule": "4k", "descs": [[1, 1, "0x48000008", "0x400007fd"]]},
    "s1": None,
    "code": [
        {"what": "test", "va": hex(CODE), "pa": hex(CODE), "words": [LDR_X0_X1, HVC_0]},
        {"what": "el1_vectors", "va": "0x4e010000", "pa": "0x4e010000"},
    ],
    "mem": [[hex(DATA), ["0x1122334455667788", "0x99aabbccddeeff00"]]],
    "insn": {"asm": "ldr x0, [x1]", "encoding": LDR_X0_X1, "va": hex(CODE)},
    "access": {"kind": "load", "va": hex(DATA), "size": 8, "unit": 8, "el": 1},
    "entry": {"pc": hex(CODE), "spsr": "0x3c5", "el": 1},
    "regs": {"x1": hex(DATA)},
    "steps": [],
    "expect": [{"profiles": ["cortex-a72"], "steps": [LOADED]}],
}


@pytest.fixture
def content() -> dict[str, Any]:
    """Return the case as JSON has it, to be changed at will."""
    return copy.deepcopy(_SIMPLE)


@pytest.fixture
def faulting(content: dict[str, Any]) -> dict[str, Any]:
    """Return a case whose load meets nothing at stage 2."""
    content = copy.deepcopy(content)
    content["name"] = "made/abort"
    content["regs"]["x1"] = content["access"]["va"] = hex(UNMAPPED)
    content["expect"][0]["steps"] = [dict(ABORTED)]
    return content


@pytest.fixture
def case(content: dict[str, Any]) -> Case:
    return parse(content, "here:1")


@pytest.fixture
def bench() -> Bench:
    return Bench(profile("cortex-a72"))


@pytest.fixture
def case_file(tmp_path: Path) -> Callable[..., Path]:
    """Write cases, or raw lines, to a file."""

    def write(*lines: dict[str, Any] | str, name: str = "cases.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
        return path

    return write
