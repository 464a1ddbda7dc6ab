"""Campaign files: TOML, every key of which is a declared one.

Errors name the file and the line, the key, and what is possible.
"""

from __future__ import annotations

import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab.campaign.fieldkinds import PLURALS, WORDS, kinds_of
from lab.campaign.known import model_called, near, trigger_called
from lab.campaign.lines import key_lines, line_of
from lab.campaign.machine import option_of
from lab.campaign.spec import (
    TOUCHED,
    Campaign,
    FaultSpace,
    Limits,
    Outcomes,
    Sampling,
    When,
)
from lab.errors import UserError
from lab.faults.parameter import Parameter, parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lab.campaign import lines

    SymbolTable = Mapping[str, range]

_TABLES: Final[dict[str, tuple[str, type]]] = {
    "golden": ("limits", Limits),
    "sample": ("sample", Sampling),
    "outcome": ("outcome", Outcomes),
}
"""Tables of a file that are objects of their own: the campaign's field, and its class."""

_SPACE_KEYS: Final = ("model", "fault", "when", "lifespans", "also")
_WHEN_KEYS: Final = ("trigger", "windows", "symbols")
_RANGE_KEYS: Final = ("from", "to", "step")
_ALL: Final = "all"
_FOR_EVER: Final = "for ever"


def read_campaign(path: Path, symbols: SymbolTable | None = None) -> Campaign:
    """Read a campaign file.

    Parameters
    ----------
    path : Path
        The file. A guest that is named by a relative path is looked for beside it.
    symbols : SymbolTable or None
        Where the guest's functions are. None: they are read from the guest when a key names one.

    Raises
    ------
    UserError
        If the file cannot be read, is no TOML, or describes no campaign.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 ({error.reason}); save it as that") from error
    return parse_campaign(text, str(path), path.parent, symbols)


def parse_campaign(
    text: str, name: str, folder: Path | None = None, symbols: SymbolTable | None = None
) -> Campaign:
    """Return the campaign that a text describes; ``name`` is what errors call it.

    Raises
    ------
    UserError
        If it is no TOML, or describes no campaign.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{name}: this is no TOML: {error}") from error
    return _Reader(name, key_lines(text), folder, symbols).campaign(document)


