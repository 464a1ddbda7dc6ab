"""A guest under full two-stage translation: a VM, stage-1 tables and one program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench import tables
from bench.programs import DEVICE, vectors
from bench.timing import clock
from emu.arch.address import IPA, PAGE_SIZE, VA
from emu.arch.registers.exceptions import ELR_EL2, VBAR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.machine import Machine
from hyp.exits import Mmio
from hyp.host import HVA
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.vm import VM
from lab import virtmap
from lab.gic import create_gic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.programs import Program
    from hyp.exits import Exit
    from hyp.vcpu import VCPU

RAM: Final = IPA(0x4000_0000)
"""VA and IPA of the program."""
VECTORS: Final = IPA(RAM + 0x800)
DATA: Final = IPA(RAM + 0x1000)
"""A page of data."""
_TABLES: Final = IPA(RAM + 0x2000)
PAGES: Final = IPA(RAM + 0x20_0000)
"""Pages that nobody has touched."""
DEVICE_IN_PROCESS: Final = IPA(0x0900_0000)
DEVICE_IN_USER_SPACE: Final = IPA(0x0B00_0000)
GICD_CTLR: Final = virtmap.GICD.base
GICD_TYPER: Final = IPA(virtmap.GICD.base + 4)

_TABLE_MEMORY: Final = 8 << 20


class Register:
    """A device in process, as simple as one can be: a register."""

    def __init__(self) -> None:
        self.value = 0

    def read(self, _offset: int, _length: int) -> int:
        """Return the register."""
        return self.value

    def write(self, _offset: int, _length: int, value: int) -> None:
        """Set the register."""
        self.value = value


class Guest:
    """A program that has run up to its parking store.

    Parameters
    ----------
    program
        The guest.
    pages
        How many pages there are at :data:`PAGES`.
    ipa_bits
        The size of the IPA space: 40 bits need three levels of stage 2, 44 four.
    log_dirty
        Whether written pages are recorded.
    backing
        The size of the host's pages: the guest's pages at :data:`PAGES` are so far apart.
    cpus
        How many vCPUs it has. The first runs the program; the others are left to the caller.
    gic
        The version of its GIC; 0 for none.
    """

    def __init__(
        self,
        program: Program,
        pages: int = 0,
        *,
        ipa_bits: int = 40,
        log_dirty: bool = False,
        backing: int = PAGE_SIZE,
        cpus: int = 1,
        gic: int = 0,
    ) -> None:
        size = PAGES - RAM + pages * backing
        self.machine = Machine(size + _TABLE_MEMORY, cpus)
        self.vm = VM(self.machine, ipa_bits)
        flags = MemoryRegionFlags.LOG_DIRTY_PAGES if log_dirty else MemoryRegionFlags(0)
        self._hva = self.vm.host.mmap(size, backing)
        self.vm.set_user_memory_region(MemoryRegion(0, flags, RAM, size, self._hva))
        self.vm.register_device(DEVICE_IN_PROCESS, PAGE_SIZE, Register())
        self.vcpus = [self.vm.create_vcpu(index) for index in range(cpus)]
        self.vcpu = self.vcpus[0]
        self.pe = self.vcpu.pe
        create_gic(self.vm, gic)
        self._load(program, [*range(RAM, PAGES, PAGE_SIZE), *range(PAGES, RAM + size, backing)])
        for vcpu in self.vcpus:
            vcpu.init()
            _set_up(vcpu)
        self.exit = self.vcpu.run()
        self._check()

    def _load(self, program: Program, mapped: list[int]) -> None:
        self._write(RAM, program.words)
        self._write(VECTORS, vectors())
        devices = (DEVICE_IN_PROCESS, DEVICE_IN_USER_SPACE, virtmap.GICD.base)
        self._write(_TABLES, tables.identity_map(_TABLES, mapped, devices))

    def _write(self, ipa: IPA, data: bytes) -> None:
        self.vm.host.write(HVA(self._hva + ipa - RAM), data)

    @property
    def table_base(self) -> IPA:
        """Where the stage-1 tables are."""
        return _TABLES

    def run(self, registers: Mapping[int, int]) -> float:
        """Set registers, let the program run until it parks again; return the seconds it took."""
        for number, value in registers.items():
            self.pe.write_x(number, value)
        started = clock()
        self.exit = self._enter()
        seconds = clock() - started
        self._check()
        return seconds

    def _enter(self) -> Exit:
        """Run until user space is needed."""
        return self.vcpu.run()

    def _check(self) -> None:
        if not is_parked(self.exit):
            raise RuntimeError(
                f"the guest should have parked at {DEVICE_IN_USER_SPACE:#x}, and did: {self.exit}"
            )

    @property
    def retired(self) -> int:
        """Instructions retired so far."""
        return self.pe.retired


def _set_up(vcpu: VCPU) -> None:
    """Turn stage 1 on, and start at the program's first word."""
    # KVM no longer traps these registers once the guest has turned its caches on.
    vcpu.write(vcpu.read(HCR_EL2).replace(TVM=0))
    vcpu.write(tables.MAIR)
    vcpu.write(tables.TCR)
    vcpu.write(tables.ttbr(_TABLES))
    vcpu.write(tables.SCTLR)
    vcpu.write(VBAR_EL1(VECTORS))
    vcpu.write(ELR_EL2(RAM))
    vcpu.write_x(DEVICE, DEVICE_IN_USER_SPACE)


def is_parked(exit_: Exit) -> bool:
    """Whether an exit is the access with which programs park."""
    return isinstance(exit_, Mmio) and exit_.phys_addr == DEVICE_IN_USER_SPACE


def code(offset: VA) -> VA:
    """Return the address of an instruction by its offset in the program."""
    return VA(RAM + offset)
