"""Both GICs against a naive one: any accesses in any order, and never a difference."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hyp.vgic.cpuif import MIN_BPR
from tests.hyp.vgic.naive import NaiveGic
from tests.hyp.vgic.rig import Gic

NR_VCPUS = 3
NR_IRQS = 64
INTIDS = (0, 1, 15, 16, 27, 31, 32, 33, 47, 63)
"""SGIs, PPIs and SPIs; few, so that they meet."""

GICD_CTLR, GICD_SGIR = 0x000, 0xF00
IGROUPR, ISENABLER, ICENABLER, ISPENDR, ICPENDR = 0x080, 0x100, 0x180, 0x200, 0x280
ISACTIVER, ICACTIVER, IPRIORITYR, ITARGETSR, ICFGR = 0x300, 0x380, 0x400, 0x800, 0xC00
CPENDSGIR, SPENDSGIR, IROUTER = 0xF10, 0xF20, 0x6000
GICC_CTLR, GICC_PMR, GICC_BPR, GICC_IAR, GICC_EOIR, GICC_RPR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14
GICC_HPPIR, GICC_ABPR, GICC_AIAR, GICC_AEOIR, GICC_AHPPIR = 0x18, 0x1C, 0x20, 0x24, 0x28
GICC_DIR = 0x1000

vcpus = st.integers(0, NR_VCPUS - 1)
intids = st.sampled_from(INTIDS)
spis = st.sampled_from([n for n in INTIDS if n >= 32])
sgis = st.sampled_from([n for n in INTIDS if n < 16])
groups = st.integers(0, 1)
priorities = st.sampled_from([0x00, 0x08, 0x50, 0x57, 0x58, 0x60, 0x80, 0xA0, 0xF0, 0xF8, 0xFF])
masks = st.sampled_from([0xFF, 0xF8, 0xF0, 0xF0, 0xA0, 0x60, 0x58, 0x00])
some_groups = st.sampled_from([{0, 1}, {0, 1}, {0, 1}, {0}, {1}, set()])
mostly = st.sampled_from([True, True, True, True, False])
"""What hides interrupts is rare, or there would be none to take."""


KNOBS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "forward": {"on": mostly},
    "enable": {"cpu": vcpus, "n": intids, "on": mostly},
    "prioritise": {"cpu": vcpus, "n": intids, "priority": priorities, "byte": st.booleans()},
    "choose_group": {"cpu": vcpus, "n": intids, "group": groups},
    "configure": {"n": spis, "edge": st.booleans()},
    "route": {"n": spis, "cpu": st.integers(0, NR_VCPUS), "more": st.booleans()},
    "activate": {"cpu": vcpus, "n": intids, "on": st.booleans()},
    "enable_groups": {"cpu": vcpus, "on": some_groups},
    "control": {
        "cpu": vcpus,
        "which": st.sampled_from(["cbpr", "split", "fiq", "ackctl"]),
        "on": st.booleans(),
    },
    "mask": {"cpu": vcpus, "mask": masks},
    "binary_point": {"cpu": vcpus, "group": groups, "value": st.integers(0, 7)},
}
"""What software sets up: one rule for all of it, so that most of the steps handle interrupts."""


SETTINGS = settings(
    stateful_step_count=60,
    # What the rules do counts as generation, and may take long on a busy machine.
    suppress_health_check=[HealthCheck.too_slow],
)


class VgicModel(RuleBasedStateMachine):
    """What software can do, done to both."""

    version = 2

    def __init__(self) -> None:
        super().__init__()
        self.gic = Gic(self.version, NR_VCPUS, NR_IRQS)
        self.naive = NaiveGic(self.version, NR_VCPUS, NR_IRQS)

    def _taken(self, cpu: int) -> int:
        """Return the highest-priority active interrupt of a vCPU, 1023 without one."""
        active = [irq for irq in self.naive.irqs if irq["active_at"] == cpu]
        return int(min(active, key=lambda irq: irq["prio"])["n"]) if active else 1023

    # --- registers of one interrupt, wherever they are ---

    def _put(self, array: int, bits: int, cpu: int, n: int, value: int) -> None:
        offset, shift = array + n * bits // 32 * 4, n * bits % 32
        self._put_word(cpu, n, offset, value << shift)

    def _put_word(self, cpu: int, n: int, offset: int, word: int) -> None:
        if self.version == 3 and n < 32:
            self.gic.set_redist(0x1_0000 + offset, word, vcpu=cpu, by=(cpu + 1) % NR_VCPUS)
        else:
            self.gic.set_dist(offset, word, vcpu=cpu)

    def _get_word(self, cpu: int, n: int, offset: int) -> int:
        if self.version == 3 and n < 32:
            return self.gic.redist(0x1_0000 + offset, vcpu=cpu)
        return self.gic.dist(offset, vcpu=cpu)

    def _irq(self, cpu: int, n: int) -> dict[str, Any]:
        irq = self.naive.find(cpu, n)
        assert irq is not None
        return irq

    # --- the distributor ---

    @initialize(on=mostly, split=st.booleans())
    def begin_like_most_guests(self, on: bool, split: bool) -> None:
        if on:
            self.forward(on=True)
            for cpu in range(NR_VCPUS):
                self.mask(cpu, 0xF8)
                self.enable_groups(cpu, {0, 1})
                self.control(cpu, "split", split)
                self.control(cpu, "ackctl", on=True)
                for n in INTIDS:
                    self.enable(cpu, n, on=True)

    @rule(data=st.data(), knob=st.sampled_from(list(KNOBS)))
    def set_up(self, data: st.DataObject, knob: str) -> None:
        drawn = {name: data.draw(strategy) for name, strategy in KNOBS[knob].items()}
        getattr(self, knob)(**drawn)

    def forward(self, on: bool) -> None:
        self.gic.set_dist(GICD_CTLR, self.version - 1 if on else 0)
        self.naive.forwarding = on

    def enable(self, cpu: int, n: int, on: bool) -> None:
        self._put(ISENABLER if on else ICENABLER, 1, cpu, n, 1)
        self._irq(cpu, n)["on"] = on

    def prioritise(self, cpu: int, n: int, priority: int, byte: bool) -> None:
        if byte and self.version == 3 and n < 32:
            self.gic.set_redist(0x1_0000 + IPRIORITYR + n, priority, 1, vcpu=cpu)
        elif byte:
            self.gic.set_dist(IPRIORITYR + n, priority, 1, vcpu=cpu)
        else:
            at = IPRIORITYR + n // 4 * 4
            keep = self._get_word(cpu, n, at) & ~(0xFF << n % 4 * 8)
            self._put_word(cpu, n, at, keep | priority << n % 4 * 8)
        self._irq(cpu, n)["prio"] = priority & 0xF8

    def choose_group(self, cpu: int, n: int, group: int) -> None:
        at = IGROUPR + n // 32 * 4
        keep = self._get_word(cpu, n, at) & ~(1 << n % 32)
        self._put_word(cpu, n, at, keep | group << n % 32)
        self._irq(cpu, n)["group"] = group

    def configure(self, n: int, edge: bool) -> None:
        at = ICFGR + n // 16 * 4
        keep = self.gic.dist(at) & ~(3 << n % 16 * 2)
        self.gic.set_dist(at, keep | edge << (n % 16 * 2 + 1))
        self._irq(0, n)["kind"] = "edge" if edge else "level"

    def route(self, n: int, cpu: int, more: bool) -> None:
        there_is = cpu < NR_VCPUS
        if self.version == 3:
            self.gic.set_dist(IROUTER + 8 * n, cpu if there_is else 0x77, 8 if more else 4)
            self._irq(0, n)["to"] = cpu if there_is else None
        else:
            targets = (0xF8 | 1 << cpu) if there_is else 0xF8
            if more and there_is:  # the first one gets it
                targets |= 1 << NR_VCPUS - 1
            self.gic.set_dist(ITARGETSR + n, targets, 1)
            self._irq(0, n)["to"] = cpu if there_is else 0

    @rule(cpu=vcpus, n=intids.filter(lambda n: n >= 16), level=st.booleans())
    def inject(self, cpu: int, n: int, level: bool) -> None:
        self.gic.inject(n, level=level, vcpu=cpu if n < 32 else None)
        self.naive.inject(cpu, n, level=level)

    @rule(cpu=vcpus, n=intids, on=st.booleans())
    def latch(self, cpu: int, n: int, on: bool) -> None:
        self._put(ISPENDR if on else ICPENDR, 1, cpu, n, 1)
        self.naive.set_latch(cpu, n, on=on)

    def activate(self, cpu: int, n: int, on: bool) -> None:
        self._put(ISACTIVER if on else ICACTIVER, 1, cpu, n, 1)
        self.naive.set_active(cpu, n, on=on, by=cpu)

    @rule(cpu=vcpus, n=intids, priority=priorities, group=groups)
    def interrupt(self, cpu: int, n: int, priority: int, group: int) -> None:
        """Make an interrupt pending on a vCPU, and handle what comes first there."""
        self.prioritise(cpu, n, priority, byte=True)
        if n >= 32:
            self.route(n, cpu, more=False)
        self.latch(cpu, n, on=True)
        self.take(cpu, group)

    def take(self, cpu: int, group: int) -> None:
        raise NotImplementedError

    # --- CPU interfaces ---

    def enable_groups(self, cpu: int, on: set[int]) -> None:
        self.naive.cpus[cpu]["groups"] = set(on)
        self._write_control(cpu)

    def control(self, cpu: int, which: str, on: bool) -> None:
        self.naive.cpus[cpu][which] = on
        self._write_control(cpu)

    def _write_control(self, cpu: int) -> None:
        raise NotImplementedError

    def mask(self, cpu: int, mask: int) -> None:
        if self.version == 3:
            self.gic.msr("ICC_PMR_EL1", mask, cpu)
        else:
            self.gic.set_cpu(GICC_PMR, mask, cpu)
        self.naive.cpus[cpu]["mask"] = mask & 0xF8

    def binary_point(self, cpu: int, group: int, value: int) -> None:
        interface = self.naive.cpus[cpu]
        if self.version == 3:
            self.gic.msr(f"ICC_BPR{group}_EL1", value, cpu)
            if group == 1 and interface["cbpr"]:
                return
        else:
            self.gic.set_cpu((GICC_BPR, GICC_ABPR)[group], value, cpu)
        interface[f"bpr{group}"] = max(value, MIN_BPR[group])

    # --- what must be the same ---

    @invariant()
    def lines_agree(self) -> None:
        for cpu in range(NR_VCPUS):
            assert (self.gic.pending(cpu), self.gic.fiq_pending(cpu)) == self.naive.lines(cpu)

    @invariant()
    def what_a_kick_tells_is_all_that_changes(self) -> None:
        signals = self.gic.vgic.distributor.signals
        assert signals == [cpu.signal for cpu in self.gic.vgic.distributor.cpus]

    def teardown(self) -> None:
        self.look_at_all_interrupts()

    @rule()
    def look_at_all_interrupts(self) -> None:
        for cpu in range(NR_VCPUS):
            pending = self._bits(ISPENDR, cpu)
            active = self._bits(ICACTIVER, cpu)
            for irq in self.naive.irqs:
                if irq["of"] in (None, cpu):
                    assert pending >> irq["n"] & 1 == self.naive.is_pending(irq)
                    assert active >> irq["n"] & 1 == irq["active"]

    def _bits(self, array: int, cpu: int) -> int:
        return self._get_word(cpu, 0, array) | self._get_word(cpu, 32, array + 4) << 32

    @rule(cpu=vcpus)
    def save_and_restore(self, cpu: int) -> None:
        saved = self.gic.vgic.save()
        other = Gic(self.version, NR_VCPUS, NR_IRQS)
        other.vgic.restore(saved)
        assert other.vgic.save() == saved
        assert other.pending(cpu) == self.gic.pending(cpu)
        self.gic = other


class Gicv2Model(VgicModel):
    version = 2

    def _write_control(self, cpu: int) -> None:
        interface = self.naive.cpus[cpu]
        value = (0 in interface["groups"]) << 0 | (1 in interface["groups"]) << 1
        value |= interface["ackctl"] << 2 | interface["fiq"] << 3
        self.gic.set_cpu(GICC_CTLR, value | interface["cbpr"] << 4 | interface["split"] << 9, cpu)

    @rule(cpu=vcpus, group=groups)
    def take(self, cpu: int, group: int) -> None:
        n, sender = self.naive.acknowledge(cpu, group)
        assert self.gic.cpu((GICC_IAR, GICC_AIAR)[group], cpu) == n | sender << 10

    @rule(cpu=vcpus, n=intids, sender=vcpus, alias=st.booleans(), right=mostly)
    def end(self, cpu: int, n: int, sender: int, alias: bool, right: bool) -> None:
        if right:
            n = self._taken(cpu)
            sender = self._irq(cpu, n)["active_sender"] if n < 16 else 0
        self.gic.set_cpu(GICC_AEOIR if alias else GICC_EOIR, n | sender << 10, cpu)
        self.naive.end(cpu, n, 0, sender)

    @rule(cpu=vcpus)
    def handle(self, cpu: int) -> None:
        """Take an interrupt and end it, as a handler does."""
        taken = self.gic.cpu(GICC_IAR, cpu)
        n, sender = self.naive.acknowledge(cpu, 0)
        assert taken == n | sender << 10
        self.gic.set_cpu(GICC_EOIR, taken, cpu)
        self.naive.end(cpu, n, 0, sender)

    @rule(cpu=vcpus, n=intids, sender=vcpus, right=mostly)
    def deactivate(self, cpu: int, n: int, sender: int, right: bool) -> None:
        if right:
            n = self._taken(cpu)
            sender = self._irq(cpu, n)["active_sender"] if n < 16 else 0
        self.gic.set_cpu(GICC_DIR, n | sender << 10, cpu)
        self.naive.deactivate(cpu, n, sender)

    @rule(cpu=vcpus, n=sgis, mode=st.integers(0, 3), named=st.integers(0, 255))
    def send(self, cpu: int, n: int, mode: int, named: int) -> None:
        self.gic.set_dist(GICD_SGIR, mode << 24 | named << 16 | n, vcpu=cpu)
        to = {
            0: [c for c in range(NR_VCPUS) if named >> c & 1],
            1: [c for c in range(NR_VCPUS) if c != cpu],
            2: [cpu],
            3: [],
        }[mode]
        self.naive.send(cpu, to, n, (0, 1))

    @rule(cpu=vcpus, n=sgis, senders=st.sets(vcpus), on=st.booleans())
    def set_senders(self, cpu: int, n: int, senders: set[int], on: bool) -> None:
        byte = sum(1 << sender for sender in senders)
        self.gic.set_dist((SPENDSGIR if on else CPENDSGIR) + n, byte, 1, vcpu=cpu)
        irq = self._irq(cpu, n)
        before = set(irq["senders"])
        irq["senders"] = sorted(before | senders if on else before - senders)

    @invariant()
    def interfaces_agree(self) -> None:
        for cpu in range(NR_VCPUS):
            assert self.gic.cpu(GICC_RPR, cpu) == self.naive.running_priority(cpu)
            for register, group in ((GICC_HPPIR, 0), (GICC_AHPPIR, 1)):
                n, sender = self.naive.first_pending(cpu, group)
                assert self.gic.cpu(register, cpu) == n | sender << 10


class Gicv3Model(VgicModel):
    version = 3

    def _write_control(self, cpu: int) -> None:
        interface = self.naive.cpus[cpu]
        for group in (0, 1):
            self.gic.msr(f"ICC_IGRPEN{group}_EL1", group in interface["groups"], cpu)
        self.gic.msr("ICC_CTLR_EL1", interface["cbpr"] | interface["split"] << 1, cpu)

    @rule(cpu=vcpus, group=groups, right=mostly)
    def take(self, cpu: int, group: int, right: bool = True) -> None:
        irq = self.naive.deliverable(cpu)
        if right and irq is not None:
            group = irq["group"]
        assert self.gic.mrs(f"ICC_IAR{group}_EL1", cpu) == self.naive.acknowledge(cpu, group)[0]

    @rule(cpu=vcpus, n=st.one_of(intids, st.just(1023)), group=groups, right=mostly)
    def end(self, cpu: int, n: int, group: int, right: bool) -> None:
        if right:
            n = self._taken(cpu)
            group = self._irq(cpu, n)["group"] if n < 1020 else 1
        self.gic.msr(f"ICC_EOIR{group}_EL1", n, cpu)
        self.naive.end(cpu, n, group, 0)

    @rule(cpu=vcpus, group=groups)
    def handle(self, cpu: int, group: int) -> None:
        """Take an interrupt and end it, as a handler does."""
        n, _ = self.naive.acknowledge(cpu, group)
        assert self.gic.mrs(f"ICC_IAR{group}_EL1", cpu) == n
        self.gic.msr(f"ICC_EOIR{group}_EL1", n, cpu)
        self.naive.end(cpu, n, group, 0)

    @rule(cpu=vcpus, n=intids, right=mostly)
    def deactivate(self, cpu: int, n: int, right: bool) -> None:
        if right:
            n = self._taken(cpu)
        self.gic.msr("ICC_DIR_EL1", n, cpu)
        self.naive.deactivate(cpu, n, 0)

    @rule(
        cpu=vcpus,
        n=sgis,
        to=st.sets(vcpus),
        all_others=st.booleans(),
        register=st.sampled_from(["SGI1R", "SGI0R", "ASGI1R"]),
    )
    def send(self, cpu: int, n: int, to: set[int], all_others: bool, register: str) -> None:
        value = n << 24 | all_others << 40 | sum(1 << target for target in to)
        self.gic.msr(f"ICC_{register}_EL1", value, cpu)
        named = [c for c in range(NR_VCPUS) if c != cpu] if all_others else sorted(to)
        self.naive.send(cpu, named, n, (0, 1) if register == "SGI1R" else (0,))

    @invariant()
    def interfaces_agree(self) -> None:
        for cpu in range(NR_VCPUS):
            assert self.gic.mrs("ICC_RPR_EL1", cpu) == self.naive.running_priority(cpu)
            for group in (0, 1):
                first = self.naive.first_pending(cpu, group)[0]
                assert self.gic.mrs(f"ICC_HPPIR{group}_EL1", cpu) == first


Gicv2Model.TestCase.settings = Gicv3Model.TestCase.settings = SETTINGS
TestGicv2 = Gicv2Model.TestCase
TestGicv3 = Gicv3Model.TestCase
