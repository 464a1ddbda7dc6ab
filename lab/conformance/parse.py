"""From a JSON object to a case. Everything that a run or a comparison uses is checked here.

Fields that only describe how a case was made (the drawn tree's geometry, the kind of access)
are checked for being known, and dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from emu.arch.a64.maintenance import AT
from emu.arch.a64.tlbi import TLBI
from emu.arch.address import VA
from emu.arch.registers import BY_NAME
from lab.conformance import values
from lab.conformance.cases import (
    VECTOR_BYTES,
    VECTORS,
    Case,
    Descriptor,
    Invalidate,
    SetGeneral,
    SetRegister,
    Step,
    StepKind,
    Write,
)
from lab.conformance.parse_expect import expectation
from lab.conformance.values import MalformedCaseError, cell, items, number, record, shown, u64

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emu.arch.address import PA
    from emu.arch.fields import SystemRegister
    from lab.conformance.cases import Operation

_CASE: Final = (
    "name",
    "family",
    "sys",
    "s2",
    "s1",
    "code",
    "mem",
    "insn",
    "access",
    "entry",
    "regs",
    "steps",
    "expect",
)
_CASE_OPTIONAL: Final = ("note", "requires", "second")
_REGISTERS: Final = (
    "hcr_el2",
    "vtcr_el2",
    "vttbr_el2",
    "sctlr_el1",
    "tcr_el1",
    "ttbr0_el1",
    "ttbr1_el1",
    "mair_el1",
    "vbar_el1",
    "cpacr_el1",
    "sp_el1",
    "sp_el0",
)
_DRAWN: Final = ("ia_bits", "start_level", "root", "root_entries", "concatenated")
_ACCESS: Final = (
    "kind",
    "size",
    "unit",
    "el",
    "align_required",
    "data_ipa",
    "data_pa",
    "writeback",
    "pre",
)
_ENTRIES: Final = {"4k": 512, "16k": 2048, "64k": 8192}
"""Descriptors in a table, by granule."""
_CONCATENATED: Final = 16
"""Tables that can stand side by side at the start level of stage 2."""
_LEVELS: Final = (-1, 3)
_BARRIERS: Final = ("dsb", "isb")
_HVC: Final = 0xD400_0002
_VECTOR_IMMEDIATE: Final = 0x100
_WORD: Final = 4
_CELL: Final = 8

AT_OPERATIONS: Final = (
    AT.S12E1R,
    AT.S12E1W,
    AT.S12E0R,
    AT.S12E0W,
    AT.S1E1R,
    AT.S1E1W,
    AT.S1E0R,
    AT.S1E0W,
)
"""Address translations by the number that a step gives."""


def parse(content: object, place: str) -> Case:
    """Return the case that a JSON value describes.

    Parameters
    ----------
    content
        The value.
    place
        File and line, for later messages about the case.

    Raises
    ------
    MalformedCaseError
        If it does not describe one.
    """
    case = record(content, "the case", _CASE, _CASE_OPTIONAL)
    name = values.text(case["name"], "name")
    try:
        return _case(case, name, place)
    except MalformedCaseError as error:
        raise MalformedCaseError(f"case {name}: {error}") from None


def _case(case: dict[str, Any], name: str, place: str) -> Case:
    descriptors = (*_stage2(case["s2"]), *_stage1(case["s1"]))
    data = dict(_data(case["mem"]))
    code, cells = _code(case["code"])
    insn = record(case["insn"], "insn", ("asm", "encoding", "va"), ("words", "rt"))
    values.word(insn["encoding"], "insn.encoding")
    access = record(case["access"], "access", ("va",), _ACCESS)
    entry = record(case["entry"], "entry", ("pc", "spsr"), ("el",))
    steps = tuple(
        _step(step, f"steps[{i}]") for i, step in enumerate(items(case["steps"], "steps"))
    )
    second = case.get("second") or {}
    if not isinstance(second, dict):
        raise MalformedCaseError(f"second is an object, not {shown(second)}")
    expectations = tuple(
        expectation(each, f"expect[{i}]", len(steps), descriptors)
        for i, each in enumerate(items(case["expect"], "expect"))
    )
    return Case(
        name=name,
        family=values.text(case["family"], "family"),
        note=case.get("note") or "",
        requires=case.get("requires") or "",
        registers=tuple(_registers(case["sys"])),
        memory={**data, **cells, **{each.pa: each.value for each in descriptors}},
        descriptors=descriptors,
        data=frozenset(data),
        code=code,
        asm=values.text(insn["asm"], "insn.asm"),
        insn_va=VA(u64(insn["va"], "insn.va")),
        access_va=VA(u64(access["va"], "access.va")),
        entry_pc=VA(u64(entry["pc"], "entry.pc")),
        entry_spsr=u64(entry["spsr"], "entry.spsr"),
        general=dict(_general(case["regs"])),
        steps=steps,
        second_va=VA(u64(second["va"], "second.va")) if "va" in second else None,
        must_be_new=values.flag(second.get("must_be_new", False), "second.must_be_new"),
        expectations=expectations,
        place=place,
    )


# Registers


def system_register(name: object, value: object, where: str) -> SystemRegister:
    """Return a register value from the register's name in lower case."""
    register = BY_NAME.get(name.upper()) if isinstance(name, str) else None
    if register is None:
        raise MalformedCaseError(f"{where}: there is no system register {shown(name)}")
    return register(u64(value, f"{where}.{name}"))


