"""A second GIC, written without the first: a list of dicts, searched from end to end.

It knows nothing of registers' layout. Each method is what one access does, by the words of
IHI 0048 and IHI 0069.
"""

from __future__ import annotations

from typing import Any

SPECIAL = 1020


class NaiveGic:
    """A GICv2 or GICv3 of ``nr_vcpus`` vCPUs."""

    def __init__(self, version: int, nr_vcpus: int, nr_irqs: int) -> None:
        self.v2 = version == 2
        self.nr_vcpus = nr_vcpus
        self.forwarding = False
        self.irqs: list[dict[str, Any]] = []
        for cpu in range(nr_vcpus):
            for n in range(32):
                self.irqs.append(self._new(n, cpu, "edge" if n < 16 else "level", on=n < 16))
        for n in range(32, nr_irqs):
            self.irqs.append(self._new(n, None, "level", on=False))
        self.cpus: list[dict[str, Any]] = [
            {"groups": set(), "mask": 0, "bpr0": 2, "bpr1": 3, "cbpr": False, "split": False,
             "fiq": False, "ackctl": False, "running": []}
            for _ in range(nr_vcpus)
        ]  # fmt: skip

    def _new(self, n: int, cpu: int | None, kind: str, *, on: bool) -> dict[str, Any]:
        return {
            "n": n, "of": cpu, "kind": kind, "on": on, "prio": 0, "group": 0 if self.v2 else 1,
            "latched": False, "wire": False, "senders": [], "to": cpu if cpu is not None else 0,
            "active_at": None, "active": False, "active_sender": 0,
        }  # fmt: skip

    def find(self, cpu: int, n: int) -> dict[str, Any] | None:
        for irq in self.irqs:
            if irq["n"] == n and irq["of"] in (None, cpu):
                return irq
        return None

    # --- what the state means ---

    def is_pending(self, irq: dict[str, Any]) -> bool:
        if self.v2 and irq["n"] < 16:
            return bool(irq["senders"])
        return bool(irq["latched"] or (irq["kind"] == "level" and irq["wire"]))

    def _preemption(self, cpu: int, irq: dict[str, Any]) -> int:
        interface = self.cpus[cpu]
        ignored = interface["bpr0"] + 1
        if irq["group"] == 1 and not interface["cbpr"]:
            ignored = interface["bpr1"]
        return int(irq["prio"] // 2**ignored * 2**ignored)

    def running_priority(self, cpu: int) -> int:
        return min((int(level) for level, _ in self.cpus[cpu]["running"]), default=0xFF)

    def next(self, cpu: int) -> dict[str, Any] | None:
        if not self.forwarding:
            return None
        found = [
            irq
            for irq in self.irqs
            if irq["of"] in (None, cpu)
            and irq["to"] == cpu
            and irq["on"]
            and self.is_pending(irq)
            and not irq["active"]
            and irq["group"] in self.cpus[cpu]["groups"]
        ]
        found.sort(key=lambda irq: (irq["prio"], irq["n"]))
        return found[0] if found else None

    def deliverable(self, cpu: int) -> dict[str, Any] | None:
        irq = self.next(cpu)
        if irq is None or irq["prio"] >= self.cpus[cpu]["mask"]:
            return None
        return irq if self._preemption(cpu, irq) < self.running_priority(cpu) else None

    def lines(self, cpu: int) -> tuple[bool, bool]:
        """Whether IRQ and FIQ are asserted."""
        irq = self.deliverable(cpu)
        if irq is None:
            return False, False
        fiq = irq["group"] == 0 and (not self.v2 or self.cpus[cpu]["fiq"])
        return not fiq, fiq

    # --- what software does ---

    def inject(self, cpu: int, n: int, *, level: bool) -> None:
        irq = self.find(cpu, n)
        assert irq is not None
        if irq["kind"] == "level":
            irq["wire"] = level
        elif level:
            irq["latched"] = True
            if self.v2 and n < 16:
                raise AssertionError("an SGI has no wire")

    def set_latch(self, cpu: int, n: int, *, on: bool) -> None:
        irq = self.find(cpu, n)
        if irq is not None and not (self.v2 and n < 16):
            irq["latched"] = on

    def set_active(self, cpu: int, n: int, *, on: bool, by: int) -> None:
        irq = self.find(cpu, n)
        assert irq is not None
        if on and irq["active_at"] is None:
            irq["active_at"] = irq["to"]
        if on and self.v2 and n < 16:
            irq["active_sender"] = by
        irq["active"] = on
        if not on:
            irq["active_at"] = None

    def send(self, sender: int, targets: list[int], n: int, groups: tuple[int, ...]) -> None:
        for cpu in targets:
            irq = self.find(cpu, n)
            assert irq is not None
            if self.v2:
                if sender not in irq["senders"]:
                    irq["senders"] = sorted([*irq["senders"], sender])
            elif irq["group"] in groups:
                irq["latched"] = True

    def acknowledge(self, cpu: int, group: int | None) -> tuple[int, int]:
        """Return what is taken, and its sender; 1023 or 1022 if it may not be."""
        irq = self.deliverable(cpu)
        if irq is None:
            return 1023, 0
        if self.v2 and group == 0 and irq["group"] == 1 and not self.cpus[cpu]["ackctl"]:
            return 1022, 0
        if group == 1 and irq["group"] == 0:
            return 1023, 0
        if not self.v2 and irq["group"] != group:
            return 1023, 0
        # A GICv2 has one register of active priorities.
        self._run(cpu, (self._preemption(cpu, irq), 1 if self.v2 else irq["group"]))
        sender = 0
        if self.v2 and irq["n"] < 16:
            sender = irq["active_sender"] = irq["senders"].pop(0)
        irq["latched"] = False
        irq["active"] = True
        irq["active_at"] = cpu
        return irq["n"], sender

    def _run(self, cpu: int, level: tuple[int, int]) -> None:
        if level not in self.cpus[cpu]["running"]:
            self.cpus[cpu]["running"].append(level)

    def end(self, cpu: int, n: int, group: int, sender: int) -> None:
        if SPECIAL <= n <= 1023:
            return
        running = self.cpus[cpu]["running"]
        dropped = self.running_priority(cpu)
        if running:
            # Of both groups with one priority, Group 1 first.
            running.remove(max(entry for entry in running if entry[0] == dropped))
        irq = self.find(cpu, n)
        if irq is None or not irq["active"] or irq["active_at"] != cpu:
            return
        if self.cpus[cpu]["split"]:
            return
        if self.v2:
            if n < 16 and irq["active_sender"] != sender:
                return
        elif irq["group"] != group or self._preemption(cpu, irq) != dropped:
            return
        irq["active"], irq["active_at"] = False, None

    def deactivate(self, cpu: int, n: int, sender: int) -> None:
        irq = self.find(cpu, n)
        if irq is None or not irq["active"] or not self.cpus[cpu]["split"]:
            return
        if self.v2 and n < 16 and irq["active_sender"] != sender:
            return
        irq["active"], irq["active_at"] = False, None

    def first_pending(self, cpu: int, group: int) -> tuple[int, int]:
        irq = self.next(cpu)
        if irq is None or (group == 1 and irq["group"] == 0):
            return 1023, 0
        if group == 0 and irq["group"] == 1:
            if not self.v2:
                return 1023, 0
            if not self.cpus[cpu]["ackctl"]:
                return 1022, 0
        return irq["n"], irq["senders"][0] if irq["senders"] else 0
