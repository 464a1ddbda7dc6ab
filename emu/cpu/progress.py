"""What a PE has executed, by Exception level: what its performance monitors count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.a64.access import AccessKind
from emu.arch.a64.loadstore import decode
from emu.units.pmu_events import Progress

if TYPE_CHECKING:
    from emu.arch.address import VA
    from emu.cpu.exception import ArmException
    from emu.cpu.pe import ProcessingElement


class ProgressCount:
    """The count of one PE.

    Attributes
    ----------
    user
        Instructions of EL0 that earlier runs of the engine retired. They are told apart from
        those of EL1 only while some counter does.
    accesses_left
        Accesses to memory until a counter may overflow.
    accessed
        Where the access is that was counted last, and how many instructions completed before it.
    """

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self.user = 0
        self.accesses_left = 0
        self.accessed: tuple[VA, int] | None = None
        self._exceptions = [0, 0]
        self._accesses = [0, 0]

    @property
    def exceptions(self) -> int:
        """Exceptions that were taken, to EL1 and to EL2."""
        return sum(self._exceptions)

    def made(self) -> Progress:
        """Return the count."""
        execution = self._pe.execution
        retired, user = execution.retired, self.user
        if execution.running:
            user += self._pe.blocks.of_user(retired - execution.before)
        kernel = retired - user
        cycles = (user + self._exceptions[0], kernel + self._exceptions[1])
        return Progress((user, kernel), cycles, (self._accesses[0], self._accesses[1]))

    def exception(self, pstate: int, exception: ArmException | None = None) -> None:
        """Count an exception, and take back the access that it kept from completing."""
        level = pstate >> 2 & 1
        self._exceptions[level] += 1
        if exception and self.accessed is not None and self.accessed[0] == exception.pc:
            self._accesses[level] -= 1
        self.accessed = None

    def access(self, word: int, va: VA, pstate: int) -> None:
        """Count the access of the instruction at ``va``, which is about to execute.

        More than one hook may call for it.
        """
        here = (va, self._pe.blocks.completed(va))
        access = decode(word)
        if here == self.accessed or (access is not None and access.kind is AccessKind.PREFETCH):
            return
        self.accessed = here
        self._accesses[pstate >> 2 & 1] += 1
        self.accesses_left -= 1

    def is_behind_last_access(self, va: VA) -> bool:
        """Whether a counter of accesses may have overflowed before the instruction at ``va``."""
        if self.accessed is None or self.accesses_left > 0:
            return False
        return self.accessed != (va, self._pe.blocks.completed(va))
