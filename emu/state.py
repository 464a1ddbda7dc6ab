"""How a class says what of its objects is state of the machine.

A snapshot of the machine takes all attributes of all objects, so that none can be forgotten. What
is to be treated otherwise is declared by its class, with these class attributes:

``NOT_STATE``
    Attributes that a snapshot leaves alone: who listens, what belongs to the process, and caches
    that stay right whatever is restored.
``NOT_COMPARED``
    Attributes that are restored, but do not matter when two states are compared: statistics, and
    what is written before it is read again.

A class whose state is not in Python attributes has the methods of :class:`Stateful` instead.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Stateful(Protocol):
    """An object that saves and restores itself."""

    def save_state(self) -> Any:  # noqa: ANN401  # each class has its own
        """Return the state: an immutable value that can be compared."""

    def load_state(self, state: Any) -> None:  # noqa: ANN401  # what the other method returned
        """Have that state again."""