def _registers(content: object) -> Iterator[SystemRegister]:
    given = record(content, "sys", _REGISTERS, content if isinstance(content, dict) else ())
    for name, value in given.items():
        yield system_register(name, value, "sys")


def _general(content: object) -> Iterator[tuple[int, int]]:
    for name, value in record(content, "regs", (), (f"x{n}" for n in range(31))).items():
        yield int(name[1:]), u64(value, f"regs.{name}")


# Memory


def _stage2(content: object) -> Iterator[Descriptor]:
    tree = record(content, "s2", ("descs", "granule"), _DRAWN)
    granule = values.choice(tree["granule"], "s2.granule", _ENTRIES)
    for i, each in enumerate(items(tree["descs"], "s2.descs")):
        where = f"s2.descs[{i}]"
        level, index, pa, value = items(each, where, 4)
        _check_position(granule, level, index, where, tables=_CONCATENATED)
        at = cell(pa, where)
        yield Descriptor("s2", level, index, at, at, u64(value, where))


def _stage1(content: object) -> Iterator[Descriptor]:
    if content is None:
        return
    trees = record(content, "s1", ("ttbr0", "ttbr1", "granule"), ("start_level",))
    granule = values.choice(trees["granule"], "s1.granule", _ENTRIES)
    for tree in ("ttbr0", "ttbr1"):
        for i, each in enumerate(items(trees[tree], f"s1.{tree}")):
            where = f"s1.{tree}[{i}]"
            level, index, ipa, pa, value = items(each, where, 5)
            _check_position(granule, level, index, where, tables=1)
            yield Descriptor(
                f"s1-{tree}",
                level,
                index,
                u64(ipa, where),
                cell(pa, where),
                u64(value, where),
            )


def _check_position(granule: str, level: object, index: object, where: str, tables: int) -> None:
    """Refuse a level or an index that no table has.

    Which level a walk starts at is up to the registers, so that a case may draw more levels
    than a walk reads. Level -1 exists with the 4K granule alone (FEAT_LPA2).
    """
    lowest, highest = _LEVELS
    if granule != "4k":
        lowest = 0
    if not isinstance(level, int) or isinstance(level, bool) or not lowest <= level <= highest:
        raise MalformedCaseError(
            f"{where}: level {shown(level)} does not exist; "
            f"with the {granule.upper()} granule levels are {lowest} to {highest}"
        )
    number(index, f"{where}: the index", 0, _ENTRIES[granule] * tables - 1)


