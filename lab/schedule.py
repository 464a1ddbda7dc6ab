"""Which vCPU runs next, and for how long: the threads of the VMM, in a repeatable order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from emu.units.timer import INSTRUCTIONS_PER_TICK
from hyp.exits import Exit, Intr, IntrCause
from hyp.halt import kvm_arch_vcpu_runnable, kvm_idle

if TYPE_CHECKING:
    from hyp.vcpu import VCPU
    from hyp.vm import VM

_TURN_ENDS = frozenset({IntrCause.WAITING, IntrCause.YIELD, IntrCause.STOPPED})
"""After these, another vCPU is to run."""
_FOR_USER_SPACE = frozenset({IntrCause.IMMEDIATE_EXIT, IntrCause.USERFAULT, IntrCause.SIGNAL})


class Schedule:
    """Runs the vCPUs of a VM in turns, as one vCPU would run.

    A turn lasts a quantum of instructions. It ends early when the vCPU waits, spins in WFE or
    turns itself off. A vCPU that is alone in having something to do runs on until a timer or an
    interrupt gives another one something.

    Parameters
    ----------
    vm : VM
        The VM, with all of its vCPUs.
    quantum : int
        Instructions of a turn.
    seed : int
        0: the vCPUs run one after the other. Otherwise the next one is drawn, and the length
        of its turn, of 1 to ``2 * quantum - 1`` instructions.

    Attributes
    ----------
    current : VCPU
        The vCPU that ran last.
    """

    def __init__(self, vm: VM, quantum: int, seed: int) -> None:
        self._vm, self._quantum = vm, quantum
        self._vcpus = list(vm.vcpus.values())
        self._random = random.Random(seed) if seed else None  # noqa: S311  # repeatable, not secret
        self.current = self._vcpus[0]
        self._turn_left = quantum

    @property
    def retired(self) -> int:
        """The instructions that all vCPUs have retired."""
        return sum(pe.retired for pe in self._vm.machine.pes)

    def run(self, budget: int) -> Exit:
        """Run the vCPUs until one needs user space, all wait for ever, or the budget is spent.

        Parameters
        ----------
        budget : int
            Instructions of all vCPUs together. How it is cut does not change the order in
            which they run.
        """
        deadline = self.retired + budget
        while True:
            left = deadline - self.retired
            if left <= 0:
                return Intr(IntrCause.BUDGET)
            ready = [vcpu for vcpu in self._vcpus if _is_ready(vcpu)]
            if not ready:
                on = [vcpu for vcpu in self._vcpus if not vcpu.powered_off]
                if not on:
                    return Intr(IntrCause.STOPPED)
                if not kvm_idle(on):
                    return Intr(IntrCause.WAITING)
                continue
            exit_ = self._run_one(ready, left)
            if exit_ is not None:
                return exit_

    def set_mmio_data(self, data: bytes) -> None:
        """Answer the MMIO read of the vCPU that ran last."""
        self.current.set_mmio_data(data)

    def _run_one(self, ready: list[VCPU], left: int) -> Exit | None:
        """Have one vCPU run; return its exit if user space is to see it."""
        if self._turn_left <= 0 or self.current not in ready:
            self._next(ready)
        alone = len(ready) == 1
        turn = self._until_timer() if alone else self._turn_left
        before = self.retired
        self._vm.woken = False
        exit_ = self.current.run(min(turn, left), shares_machine=True)
        if not alone:
            self._turn_left -= self.retired - before
        if not isinstance(exit_, Intr) or exit_.cause in _FOR_USER_SPACE:
            return exit_
        if exit_.cause in _TURN_ENDS and not self._vm.woken:
            self._turn_left = 0
        return None

    def _next(self, ready: list[VCPU]) -> None:
        """Begin the turn of another vCPU."""
        if self._random is not None:
            self.current = self._random.choice(ready)
            self._turn_left = self._random.randint(1, 2 * self._quantum - 1)
            return
        last = self._vcpus.index(self.current)
        order = self._vcpus[last + 1 :] + self._vcpus[: last + 1]
        self.current = next(vcpu for vcpu in order if vcpu in ready)
        self._turn_left = self._quantum

    def _until_timer(self) -> int:
        """Return the instructions before a timer of a waiting vCPU fires; a lot if none will."""
        waiting = [vcpu for vcpu in self._vcpus if vcpu.halted and not vcpu.powered_off]
        expiries = [vcpu.timer_lines.next_expiry() for vcpu in waiting]
        due = min((count for count in expiries if count is not None), default=None)
        if due is None:
            return 1 << 62
        return max(1, due * INSTRUCTIONS_PER_TICK - self._vm.machine.clock.now)


def _is_ready(vcpu: VCPU) -> bool:
    return not vcpu.powered_off and (not vcpu.halted or kvm_arch_vcpu_runnable(vcpu))
