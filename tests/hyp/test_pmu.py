"""The performance monitors of a guest, on the machine."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.address import IPA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.features import CORTEX_A72
from emu.arch.fields import Encoding
from emu.arch.registers import BY_NAME
from emu.arch.registers.exceptions import ELR_EL1, ESR_EL1, PSTATE, VBAR_EL1
from emu.arch.registers.identification import ID_AA64DFR0_EL1
from emu.arch.registers.performance import (
    PMCCFILTR_EL0,
    PMCCNTR_EL0,
    PMCEID0_EL0,
    PMCEID1_EL0,
    PMCNTENCLR_EL0,
    PMCNTENSET_EL0,
    PMCR_EL0,
    PMEVCNTR_EL0,
    PMEVTYPER_EL0,
    PMINTENCLR_EL1,
    PMINTENSET_EL1,
    PMMIR_EL1,
    PMOVSCLR_EL0,
    PMOVSSET_EL0,
    PMSELR_EL0,
    PMSWINC_EL0,
    PMUSERENR_EL0,
    PMXEVCNTR_EL0,
    PMXEVTYPER_EL0,
    EventType,
    PmuEvent,
)
from emu.arch.registers.virtualization import MDCR_EL2
from emu.machine import Machine
from hyp import one_reg
from hyp.errors import Errno, KvmError
from hyp.exits import Intr, SystemEvent
from hyp.memslots import MemoryRegion
from hyp.pmu_attributes import FilterAction, PmuAttr, PmuEventFilter
from hyp.vcpu_attributes import VcpuGroup
from hyp.vgic import Vgic
from hyp.vm import VM, Cap
from tests.emu.cpu import a64

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.arch.fields import SystemRegister
    from hyp.vcpu import VCPU

RAM: Final = IPA(0x4000_0000)
SIZE: Final = 1 << 20
VECTORS: Final = RAM + 0x8000
FULL: Final = 1 << 32
RETIRED: Final = PmuEvent.INST_RETIRED
OFF: Final = (a64.movz(0, 0x8400, 16), a64.movk(0, 8), a64.hvc(0))
PMU: Final = VcpuGroup.PMU_V3
PMUV3P5: Final = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64DFR0_EL1).replace(PMUVer=6))
NO_PMU: Final = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64DFR0_EL1).replace(PMUVer=0))


class Box:
    """A VM whose vCPUs have performance monitors, and run one program."""

    def __init__(
        self,
        *program: int,
        features: CpuFeatures = CORTEX_A72,
        pmu: bool = True,
        vcpus: int = 1,
        init: bool = True,
        profile: str = "2026",
    ) -> None:
        self.machine = Machine(32 << 20, features=features)
        self.vm = VM(self.machine, profile=profile)
        self.hva = self.vm.host.mmap(SIZE)
        self.vm.set_user_memory_region(MemoryRegion(0, 0, RAM, SIZE, self.hva))
        for index in range(vcpus):
            vcpu = self.vm.create_vcpu(index)
            vcpu.init(pmu=pmu)
            vcpu.set_one_reg(one_reg.PC, RAM)
            vcpu.write(VBAR_EL1(VECTORS))
            if pmu and init:
                vcpu.set_device_attr(PMU, PmuAttr.INIT)
        self.vcpu = self.vm.vcpus[0]
        self.levels: list[bool] = []
        if self.vcpu.pmu is not None:
            self.vcpu.pmu.on_level = self.levels.append
        self.put(RAM, *program)
        for entry in range(16):
            self.put(VECTORS + 0x80 * entry, *OFF)

    def put(self, ipa: int, *program: int) -> None:
        data = struct.pack(f"<{len(program)}I", *program)
        self.vm.host.write(type(self.hva)(self.hva + ipa - RAM), data)

    def set_x(self, **values: int) -> None:
        for name, value in values.items():
            self.vcpu.set_one_reg(one_reg.core_x(int(name.removeprefix("x"))), value)

    def x(self, number: int) -> int:
        return self.vcpu.get_one_reg(one_reg.core_x(number))

    def run(self, budget: int = 10_000) -> None:
        """Run to the end of the program."""
        assert isinstance(self.vcpu.run(budget), SystemEvent)

    def step(self, budget: int) -> None:
        assert isinstance(self.vcpu.run(budget), Intr)


def count(vcpu: VCPU, number: int, event: int, value: int = 0, *, interrupt: bool = False) -> None:
    """Have user space set a counter up and turn it on."""
    set_reg(vcpu, PMEVTYPER_EL0[number], event)
    set_reg(vcpu, PMEVCNTR_EL0[number], value)
    set_reg(vcpu, PMCNTENSET_EL0, get_reg(vcpu, PMCNTENSET_EL0) | 1 << number)
    if interrupt:
        set_reg(vcpu, PMINTENSET_EL1, get_reg(vcpu, PMINTENSET_EL1) | 1 << number)
    set_reg(vcpu, PMCR_EL0, get_reg(vcpu, PMCR_EL0) | 1)


def get_reg(vcpu: VCPU, register: type[SystemRegister]) -> int:
    return vcpu.get_one_reg(one_reg.system(register.encoding))


def set_reg(vcpu: VCPU, register: type[SystemRegister], value: int) -> None:
    vcpu.set_one_reg(one_reg.system(register.encoding), value)


def refusal(caught: pytest.ExceptionInfo[KvmError]) -> Errno:
    return caught.value.errno


# --- the feature ---------------------------------------------------------------------------

EVERY: Final = (
    PMCR_EL0,
    PMCNTENSET_EL0,
    PMOVSCLR_EL0,
    PMSELR_EL0,
    PMCEID0_EL0,
    PMCCNTR_EL0,
    PMUSERENR_EL0,
    PMXEVCNTR_EL0,
    PMINTENSET_EL1,
    PMEVCNTR_EL0[0],
    PMEVTYPER_EL0[5],
    PMCCFILTR_EL0,
)


@pytest.mark.parametrize("register", EVERY)
def test_without_the_feature_every_register_is_undefined(register: type[SystemRegister]) -> None:
    box = Box(a64.mrs(1, register), a64.b(0), pmu=False)
    box.run()
    assert box.vcpu.read(ESR_EL1).EC == ExceptionClass.UNKNOWN
    assert int(box.vcpu.read(ELR_EL1)) == RAM
    assert ID_AA64DFR0_EL1(get_reg(box.vcpu, ID_AA64DFR0_EL1)).PMUVer == 0


@pytest.mark.parametrize("register", EVERY)
def test_with_the_feature_every_register_is_there(register: type[SystemRegister]) -> None:
    box = Box(a64.mrs(1, register), *OFF)
    box.run()
    assert box.vcpu.read(ESR_EL1) == 0
    assert ID_AA64DFR0_EL1(get_reg(box.vcpu, ID_AA64DFR0_EL1)).PMUVer == 1


def test_feature_that_the_cpu_lacks_is_refused() -> None:
    for box in (Box(features=NO_PMU, pmu=False), Box(pmu=False, profile="2012")):
        with pytest.raises(KvmError, match="without pmu") as caught:
            box.vm.create_vcpu(1).init(pmu=True)
        assert refusal(caught) is Errno.EINVAL
        assert box.vm.check_extension(Cap.ARM_PMU_V3) == 0
    assert Box().vm.check_extension(Cap.ARM_PMU_V3) == 1


def test_all_vcpus_have_the_same_features() -> None:
    box = Box()
    with pytest.raises(KvmError, match="all of its vCPUs have the same") as caught:
        box.vm.create_vcpu(1).init()
    assert refusal(caught) is Errno.EINVAL
    with pytest.raises(KvmError, match="the same"):
        box.vcpu.init()


def test_vcpu_with_uninitialised_monitors_does_not_run() -> None:
    box = Box(init=False)
    with pytest.raises(KvmError, match="not initialised") as caught:
        box.vcpu.run()
    assert refusal(caught) is Errno.EINVAL
    assert not box.vcpu.has_run_once


def test_el2_traps_all_accesses_and_keeps_all_counters_for_the_guest() -> None:
    box = Box(*OFF)
    box.run()
    mdcr = box.machine.pes[0].read(MDCR_EL2)
    assert (mdcr.TPM, mdcr.TPMCR, mdcr.HPMN) == (1, 1, 6)


# --- counting ------------------------------------------------------------------------------


def test_guest_counts_instructions_that_it_retires_itself() -> None:
    program = (
        a64.msr(PMEVTYPER_EL0[2], 2),
        a64.msr(PMCNTENSET_EL0, 3),
        a64.msr(PMCR_EL0, 4),
        a64.NOP,
        a64.NOP,
        a64.mrs(5, PMEVCNTR_EL0[2]),
        a64.NOP,
        a64.mrs(6, PMEVCNTR_EL0[2]),
        *OFF,
    )
    box = Box(*program)
    box.set_x(x2=RETIRED, x3=0b100, x4=1)
    box.run()
    assert (box.x(5), box.x(6)) == (2, 3), "trapped instructions do not retire"


def test_cycles_advance_from_one_read_to_the_next() -> None:
    read = a64.mrs(5, PMCCNTR_EL0), a64.mrs(6, PMCCNTR_EL0), a64.mrs(7, PMCCNTR_EL0)
    box = Box(a64.msr(PMCNTENSET_EL0, 3), a64.msr(PMCR_EL0, 4), *read, *OFF)
    box.set_x(x3=1 << 31, x4=int(PMCR_EL0.build(E=1, LC=1, C=1)))
    box.run()
    assert 0 < box.x(5) < box.x(6) < box.x(7)


def test_counters_run_only_while_both_enables_are_set() -> None:
    box = Box(*[a64.NOP] * 100)
    count(box.vcpu, 0, RETIRED)
    box.step(10)
    set_reg(box.vcpu, PMCR_EL0, 0)
    box.step(10)
    assert get_reg(box.vcpu, PMEVCNTR_EL0[0]) == 10
    set_reg(box.vcpu, PMCR_EL0, 1)
    set_reg(box.vcpu, PMCNTENCLR_EL0, 0)
    box.step(10)
    assert get_reg(box.vcpu, PMEVCNTR_EL0[0]) == 10


def test_reset_bits_clear_counters_and_are_not_kept() -> None:
    box = Box(a64.msr(PMCR_EL0, 2), a64.mrs(5, PMCR_EL0), *OFF)
    for register, value in ((PMEVCNTR_EL0[0], 5), (PMEVCNTR_EL0[5], 6), (PMCCNTR_EL0, 7)):
        set_reg(box.vcpu, register, value)
    set_reg(box.vcpu, PMOVSSET_EL0, 1)
    box.set_x(x2=int(PMCR_EL0.build(P=1, C=1, LC=1, LP=1, D=1)) | 0xFF00)
    box.run()
    values = [get_reg(box.vcpu, r) for r in (PMEVCNTR_EL0[0], PMEVCNTR_EL0[5], PMCCNTR_EL0)]
    assert values == [0, 0, 0]
    assert box.x(5) == PMCR_EL0.build(N=6, LC=1, D=1)
    assert get_reg(box.vcpu, PMOVSCLR_EL0) == 1


@pytest.mark.parametrize(("type_", "expected"), [("P", 0), ("U", 30)])
def test_filter_by_exception_level(type_: str, expected: int) -> None:
    box = Box(*[a64.NOP] * 100)
    count(box.vcpu, 1, RETIRED | EventType.build(**{type_: 1}))
    box.step(30)
    assert get_reg(box.vcpu, PMEVCNTR_EL0[1]) == expected


def test_type_keeps_its_event_and_the_two_levels_only() -> None:
    box = Box()
    for register in (PMEVTYPER_EL0[0], PMCCFILTR_EL0):
        set_reg(box.vcpu, register, 0xFFFF_FFFF)
        assert get_reg(box.vcpu, register) == 0xC000_03FF
    newer = Box(features=PMUV3P5)
    set_reg(newer.vcpu, PMEVTYPER_EL0[0], 0xFFFF_FFFF)
    assert get_reg(newer.vcpu, PMEVTYPER_EL0[0]) == 0xC000_FFFF


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("left", [1, 7, 40])
def test_overflow_raises_the_interrupt_at_the_exact_instruction(number: int, left: int) -> None:
    box = Box(*[a64.NOP] * 200)
    count(box.vcpu, number, RETIRED, FULL - left, interrupt=True)
    times: list[int] = []
    assert box.vcpu.pmu is not None
    box.vcpu.pmu.on_level = lambda level: times.append(box.vcpu.pe.retired if level else -1)
    box.step(100)
    assert times == [left]
    assert box.vcpu.pmu.level
    assert get_reg(box.vcpu, PMOVSSET_EL0) == 1 << number
    assert get_reg(box.vcpu, PMEVCNTR_EL0[number]) == 100 - left
    set_reg(box.vcpu, PMOVSCLR_EL0, 0)
    assert times == [left, -1]


def test_guest_clears_the_interrupt_by_its_status() -> None:
    box = Box(a64.NOP, a64.NOP, a64.NOP, a64.msr(PMOVSCLR_EL0, 2), a64.mrs(5, PMOVSSET_EL0), *OFF)
    count(box.vcpu, 0, RETIRED, FULL - 2, interrupt=True)
    box.set_x(x2=1)
    box.run()
    assert box.levels == [True, False]
    assert box.x(5) == 0


@pytest.mark.parametrize("register", [PMINTENCLR_EL1, PMCR_EL0])
def test_interrupt_goes_with_each_of_its_enables(register: type[SystemRegister]) -> None:
    box = Box(*[a64.NOP] * 50)
    count(box.vcpu, 0, RETIRED, FULL - 2, interrupt=True)
    box.step(10)
    set_reg(box.vcpu, register, 0)
    assert box.levels == [True, False]
    set_reg(box.vcpu, PMINTENSET_EL1, 1)
    set_reg(box.vcpu, PMCR_EL0, 1)
    assert box.levels == [True, False, True]


def test_overflow_comes_again_after_another_round() -> None:
    box = Box(a64.b(0))
    count(box.vcpu, 0, PmuEvent.CPU_CYCLES, FULL - 10, interrupt=True)
    box.step(50)
    set_reg(box.vcpu, PMOVSCLR_EL0, 0)
    set_reg(box.vcpu, PMEVCNTR_EL0[0], FULL - 20)
    box.step(50)
    assert box.levels == [True, False, True]


@pytest.mark.parametrize(("long", "overflows"), [(0, True), (1, False)])
def test_cycle_counter_overflows_at_the_width_that_lc_says(long: int, overflows: bool) -> None:
    box = Box(*[a64.NOP] * 100)
    vcpu = box.vcpu
    set_reg(vcpu, PMCCNTR_EL0, (5 << 32) + FULL - 20)
    set_reg(vcpu, PMCNTENSET_EL0, 1 << 31)
    set_reg(vcpu, PMINTENSET_EL1, 1 << 31)
    set_reg(vcpu, PMCR_EL0, int(PMCR_EL0.build(E=1, LC=long)))
    box.step(50)
    assert bool(box.levels) is overflows
    first_fetch = 1
    assert get_reg(vcpu, PMCCNTR_EL0) == (5 << 32) + FULL - 20 + 50 + first_fetch


def test_chain_counts_overflows_of_the_even_counter() -> None:
    box = Box(*[a64.NOP] * 100)
    count(box.vcpu, 0, RETIRED, FULL - 3)
    count(box.vcpu, 1, PmuEvent.CHAIN, FULL - 1, interrupt=True)
    box.step(50)
    assert get_reg(box.vcpu, PMOVSSET_EL0) == 0b11
    assert (get_reg(box.vcpu, PMEVCNTR_EL0[0]), get_reg(box.vcpu, PMEVCNTR_EL0[1])) == (47, 0)
    assert box.levels == [True]


def test_software_increment_counts_where_the_event_is_chosen_and_chains() -> None:
    box = Box(*[a64.msr(PMSWINC_EL0, 2)] * 3, a64.mrs(5, PMEVCNTR_EL0[0]), *OFF)
    count(box.vcpu, 0, PmuEvent.SW_INCR, FULL - 2)
    count(box.vcpu, 1, PmuEvent.CHAIN)
    count(box.vcpu, 2, RETIRED, 5)
    set_reg(box.vcpu, PMCNTENSET_EL0, 0b011)
    box.set_x(x2=0b111)
    box.run()
    assert box.x(5) == 1
    assert [get_reg(box.vcpu, PMEVCNTR_EL0[n]) for n in (1, 2)] == [1, 5]
    assert get_reg(box.vcpu, PMOVSSET_EL0) == 1


def test_software_increment_does_nothing_while_all_is_off() -> None:
    box = Box(a64.msr(PMSWINC_EL0, 2), *OFF)
    count(box.vcpu, 0, PmuEvent.SW_INCR, 9)
    set_reg(box.vcpu, PMCR_EL0, int(PMCR_EL0.build(N=6)))
    box.set_x(x2=1)
    box.run()
    assert get_reg(box.vcpu, PMEVCNTR_EL0[0]) == 9


def test_long_event_counters_of_pmuv3p5() -> None:
    box = Box(*[a64.NOP] * 100, features=PMUV3P5)
    count(box.vcpu, 0, RETIRED, (1 << 64) - 5, interrupt=True)
    set_reg(box.vcpu, PMCR_EL0, int(PMCR_EL0.build(N=6, E=1, LP=1)))
    count(box.vcpu, 2, RETIRED, FULL - 5)
    box.step(20)
    assert get_reg(box.vcpu, PMOVSSET_EL0) == 1
    assert get_reg(box.vcpu, PMEVCNTR_EL0[2]) == FULL + 15
    set_reg(box.vcpu, PMCR_EL0, 1)
    set_reg(box.vcpu, PMEVCNTR_EL0[2], FULL - 5)
    box.step(20)
    assert get_reg(box.vcpu, PMOVSSET_EL0) == 0b101
    assert get_reg(box.vcpu, PMEVCNTR_EL0[2]) == FULL + 15


def test_counters_move_with_the_vcpu_and_stand_still_meanwhile() -> None:
    box = Box(*[a64.NOP] * 200, vcpus=2)
    first, second = box.vm.vcpus.values()
    count(first, 0, RETIRED, FULL - 20, interrupt=True)
    for _ in range(3):
        first.run(6, cpu=0)
        second.run(50, cpu=0)
    assert get_reg(first, PMEVCNTR_EL0[0]) == FULL - 2
    assert get_reg(second, PMEVCNTR_EL0[0]) == 0
    assert box.levels == []
    first.run(6, cpu=0)
    assert box.levels == [True]
    assert get_reg(first, PMEVCNTR_EL0[0]) == 4
    second.run(1, cpu=0)
    assert get_reg(first, PMEVCNTR_EL0[0]) == 4


def test_reset_stops_and_clears_everything_but_the_number_of_counters() -> None:
    box = Box(*[a64.NOP] * 100)
    set_reg(box.vcpu, PMCR_EL0, int(PMCR_EL0.build(N=3)))
    count(box.vcpu, 0, RETIRED, FULL - 2, interrupt=True)
    box.step(10)
    box.vcpu.init(pmu=True)
    assert box.levels == [True, False]
    for register in (PMEVCNTR_EL0[0], PMEVTYPER_EL0[0], PMCNTENSET_EL0, PMOVSSET_EL0):
        assert get_reg(box.vcpu, register) == 0
    assert get_reg(box.vcpu, PMCR_EL0) == PMCR_EL0.build(N=3)


# --- registers -----------------------------------------------------------------------------


def test_selected_counter() -> None:
    program = (
        a64.msr(PMSELR_EL0, 2),
        a64.msr(PMXEVTYPER_EL0, 3),
        a64.msr(PMXEVCNTR_EL0, 4),
        a64.mrs(5, PMXEVCNTR_EL0),
        a64.mrs(6, PMXEVTYPER_EL0),
        a64.mrs(7, PMSELR_EL0),
        *OFF,
    )
    box = Box(*program)
    box.set_x(x2=0xE4, x3=0x11, x4=77)
    box.run()
    assert (box.x(5), box.x(6), box.x(7)) == (77, 0x11, 4)
    assert get_reg(box.vcpu, PMEVCNTR_EL0[4]) == 77


def test_selection_31_is_the_cycle_counter() -> None:
    box = Box(a64.msr(PMSELR_EL0, 2), a64.mrs(5, PMXEVCNTR_EL0), a64.mrs(6, PMXEVTYPER_EL0), *OFF)
    set_reg(box.vcpu, PMCCNTR_EL0, 1234)
    set_reg(box.vcpu, PMCCFILTR_EL0, 1 << 31)
    box.set_x(x2=31)
    box.run()
    assert (box.x(5), box.x(6)) == (1234, 1 << 31)


UNDEFINED: Final = {
    "counter 6": a64.mrs(1, PMEVCNTR_EL0[6]),
    "write of counter 30": a64.msr(PMEVCNTR_EL0[30], 1),
    "type 6": a64.mrs(1, PMEVTYPER_EL0[6]),
    "write of PMCEID": a64.msr(PMCEID1_EL0, 1),
    "read of PMSWINC": a64.mrs(1, PMSWINC_EL0),
}


@pytest.mark.parametrize("word", UNDEFINED.values(), ids=UNDEFINED)
def test_undefined_accesses(word: int) -> None:
    box = Box(word, a64.b(0))
    box.run()
    assert box.vcpu.read(ESR_EL1).EC == ExceptionClass.UNKNOWN


def test_number_of_counters_is_chosen_before_the_first_run() -> None:
    box = Box(a64.mrs(5, PMCR_EL0), a64.msr(PMCNTENSET_EL0, 2), a64.mrs(6, PMCNTENCLR_EL0),
              a64.mrs(7, PMEVCNTR_EL0[2]), vcpus=2)  # fmt: skip
    set_reg(box.vcpu, PMCR_EL0, int(PMCR_EL0.build(N=7)))
    assert PMCR_EL0(get_reg(box.vcpu, PMCR_EL0)).N == 6
    set_reg(box.vcpu, PMCR_EL0, int(PMCR_EL0.build(N=2)))
    assert PMCR_EL0(get_reg(box.vm.vcpus[1], PMCR_EL0)).N == 2
    box.set_x(x2=0xFFFF_FFFF)
    box.run()
    assert PMCR_EL0(box.x(5)).N == 2
    assert box.x(6) == 1 << 31 | 0b11
    assert int(box.vcpu.read(ELR_EL1)) == RAM + 12
    set_reg(box.vcpu, PMCR_EL0, int(PMCR_EL0.build(N=5)))
    assert PMCR_EL0(get_reg(box.vcpu, PMCR_EL0)).N == 2


EL0_WORDS: Final = {
    "PMCR": (a64.mrs(1, PMCR_EL0), {"EN"}),
    "PMCCNTR": (a64.mrs(1, PMCCNTR_EL0), {"EN", "CR"}),
    "PMEVCNTR0": (a64.mrs(1, PMEVCNTR_EL0[0]), {"EN", "ER"}),
    "write of PMEVCNTR0": (a64.msr(PMEVCNTR_EL0[0], 1), {"EN"}),
    "PMXEVCNTR": (a64.mrs(1, PMXEVCNTR_EL0), {"EN", "ER"}),
    "PMSELR": (a64.msr(PMSELR_EL0, 1), {"EN", "ER"}),
    "PMSWINC": (a64.msr(PMSWINC_EL0, 1), {"EN", "SW"}),
    "PMCEID0": (a64.mrs(1, PMCEID0_EL0), {"EN"}),
    "PMUSERENR": (a64.mrs(1, PMUSERENR_EL0), {"EN", "CR", "ER", "SW", "RES0"}),
    "write of PMUSERENR": (a64.msr(PMUSERENR_EL0, 1), set()),
}


@pytest.mark.parametrize("name", EL0_WORDS)
@pytest.mark.parametrize("bit", ["EN", "SW", "CR", "ER", "RES0"])
def test_what_the_guest_lets_its_el0_reach(name: str, bit: str) -> None:
    word, enables = EL0_WORDS[name]
    box = Box(word, a64.svc(1))
    bits = 0 if bit == "RES0" else int(PMUSERENR_EL0.build(**{bit: 1}))
    set_reg(box.vcpu, PMUSERENR_EL0, bits | 0xF0)
    assert get_reg(box.vcpu, PMUSERENR_EL0) == bits
    box.vcpu.set_one_reg(one_reg.PSTATE, int(PSTATE.build(D=1, A=1, I=1, F=1)))
    box.run()
    reached = box.vcpu.read(ESR_EL1).EC == ExceptionClass.SVC64
    assert reached is (bit in enables)
    if not reached:
        assert box.vcpu.read(ESR_EL1).EC == ExceptionClass.UNKNOWN


def test_machine_identification_reads_as_zero_where_there_is_one() -> None:
    newer = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64DFR0_EL1).replace(PMUVer=5))
    box = Box(a64.mrs(5, PMMIR_EL1), *OFF, features=newer)
    box.set_x(x5=1)
    box.run()
    assert box.x(5) == 0


def test_registers_by_id_are_those_of_vcpus_with_the_feature() -> None:
    with_pmu, without = Box().vcpu, Box(pmu=False).vcpu
    more = set(one_reg.register_list(with_pmu)) - set(one_reg.register_list(without))
    names = {name for name in BY_NAME if one_reg.system(BY_NAME[name].encoding) in more}
    assert len(more) == 12 + 2 * 31
    assert {"PMCR_EL0", "PMSWINC_EL0", "PMEVCNTR30_EL0", "PMCCFILTR_EL0"} <= names
    assert not {"PMCEID0_EL0", "PMXEVCNTR_EL0"} & names
    for reg_id in more:
        with_pmu.set_one_reg(reg_id, with_pmu.get_one_reg(reg_id))
        with pytest.raises(KvmError) as caught:
            without.get_one_reg(reg_id)
        assert refusal(caught) is Errno.ENOENT
        with pytest.raises(KvmError):
            without.set_one_reg(reg_id, 0)
    set_reg(with_pmu, PMSWINC_EL0, 1)
    assert get_reg(with_pmu, PMSWINC_EL0) == 0


def test_accesses_are_traced_by_name() -> None:
    box = Box(a64.mrs(5, PMEVCNTR_EL0[3]), *OFF)
    texts: list[str] = []
    box.vm.events.subscribe(lambda event: texts.append(str(event)))
    box.run()
    assert any("PMEVCNTR3_EL0 (3,3,14,8,3) read" in text for text in texts)
    assert Encoding(3, 3, 14, 8, 3) == PMEVCNTR_EL0[3].encoding


# --- attributes ----------------------------------------------------------------------------


def test_attributes_need_the_feature() -> None:
    vcpu = Box(pmu=False).vcpu
    for attr in PmuAttr:
        assert not vcpu.has_device_attr(PMU, attr)
        with pytest.raises(KvmError, match="init\\(pmu=True\\)") as caught:
            vcpu.set_device_attr(PMU, attr, 0)
        assert refusal(caught) is Errno.ENODEV


def test_unknown_attributes_and_groups() -> None:
    vcpu = Box(init=False).vcpu
    assert not vcpu.has_device_attr(PMU, 9)
    assert not vcpu.has_device_attr(7, 0)
    for group, attr in ((PMU, 9), (7, 0)):
        with pytest.raises(KvmError) as caught:
            vcpu.set_device_attr(group, attr, 0)
        assert refusal(caught) is Errno.ENXIO
        with pytest.raises(KvmError) as caught:
            vcpu.get_device_attr(group, attr)
        assert refusal(caught) is Errno.ENXIO


def test_nothing_can_be_set_once_initialised() -> None:
    vcpu = Box().vcpu
    for attr in PmuAttr:
        assert vcpu.has_device_attr(PMU, attr)
        with pytest.raises(KvmError) as caught:
            vcpu.set_device_attr(PMU, attr, 0)
        assert refusal(caught) is Errno.EBUSY


def test_interrupt_needs_a_gic() -> None:
    vcpu = Box(init=False).vcpu
    with pytest.raises(KvmError, match="needs a GIC") as caught:
        vcpu.set_device_attr(PMU, PmuAttr.IRQ, 23)
    assert refusal(caught) is Errno.EINVAL
    with pytest.raises(KvmError) as caught:
        vcpu.get_device_attr(PMU, PmuAttr.IRQ)
    assert refusal(caught) is Errno.EINVAL


def with_gic(box: Box) -> Vgic:
    """Give the VM a GICv2 that has been set up."""
    vgic = box.vm.vgic = Vgic(box.vm, 2, 96)
    vgic.addresses.set_dist(IPA(0x0800_0000))
    vgic.addresses.set_cpu(IPA(0x0801_0000))
    vgic.init()
    return vgic


def test_with_a_gic_the_interrupt_is_needed_and_the_gic_ready() -> None:
    box = Box(init=False)
    box.vm.vgic = Vgic(box.vm, 2, 96)
    with pytest.raises(KvmError, match="CTRL INIT") as caught:
        box.vcpu.set_device_attr(PMU, PmuAttr.INIT)
    assert refusal(caught) is Errno.ENODEV
    with_gic(box)
    with pytest.raises(KvmError, match="set IRQ first") as caught:
        box.vcpu.set_device_attr(PMU, PmuAttr.INIT)
    assert refusal(caught) is Errno.ENXIO
    with pytest.raises(KvmError, match="set IRQ first") as caught:
        box.vcpu.get_device_attr(PMU, PmuAttr.IRQ)
    assert refusal(caught) is Errno.ENXIO
    box.vcpu.set_device_attr(PMU, PmuAttr.IRQ, 23)
    assert box.vcpu.get_device_attr(PMU, PmuAttr.IRQ) == 23
    with pytest.raises(KvmError) as caught:
        box.vcpu.set_device_attr(PMU, PmuAttr.IRQ, 23)
    assert refusal(caught) is Errno.EBUSY
    box.vcpu.set_device_attr(PMU, PmuAttr.INIT)


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (23, 23, None),
        (40, 41, None),
        (23, 24, Errno.EINVAL),
        (40, 40, Errno.EINVAL),
        (23, 40, Errno.EINVAL),
        (40, 23, Errno.EINVAL),
        (23, 15, Errno.EINVAL),
        (23, 1020, Errno.EINVAL),
    ],
)
def test_one_ppi_for_all_or_one_spi_each(first: int, second: int, error: Errno | None) -> None:
    box = Box(init=False, vcpus=2)
    with_gic(box)
    box.vcpu.set_device_attr(PMU, PmuAttr.IRQ, first)
    if error is None:
        box.vm.vcpus[1].set_device_attr(PMU, PmuAttr.IRQ, second)
        return
    with pytest.raises(KvmError) as caught:
        box.vm.vcpus[1].set_device_attr(PMU, PmuAttr.IRQ, second)
    assert refusal(caught) is error


def test_overflow_is_pending_in_the_gic() -> None:
    box = Box(*[a64.NOP] * 100, init=False)
    with_gic(box)
    levels: list[str] = []
    box.vm.events.subscribe(
        lambda event: levels.append(event.text()) if event.name.startswith("vgic_") else None
    )
    box.vcpu.set_device_attr(PMU, PmuAttr.IRQ, 23)
    box.vcpu.set_device_attr(PMU, PmuAttr.INIT)
    count(box.vcpu, 0, RETIRED, FULL - 2, interrupt=True)
    box.step(10)
    set_reg(box.vcpu, PMOVSCLR_EL0, 0)
    assert levels == [f"VCPU: 0, IRQ 23, level: {level}" for level in (1, 0)]


def test_number_of_counters_by_attribute() -> None:
    box = Box(*OFF, init=False, vcpus=2)
    first, second = box.vm.vcpus.values()
    with pytest.raises(KvmError, match="6 event counters") as caught:
        first.set_device_attr(PMU, PmuAttr.SET_NR_COUNTERS, 7)
    assert refusal(caught) is Errno.EINVAL
    first.set_device_attr(PMU, PmuAttr.SET_NR_COUNTERS, 1)
    assert PMCR_EL0(get_reg(second, PMCR_EL0)).N == 1
    first.set_device_attr(PMU, PmuAttr.INIT)
    box.run()
    with pytest.raises(KvmError) as caught:
        second.set_device_attr(PMU, PmuAttr.SET_NR_COUNTERS, 1)
    assert refusal(caught) is Errno.EBUSY


def event_filter(base: int, count_: int, action: FilterAction) -> int:
    return int(PmuEventFilter.build(base_event=base, nevents=count_, action=action))


@pytest.mark.parametrize(
    ("ranges", "counted"),
    [
        ([(0x08, 1, FilterAction.DENY)], {PmuEvent.CPU_CYCLES}),
        ([(0x08, 1, FilterAction.ALLOW)], {PmuEvent.INST_RETIRED}),
        ([(0, 0x20, FilterAction.ALLOW), (0x11, 1, FilterAction.DENY)], {PmuEvent.INST_RETIRED}),
        ([(0, 0x20, FilterAction.DENY), (0x11, 1, FilterAction.ALLOW)], {PmuEvent.CPU_CYCLES}),
    ],
)
def test_event_filter(ranges: list[tuple[int, int, FilterAction]], counted: set[PmuEvent]) -> None:
    box = Box(*[a64.NOP] * 50, init=False)
    for entry in ranges:
        box.vcpu.set_device_attr(PMU, PmuAttr.FILTER, event_filter(*entry))
    box.vcpu.set_device_attr(PMU, PmuAttr.INIT)
    events = (PmuEvent.INST_RETIRED, PmuEvent.CPU_CYCLES)
    for number, event in enumerate(events):
        count(box.vcpu, number, event)
    box.step(20)
    found = {e for n, e in enumerate(events) if get_reg(box.vcpu, PMEVCNTR_EL0[n])}
    assert found == counted
    assert box.vcpu.pmu is not None
    shown = {event for event in events if box.vcpu.pmu.events(0) >> event & 1}
    assert shown == counted
    assert box.vcpu.pmu.events(0) & 1, "software increments are never hidden"


def test_impossible_filters_are_refused() -> None:
    box = Box(*OFF, init=False, vcpus=2)
    for value in (event_filter(0x3FF, 2, FilterAction.DENY), 2 << 32):
        with pytest.raises(KvmError, match="actions are") as caught:
            box.vcpu.set_device_attr(PMU, PmuAttr.FILTER, value)
        assert refusal(caught) is Errno.EINVAL
    box.vcpu.set_device_attr(PMU, PmuAttr.INIT)
    box.run()
    with pytest.raises(KvmError) as caught:
        box.vm.vcpus[1].set_device_attr(PMU, PmuAttr.FILTER, 0)
    assert refusal(caught) is Errno.EBUSY