def _data(content: object) -> Iterator[tuple[PA, int]]:
    for i, piece in enumerate(items(content, "mem")):
        where = f"mem[{i}]"
        pa, words = items(piece, where, 2)
        for offset, value in enumerate(items(words, where)):
            yield cell(u64(pa, where) + _CELL * offset, where), u64(value, where)


def _code(content: object) -> tuple[dict[VA, int], dict[PA, int]]:
    """Return the instructions by VA, and the cells that hold them.

    The half of a cell that no instruction takes is zero.
    """
    by_va: dict[VA, int] = {}
    cells: dict[PA, int] = {}
    for i, piece in enumerate(items(content, "code")):
        where = f"code[{i}]"
        piece = record(piece, where, ("what", "va", "pa"), ("ipa", "words", "note"))  # noqa: PLW2901
        va, pa = u64(piece["va"], f"{where}.va"), u64(piece["pa"], f"{where}.pa")
        if pa % _WORD:
            raise MalformedCaseError(f"{where}.pa is a multiple of 4, not {pa:#x}")
        for offset, instruction in _instructions(piece, where):
            at = cell((pa + offset) & -_CELL, f"{where}.pa")
            cells[at] = cells.get(at, 0) | instruction << 8 * ((pa + offset) % _CELL)
            by_va[VA(va + offset)] = instruction
    return by_va, cells


def _instructions(piece: dict[str, Any], where: str) -> Iterator[tuple[int, int]]:
    """Yield the instructions of a piece of code with their offsets."""
    if "words" in piece:
        for i, instruction in enumerate(items(piece["words"], f"{where}.words")):
            yield _WORD * i, values.word(instruction, f"{where}.words[{i}]")
    elif piece["what"] == "el1_vectors":
        for entry in range(VECTORS):
            yield VECTOR_BYTES * entry, _HVC | (_VECTOR_IMMEDIATE + entry) << 5
    else:
        raise MalformedCaseError(f"{where} ({shown(piece['what'])}) lacks the field 'words'")


# Steps


def _step(content: object, where: str) -> Step:
    step = record(content, where, ("kind", "ops"), ("p0", "p1", "note"))
    kind = StepKind(values.choice(step["kind"], f"{where}.kind", [k.value for k in StepKind]))
    operations = tuple(
        operation
        for i, each in enumerate(items(step["ops"], f"{where}.ops"))
        if (operation := _operation(each, f"{where}.ops[{i}]")) is not None
    )
    if kind is StepKind.RESUME:
        return Step(kind, operations)
    p0 = u64(step.get("p0"), f"{where}.p0")
    if kind is StepKind.RESUME_AT:
        return Step(kind, operations, pc=VA(p0))
    number(p0, f"{where}.p0", 0, len(AT_OPERATIONS) - 1)
    va = VA(u64(step.get("p1"), f"{where}.p1"))
    return Step(kind, operations, translation=(AT_OPERATIONS[p0], va))


def _operation(content: object, where: str) -> Operation | None:
    """Return what EL2 does; None for a barrier."""
    parts = items(content, where)
    name = parts[0] if parts else None
    if name in _BARRIERS or (name == "tlbi" and len(parts) > 1 and parts[1] in _BARRIERS):
        return None
    if name == "tlbi" and len(parts) == 2:
        parts = [*parts, 0]
    _, target, value = items(parts, where, 3)
    if name == "wr":
        return Write(cell(target, where), u64(value, where))
    if name == "sys":
        return SetRegister(system_register(target, value, where))
    if name == "gpr":
        return SetGeneral(number(target, where, 0, 30), u64(value, where))
    if name != "tlbi":
        raise MalformedCaseError(f"{where} is one of wr, sys, tlbi, gpr, not {shown(name)}")
    argument = u64(value, where)
    try:
        return Invalidate(TLBI[values.text(target, where).upper()], argument)
    except KeyError:
        raise MalformedCaseError(f"{where}: there is no TLBI operation {shown(target)}") from None
