"""A small VM to inject faults into, all of whose state can be compared before and after."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from emu.arch.address import IPA, PA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import VBAR_EL1
from emu.arch.registers.translation import MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1
from emu.arch.registers.virtualization import SCTLR_EL2, VTCR_EL2, VTTBR_EL2
from emu.machine import Machine
from hyp import one_reg
from hyp.context import SYSTEM_REGISTERS
from hyp.host import HVA
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.vm import VM
from lab.faults.fault import Status
from lab.faults.target import Target
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA, RAM, SIZE, TABLES, VECTORS

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from hyp.events import Event
    from hyp.exits import Exit
    from lab.faults.fault import Fault, Injection

SYSTEM_OFF: Final = (a64.movz(0, 0x8400, 16), a64.movk(0, 8), a64.hvc(0))
NOP: Final = 0xD503_201F
_OF_THE_VM: Final = (VTTBR_EL2, VTCR_EL2, SCTLR_EL2)
_BLOCK, _TABLE, _PAGE = 0b01, 0b11, 0b11
_ATTRIBUTES: Final = 0x700
"""AF, inner shareable, read-write for EL1."""


class Box:
    """A VM that runs a few instructions; stage 1 maps addresses to themselves, if it is on."""

    def __init__(
        self,
        *program: int,
        stage1: bool = False,
        features: CpuFeatures = CORTEX_A72,
        pes: int = 1,
        flags: MemoryRegionFlags = MemoryRegionFlags(0),  # noqa: B008  # immutable
        **x: int,
    ) -> None:
        self.machine = Machine(16 << 20, pes, features)
        self.vm = VM(self.machine)
        self.hva = self.vm.host.mmap(SIZE)
        self.vm.set_user_memory_region(MemoryRegion(0, flags, RAM, SIZE, self.hva))
        self.vcpu = self.vm.create_vcpu(0)
        self.vcpu.init()
        self.pe = self.machine.pes[0]
        self.events: list[Event] = []
        self.vm.events.subscribe(self.events.append)
        self.put(CODE, *program)
        for vector in range(16):
            self.put(VECTORS + 0x80 * vector, *SYSTEM_OFF)
        self.vcpu.set_one_reg(one_reg.PC, CODE)
        self.vcpu.write(VBAR_EL1(VECTORS))
        for number in range(31):
            self.vcpu.write_x(number, 0x1000 * number)
        for name, value in {"x1": int(DATA), **x}.items():
            self.vcpu.write_x(int(name[1:]), value)
        if stage1:
            self._stage1_on()

    def _stage1_on(self) -> None:
        level1, level2, level3 = TABLES, TABLES + 0x1000, TABLES + 0x2000
        self.put64(level1 + 8, level2 | _TABLE)
        self.put64(level2, level3 | _TABLE)
        self.put64(level2 + 8, RAM + 0x20_0000 | _ATTRIBUTES | _BLOCK)
        for page in range(512):
            self.put64(level3 + 8 * page, RAM + (page << 12) | _ATTRIBUTES | _PAGE)
        write = self.vcpu.write
        write(MAIR_EL1.build(Attr0=0xFF))
        write(TCR_EL1.build(IPS=2, T0SZ=25, EPD1=1, SH0=3, ORGN0=1, IRGN0=1))
        write(TTBR0_EL1(level1))
        write(self.vcpu.read(SCTLR_EL1).replace(M=1, A=0))

    def put(self, ipa: int, *words: int) -> None:
        self.write(ipa, struct.pack(f"<{len(words)}I", *words))

    def put64(self, ipa: int, value: int) -> None:
        self.write(ipa, value.to_bytes(8, "little"))

    def write(self, ipa: int, data: bytes) -> None:
        self.vm.host.write(HVA(self.hva + ipa - RAM), data)

    def read64(self, ipa: int) -> int:
        return int.from_bytes(self.vm.host.read(HVA(self.hva + ipa - RAM), 8), "little")

    def pa(self, ipa: int) -> PA:
        """Return where the host has a page of the guest."""
        pte = self.vm.pgt.get_leaf(IPA(ipa)).pte
        assert pte & 1, f"IPA {ipa:#x} is not mapped"
        return PA(pte & 0xFFFF_FFFF_F000 | ipa & 0xFFF)

    def x(self, number: int) -> int:
        return self.vcpu.read_x(number)

    def run(self, budget: int = 10_000) -> Exit:
        return self.vcpu.run(budget)

    def stage1_leaf(self, va: int) -> PA:
        """Return where the stage-1 descriptor of a page of the first 2 MiB is."""
        return PA(self.pa(TABLES + 0x2000) + (va - RAM >> 12 << 3))

    # Faults

    def inject(self, fault: Fault) -> Injection:
        return fault.inject(Target(self.vm, self.vcpu))

    def changes(self, fault: Fault) -> dict[str, Any]:
        """Inject a fault; return everything that is not as before, by name: old and new."""
        before = self.state()
        injection = self.inject(fault)
        assert injection.status is Status.INJECTED, injection
        after = self.state()
        return {
            name: (before.get(name), after.get(name))
            for name in before | after
            if before.get(name) != after.get(name)
        }

    def refusal(self, fault: Fault) -> str:
        """Inject a fault that is invalid; nothing at all changes. Return the reason."""
        before = self.state()
        injection = self.inject(fault)
        assert injection.status is Status.INVALID, injection
        assert self.state() == before
        return injection.detail

    def state(self) -> dict[str, Any]:
        """Return all state that there is: memory by the doubleword, registers, TLBs, counts."""
        vcpu, memory = self.vcpu, self.machine.memory
        state: dict[str, Any] = {f"x{n}": vcpu.read_x(n) for n in range(31)}
        if vcpu.loaded_on is not None:
            state |= {f"q{n}": value for n, value in enumerate(self.pe.read_all_q())}
        state |= {r.__name__: int(vcpu.read(r)) for r in SYSTEM_REGISTERS}
        words = np.frombuffer(memory.view(memory.base, memory.size), "<u8")
        state |= {
            f"PA {memory.base + 8 * i:#x}": int(words[i]) for i in np.flatnonzero(words).tolist()
        }
        for pe in self.machine.pes:
            state |= {
                f"{pe.index} TLB {e.vmid} {e.asid} {e.va:#x}": e.entry
                for e in pe.mmu.tlb.combined_entries()
            }
            state |= {
                f"{pe.index} TLB {e.vmid} {e.ipa:#x}": e.mapping
                for e in pe.mmu.tlb.stage2_only_entries()
            }
            state |= {f"{pe.index} retired": pe.retired, f"{pe.index} done": dict(pe.maintenance)}
            state |= {f"{pe.index} TLBI": pe.tlbi_count, f"{pe.index} paused": pe.guest.is_paused}
            state |= {f"{pe.index} {r.__name__}": int(pe.read(r)) for r in _OF_THE_VM}
            state[f"{pe.index} exclusive"] = pe.engine.exclusive
        state |= {"time": self.machine.clock.now, "events": len(self.events)}
        state["exits"] = dict(self.vm.stats.exits)
        return state
