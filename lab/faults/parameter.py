"""The parameters of fault models and triggers, each declared once.

A model is a frozen dataclass; a field declared with :func:`parameter` carries its description
and its range. From that declaration come the checks when an object is made, the keys of a
campaign file, and the pages of the documentation.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_KEY: Final = "parameter"
_LARGE: Final = 0xFFFF


@dataclass(frozen=True, slots=True)
class Parameter:
    """What is known of one parameter.

    Attributes
    ----------
    text : str
        What it means, with its unit.
    minimum, maximum : int or None
        The range of a number, both ends included.
    choices : tuple
        All values that there are, if they are few.
    """

    text: str
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[Any, ...] = ()

    @property
    def expected(self) -> str:
        """The values that are possible, in words; empty if any is."""
        if self.choices:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        if self.minimum is None:
            return ""
        if self.maximum is None:
            return f"{self.minimum} or more"
        most = self.maximum
        return f"{self.minimum} to {most:#x}" if most > _LARGE else f"{self.minimum} to {most}"

    def allows(self, value: object) -> bool:
        """Whether a value is one of the possible ones."""
        if self.choices and value not in self.choices:
            return False
        if not isinstance(value, int):
            return True
        return (self.minimum is None or self.minimum <= value) and (
            self.maximum is None or value <= self.maximum
        )


def parameter(
    text: str,
    *,
    default: Any = MISSING,  # noqa: ANN401  # of the field's own type
    minimum: int | None = None,
    maximum: int | None = None,
    choices: Collection[Any] = (),
) -> Any:  # noqa: ANN401  # a dataclass field stands for its value
    """Declare a parameter as a field of a dataclass.

    Parameters
    ----------
    text : str
        What it means, with its unit.
    default : Any
        Its value if none is given; without one, it must be given.
    minimum, maximum : int or None
        The range of a number, both ends included.
    choices : Collection
        All values that there are, if they are few.
    """
    metadata = {_KEY: Parameter(text, minimum, maximum, tuple(choices))}
    return field(default=default, metadata=metadata)


def parameters_of(kind: type) -> Mapping[str, Parameter]:
    """Return the parameters of a model or trigger by name, in the order of their declaration."""
    known = _known.get(kind)
    if known is None:
        found = {f.name: f.metadata[_KEY] for f in fields(kind) if _KEY in f.metadata}
        known = _known[kind] = MappingProxyType(found)
    return known


_known: dict[type, Mapping[str, Parameter]] = {}


def check_parameters(what: object) -> None:
    """Check the parameters of a model or trigger that has been made.

    Raises
    ------
    UserError
        For the first one with an impossible value; the text names it and what is possible.
    """
    for name, known in parameters_of(type(what)).items():
        value = getattr(what, name)
        if not known.allows(value):
            shown = f"{value:#x}" if isinstance(value, int) and value > 9 else repr(value)
            raise UserError(
                f"{type(what).__name__}: {name} is {known.expected}, not {shown} ({known.text})"
            )