class _Reader:
    """Reads one file."""

    def __init__(
        self,
        name: str,
        numbers: dict[lines.Path, int],
        folder: Path | None,
        symbols: SymbolTable | None,
    ) -> None:
        self._name, self._numbers, self._folder, self._symbols = name, numbers, folder, symbols
        self._guest = ""

    def campaign(self, document: dict[str, Any]) -> Campaign:
        known = parameters_of(Campaign)
        self._check_keys((), document, [*known, *_TABLES, "machine", "space"])
        values = {
            key: self._plain((key,), value, Campaign, key)
            for key, value in document.items()
            if key in known
        }
        for required in ("name", "guest"):
            if required not in values:
                raise self._error((), f"{required} is missing ({known[required].text})")
        self._guest = values["guest"] = self._beside(values["guest"])
        for table, (field, kind) in _TABLES.items():
            if table in document:
                values[field] = self._object((table,), document[table], kind)
        values["machine"] = self._machine(document.get("machine", {}))
        values["spaces"] = self._spaces(("space",), document.get("space", []))
        with self._at(()):
            return Campaign(**values)

    def _beside(self, guest: str) -> str:
        """Return a guest's path, seen from where the process is."""
        path = Path(guest)
        if self._folder is None or path.is_absolute() or (path.name == guest and not path.suffix):
            return guest
        return str(self._folder / path)

    def _machine(self, table: object) -> tuple[str, ...]:
        options: list[str] = []
        for key, value in self._table(("machine",), table).items():
            with self._at(("machine", key)):
                options += option_of(key, value)
        return tuple(options)

    def _object(self, path: lines.Path, table: object, kind: type) -> Any:  # noqa: ANN401  # a ``kind``
        """Read a table whose keys are the parameters of a class."""
        known = parameters_of(kind)
        values = self._table(path, table)
        self._check_keys(path, values, known)
        made = {
            _field(key): self._plain((*path, key), value, kind, _field(key))
            for key, value in values.items()
        }
        with self._at(path):
            return kind(**made)

    # --- fault spaces

    def _spaces(self, path: lines.Path, tables: object) -> tuple[FaultSpace, ...]:
        if not isinstance(tables, list):
            raise self._error(path, f"{path[-1]} is an array of tables; write [[{path[-1]}]]")
        return tuple(self._space((*path, i), table) for i, table in enumerate(tables))

    def _space(self, path: lines.Path, given: object) -> FaultSpace:
        table = self._table(path, given)
        self._check_keys(path, table, _SPACE_KEYS)
        if not isinstance(table.get("model"), str):
            raise self._error((*path, "model"), "a space needs a model, the name of a fault model")
        with self._at((*path, "model")):
            model = model_called(table["model"])
        with self._at((*path, "fault")):
            values = self._axes((*path, "fault"), table.get("fault", {}), model)
        lifespans = self._lifespans((*path, "lifespans"), table.get("lifespans", _FOR_EVER))
        when = self._when((*path, "when"), table.get("when", {}))
        also = self._spaces((*path, "also"), table.get("also", []))
        with self._at(path):
            return FaultSpace(
                model=table["model"], parameters=values, when=when, lifespans=lifespans, also=also
            )

    def _lifespans(self, path: lines.Path, given: object) -> tuple[int | None, ...]:
        values: list[Any] = given if isinstance(given, list) else [given]
        for value in values:
            if value != _FOR_EVER and (not isinstance(value, int) or isinstance(value, bool)):
                raise self._error(
                    path, f'a lifespan is a number of instructions or "{_FOR_EVER}", not {value!r}'
                )
        return tuple(None if value == _FOR_EVER else value for value in values)

    def _when(self, path: lines.Path, given: object) -> When:
        table = self._table(path, given)
        trigger = table.get("trigger", "")
        if not trigger:
            self._check_keys(path, table, _WHEN_KEYS)
            windows = table.get("windows", [])
            found = [
                self._window((*path, "windows"), window)
                for window in (windows if isinstance(windows, list) else [windows])
            ]
            names = self._plain((*path, "symbols"), table.get("symbols", []), When, "symbols")
            for name in names:
                with self._at((*path, "symbols")):
                    self._symbol(name)
            with self._at((*path, "windows")):
                return When(windows=tuple(found), symbols=names)
        if not isinstance(trigger, str):
            raise self._error((*path, "trigger"), f"trigger is a name, not {trigger!r}")
        with self._at((*path, "trigger")):
            kind = trigger_called(trigger)
        rest = {key: value for key, value in table.items() if key != "trigger"}
        with self._at(path):
            return When(trigger=trigger, parameters=self._axes(path, rest, kind))

    def _window(self, path: lines.Path, given: object) -> range:
        values = self._range(path, given, None)
        if not isinstance(values, range):
            raise self._error(
                path,
                f"a window is written {{ from = 100, to = 200 }}, both included, not {given!r}",
            )
        return values

    def _axes(self, path: lines.Path, given: object, kind: type) -> dict[str, Any]:
        """Read the values of a model's or trigger's parameters."""
        table = self._table(path, given)
        known = parameters_of(kind)
        self._check_keys(path, table, known)
        values = {}
        for key, value in table.items():
            name = _field(key)
            with self._at((*path, key)):
                values[name] = self._axis((*path, key), value, kind, name, known[name])
        return values

    def _axis(
        self, path: lines.Path, value: object, kind: type, name: str, known: Parameter
    ) -> Any:  # noqa: ANN401  # of the parameter's type
        if value == TOUCHED and name == "address":
            return value
        if value == _ALL and _ALL not in known.choices:
            return self._everything(path, name, known)
        if isinstance(value, dict):
            found = self._range(path, value, known)
        elif isinstance(value, list):
            found = [self._plain(path, single, kind, name) for single in value]
        else:
            found = self._plain(path, value, kind, name)
        for single in (
            (found[0], found[-1])
            if isinstance(found, range)
            else (found if isinstance(found, list) else [found])
        ):
            if not known.allows(single):
                raise self._error(path, f"{name} is {known.expected}, not {single!r}")
        return found

    def _everything(self, path: lines.Path, name: str, known: Parameter) -> Any:  # noqa: ANN401
        """Return all values that a parameter can have."""
        if known.choices:
            return known.choices
        if known.minimum is None or known.maximum is None:
            raise self._error(path, f'{name} has no end, so "all" is too many; give a range')
        return range(known.minimum, known.maximum + 1)

    def _range(self, path: lines.Path, given: object, known: Parameter | None) -> object:
        """Read ``{ from = 0, to = 63 }``, both ends included."""
        if not isinstance(given, dict):
            return given
        self._check_keys(path, given, _RANGE_KEYS)
        ends: list[int] = []
        for key, default in (
            ("from", known and known.minimum),
            ("to", known and known.maximum),
            ("step", 1),
        ):
            value = given.get(key, default)
            value = self._address(value) if isinstance(value, str) else value
            if not isinstance(value, int) or isinstance(value, bool):
                raise self._error(
                    (*path, key), f"a range needs {key}, a number; write {{ from = 0, to = 63 }}"
                )
            ends.append(value)
        first, last, step = ends
        if step < 1 or last < first:
            raise self._error(
                path, f"a range goes up, from {first} to at least {first} in steps of 1 or more"
            )
        return range(first, last + 1, step)

    # --- single values

    def _plain(self, path: lines.Path, value: object, kind: type, name: str) -> Any:  # noqa: ANN401
        """Check one value against the type of a field."""
        wanted, inner = kinds_of(kind, name)
        if inner is not None and isinstance(value, list):
            for single in value:
                if not isinstance(single, inner) or isinstance(single, bool):
                    raise self._error(
                        path, f"{path[-1]} is a list of {PLURALS[inner]}, not with {single!r}"
                    )
            return tuple(value)
        if int in wanted and isinstance(value, str) and str not in wanted:
            with self._at(path):
                return self._address(value)
        if float in wanted and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        is_bool = isinstance(value, bool)
        if not isinstance(value, tuple(wanted)) or (is_bool and bool not in wanted):
            words = " or ".join(word for kind_, word in WORDS.items() if kind_ in wanted)
            raise self._error(path, f"{path[-1]} is {words}, not {value!r}")
        known = parameters_of(kind).get(name)
        if known is not None and not known.allows(value):
            raise self._error(path, f"{path[-1]} is {known.expected}, not {value!r}")
        return value

    def _address(self, text: str) -> int:
        """Return the number that a symbol stands for: ``main``, ``main+0x10``."""
        name, plus, offset = text.partition("+")
        try:
            distance = int(offset, 0) if plus else 0
        except ValueError:
            raise UserError(
                f"an address is a number or a symbol such as main+0x10, not {text!r}"
            ) from None
        return self._symbol(name.strip()).start + distance

    def _symbol(self, name: str) -> range:
        if self._symbols is None:
            from lab.campaign.symbols import symbols_of_guest  # noqa: PLC0415  # it takes time

            self._symbols = symbols_of_guest(self._guest)
        if name not in self._symbols:
            raise UserError(f"the guest has no symbol {name!r}; {near(name, self._symbols)}")
        return self._symbols[name]

    # --- errors

    def _table(self, path: lines.Path, given: object) -> dict[str, Any]:
        if not isinstance(given, dict):
            raise self._error(path, f"{path[-1]} is a table, not {given!r}")
        return given

    def _check_keys(self, path: lines.Path, given: Mapping[str, Any], known: object) -> None:
        names = [str(name).replace("_", "-") for name in known]  # type: ignore[attr-defined]
        for key in given:
            if key not in names and key.replace("_", "-") not in names:
                where = f"[{'.'.join(str(p) for p in path if isinstance(p, str))}]" if path else ""
                raise self._error(
                    (*path, key),
                    f"there is no key {key!r}{where and f' in {where}'}; {near(key, names)}",
                )

    def _error(self, path: lines.Path, message: str) -> UserError:
        return UserError(f"{self._name}:{line_of(self._numbers, path)}: {message}")

    @contextmanager
    def _at(self, path: lines.Path) -> Iterator[None]:
        """Put file and line in front of what others refuse."""
        try:
            yield
        except UserError as error:
            if str(error).startswith(f"{self._name}:"):
                raise
            raise self._error(path, str(error)) from error


def _field(key: str) -> str:
    return key.replace("-", "_")
