"""Campaigns as text: what :func:`lab.campaign.read.parse_campaign` reads gives an equal one."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab.campaign.machine import machine_keys
from lab.faults.parameter import parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.campaign.spec import Campaign, FaultSpace, Limits, Outcomes, Sampling, When

_FOR_EVER: Final = "for ever"


def as_toml(campaign: Campaign) -> str:
    """Return a campaign as the text of a campaign file.

    A guest that is a file is named by its absolute path, so that it is found from anywhere.
    """
    return "\n".join(_lines(campaign)) + "\n"


def _lines(campaign: Campaign) -> Iterator[str]:
    for name, value in _given(campaign):
        yield f"{_key(name)} = {_value(_found(value) if name == 'guest' else value)}"
    if campaign.machine:
        yield from ("", "[machine]")
        for key, option in _options(campaign.machine).items():
            yield f"{key} = {_value(option)}"
    tables: tuple[tuple[str, Limits | Sampling | Outcomes | None], ...] = (
        ("golden", campaign.limits),
        ("sample", campaign.sample),
        ("outcome", campaign.outcome),
    )
    for title, table in tables:
        given = list(_given(table)) if table is not None else []
        if given:
            yield from ("", f"[{title}]")
            yield from (f"{_key(name)} = {_value(value)}" for name, value in given)
    for space in campaign.spaces:
        yield from _space("space", space)


def _space(title: str, space: FaultSpace) -> Iterator[str]:
    yield from ("", f"[[{title}]]", f"model = {_value(space.model)}")
    if space.lifespans != (None,):
        yield f"lifespans = {_value([_FOR_EVER if s is None else s for s in space.lifespans])}"
    if space.parameters:
        yield f"fault = {_table(space.parameters)}"
    when = _when(space.when)
    if when:
        yield f"when = {_table(when)}"
    for further in space.also:
        yield from _space(f"{title}.also", further)


def _when(when: When) -> dict[str, Any]:
    if when.trigger:
        return {"trigger": when.trigger, **when.parameters}
    given = {"windows": list(when.windows), "symbols": list(when.symbols)}
    return {name: values for name, values in given.items() if values}


def _given(table: object) -> Iterator[tuple[str, Any]]:
    """Yield the parameters of an object that are not what they are by themselves."""
    known = parameters_of(type(table))
    for field in fields(table):  # type: ignore[arg-type]  # those of a campaign are dataclasses
        value = getattr(table, field.name)
        if field.name in known and (field.default is MISSING or value != field.default):
            yield field.name, value


def _found(guest: str) -> str:
    path = Path(guest)
    return str(path.absolute()) if path.suffix or len(path.parts) > 1 else guest


def _options(machine: tuple[str, ...]) -> dict[str, Any]:
    """Return options of ``stage2 run`` as the keys of a campaign's machine."""
    known = machine_keys()
    flags = {text: (key, True) for key, option in known.items() for text in option.opts}
    flags |= {text: (key, False) for key, o in known.items() for text in o.secondary_opts}
    found: dict[str, Any] = {}
    words = iter(machine)
    for word in words:
        text, equals, rest = word.partition("=")
        key, on = flags[text]
        option = known[key]
        if option.is_flag:
            found[key] = on
            continue
        value = rest if equals else next(words)
        if option.multiple:
            found.setdefault(key, []).append(value)
        else:
            found[key] = value
    return found


def _key(name: str) -> str:
    return name.replace("_", "-")


def _table(values: Any) -> str:  # noqa: ANN401  # a mapping
    inside = ", ".join(f"{_key(name)} = {_value(value)}" for name, value in values.items())
    return f"{{ {inside} }}"


def _value(value: Any) -> str:  # noqa: ANN401  # whatever a parameter can be
    match value:
        case bool():
            return "true" if value else "false"
        case range():
            ends = {"from": value.start, "to": value[-1]}
            return _table(ends if value.step == 1 else {**ends, "step": value.step})
        case list() | tuple() | set() | frozenset():
            ordered = sorted(value) if isinstance(value, set | frozenset) else value
            return f"[{', '.join(map(_value, ordered))}]"
        case str():
            # TOML's basic strings have JSON's escapes, but for what is beyond 16 bits.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case _:
            return repr(value)
