"""A guest of a few instructions for tests that follow the kernel's KVM selftests.

Stage 1 is on, with VA = IPA and 4 KiB pages. Slot 0 holds code, slot 1 the guest's tables,
slot 2 the data of the test. The guest calls the test by a store to an address that no slot
has (:data:`UCALL`).
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import tables
from emu.arch.address import IPA, VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ESR_EL1, ESR_EL2, VBAR_EL1
from emu.arch.registers.identification import ID_AA64ISAR0_EL1, ID_AA64MMFR1_EL1
from emu.arch.registers.translation import MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1
from emu.machine import Machine
from hyp import one_reg
from hyp.dirty import dirty_pages
from hyp.events import KvmGuestFault
from hyp.exits import Mmio
from hyp.fault_info import FaultInfo
from hyp.host import HVA, SIZE_1G, SIZE_2M, SIZE_4K
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.vm import VM
from tests.emu.cpu import a64

if TYPE_CHECKING:
    from collections.abc import Iterable

    from emu.arch.features import CpuFeatures
    from emu.arch.fields import SystemRegister
    from hyp.events import Event
    from hyp.exits import Exit
    from hyp.vcpu import VCPU

LOG, READONLY = MemoryRegionFlags.LOG_DIRTY_PAGES, MemoryRegionFlags.READONLY
NO_FLAGS: Final = MemoryRegionFlags(0)

CODE: Final = IPA(0x4000_0000)
CODE_SIZE: Final = 0x1_0000
VECTORS: Final = IPA(CODE + 0x8000)
TABLES: Final = IPA(0x6000_0000)
TABLES_SIZE: Final = 32 * SIZE_4K
DATA: Final = IPA(0xC000_0000)
UCALL: Final = IPA(0x0900_0000)
"""Where the guest calls the test: nothing is there."""
SYNC, EXCEPTION = UCALL, IPA(UCALL + 0x10)

CODE_SLOT, TABLES_SLOT, DATA_SLOT = 0, 1, 2

ATOMIC_CPU: Final = CORTEX_A72.replace(
    ID_AA64MMFR1_EL1.build(HAFDBS=1), ID_AA64ISAR0_EL1.build(Atomic=2)
)
"""With FEAT_LSE and access flags kept by hardware."""


class Backing(NamedTuple):
    """What is behind a slot (``enum vm_mem_backing_src_type``)."""

    page_size: int = SIZE_4K
    private: bool = True
    thp: bool = False

    @property
    def granule(self) -> int:
        """The largest page that it comes by."""
        return SIZE_2M if self.thp else self.page_size


BACKINGS: Final = {
    "anonymous": Backing(),
    "shmem": Backing(private=False),
    "anonymous_thp": Backing(thp=True),
    "anonymous_hugetlb_2mb": Backing(SIZE_2M),
    "shared_hugetlb_2mb": Backing(SIZE_2M, private=False),
    "anonymous_hugetlb_1gb": Backing(SIZE_1G),
}


class Fault(NamedTuple):
    """One ``kvm_guest_fault``."""

    kind: str
    """fetch, read or write; walk for the read or write of a stage-1 descriptor."""
    where: str
    """The slot, and the page in it."""
    fsc: int
    """The fault status code: type and level."""


class SelftestGuest:
    """A VM, its slots, and vCPUs that run the same code.

    Parameters
    ----------
    vm
        The VM, without slots; ``None`` for a usual one.
    features
        The CPU, if there is no ``vm``.
    memory
        The machine's memory in bytes, if there is no ``vm``.
    vcpus
        How many there are, if there is no ``vm``.
    """

    def __init__(
        self,
        vm: VM | None = None,
        *,
        features: CpuFeatures = CORTEX_A72,
        memory: int = 32 << 20,
        vcpus: int = 1,
    ) -> None:
        self.vm = VM(Machine(memory, vcpus, features)) if vm is None else vm
        self.regions: dict[int, MemoryRegion] = {}
        self.vcpus = [self.vm.create_vcpu(index) for index in range(len(self.vm.machine.pes))]
        self.image = b""
        self._faults: list[Fault] = []
        self.vm.events.subscribe(self._note)

    @property
    def vcpu(self) -> VCPU:
        """The first vCPU."""
        return self.vcpus[0]

    # --- memory --------------------------------------------------------------------------

    def add_slot(
        self,
        number: int,
        ipa: IPA,
        size: int,
        flags: MemoryRegionFlags = NO_FLAGS,
        backing: Backing = BACKINGS["anonymous"],
        hva: HVA | None = None,
    ) -> HVA:
        """Make a slot, with memory of its own unless ``hva`` says where it is."""
        if hva is None:
            hva = self.vm.host.mmap(
                size, backing.page_size, private=backing.private, thp=backing.thp
            )
        self.regions[number] = MemoryRegion(number, flags, ipa, size, hva)
        self.vm.set_user_memory_region(self.regions[number])
        return hva

    def set_flags(self, number: int, flags: MemoryRegionFlags) -> None:
        """Turn logging of a slot on or off."""
        self.regions[number] = replace(self.regions[number], flags=flags)
        self.vm.set_user_memory_region(self.regions[number])

    def hva(self, ipa: int) -> HVA:
        """Return where the VMM process has an address of the guest."""
        for region in self.regions.values():
            if 0 <= ipa - region.guest_phys_addr < region.memory_size:
                return HVA(region.userspace_addr + ipa - region.guest_phys_addr)
        raise AssertionError(f"no slot has {ipa:#x}")

    def write(self, ipa: int, *words: int) -> None:
        """Write 32-bit words as user space would."""
        self.vm.host.write(self.hva(ipa), struct.pack(f"<{len(words)}I", *words))

    def write_u64(self, ipa: int, value: int) -> None:
        """Write eight bytes as user space would."""
        self.vm.host.write(self.hva(ipa), value.to_bytes(8, "little"))

    def read_u64(self, ipa: int) -> int:
        """Read eight bytes as user space would."""
        return int.from_bytes(self.vm.host.read(self.hva(ipa), 8), "little")

    def dirty(self, number: int) -> set[int]:
        """Return the dirty pages of a slot (KVM_GET_DIRTY_LOG)."""
        return set(dirty_pages(self.vm.get_dirty_log(number)))

    # --- setting up ----------------------------------------------------------------------

    def load(
        self,
        *program: int,
        pages: Iterable[int] = (),
        blocks: Iterable[int] = (),
        devices: Iterable[int] = (),
        tables_flags: MemoryRegionFlags = NO_FLAGS,
        tables_backing: Backing = BACKINGS["anonymous"],
    ) -> None:
        """Make slots 0 and 1, and have every vCPU start at the program.

        Parameters
        ----------
        program
            The code, at :data:`CODE`.
        pages, blocks, devices
            What stage 1 maps beside code, tables and :data:`UCALL`.
        tables_flags, tables_backing
            Of slot 1.
        """
        self.add_slot(CODE_SLOT, CODE, CODE_SIZE)
        self.write(CODE, *program)
        for vector in range(16):
            report = (a64.mrs(20, ESR_EL1), a64.str_(20, 19, EXCEPTION - UCALL), a64.b(0))
            self.write(VECTORS + 0x80 * vector, *report)
        size = max(TABLES_SIZE, tables_backing.granule)
        self.add_slot(TABLES_SLOT, TABLES, size, tables_flags, tables_backing)
        memory = [
            *range(CODE, CODE + CODE_SIZE, SIZE_4K),
            *range(TABLES, TABLES + TABLES_SIZE, SIZE_4K),
            *pages,
        ]
        self.image = tables.identity_map(TABLES, memory, [UCALL, *devices], blocks)
        assert len(self.image) <= TABLES_SIZE
        self.vm.host.write(self.hva(TABLES), self.image)
        registers: tuple[SystemRegister, ...] = (
            MAIR_EL1(tables.MAIR),
            TCR_EL1(tables.TCR),
            TTBR0_EL1(tables.ttbr(TABLES)),
            SCTLR_EL1(tables.SCTLR),
            VBAR_EL1(VECTORS),
        )
        for vcpu in self.vcpus:
            vcpu.init()
            for register in registers:
                vcpu.set_one_reg(one_reg.system(type(register).encoding), int(register))
            vcpu.set_one_reg(one_reg.PC, CODE)
            self.set_x(vcpu, x19=UCALL)

    def pte(self, va: int) -> IPA:
        """Return where the last stage-1 descriptor of an address lies."""
        table = int(TABLES)
        for shift in (39, 30, 21, 12):
            entry = table + (va >> shift & 511) * 8
            (word,) = struct.unpack_from("<Q", self.image, entry - TABLES)
            if word & 3 != tables.TABLE or shift == 12:
                break
            table = word & 0xFFFF_FFFF_F000
        return IPA(entry)

    @staticmethod
    def set_x(vcpu: VCPU, **values: int) -> None:
        """Set general registers: ``set_x(vcpu, x1=DATA)``."""
        for name, value in values.items():
            vcpu.set_one_reg(one_reg.core_x(int(name.removeprefix("x"))), value)

    @staticmethod
    def x(vcpu: VCPU, number: int) -> int:
        """Return a general register."""
        return vcpu.get_one_reg(one_reg.core_x(number))

    # --- running -------------------------------------------------------------------------

    def sync(self, vcpu: VCPU | None = None) -> int:
        """Run until the guest calls, and return what it says."""
        exit_ = (self.vcpu if vcpu is None else vcpu).run(50_000_000)
        return synced(exit_)

    def faults(self) -> list[Fault]:
        """Return the stage-2 faults since the last time, without those of the calls."""
        found, self._faults = self._faults, []
        return found

    def _note(self, event: Event) -> None:
        if isinstance(event, KvmGuestFault) and event.ipa != UCALL:
            self._faults.append(Fault(_kind(event), self._where(event.ipa), event.hsr & 0x3F))

    def _where(self, ipa: IPA) -> str:
        for number, name in enumerate(("code", "table", "data")):
            region = self.regions.get(number)
            if region is not None and 0 <= ipa - region.guest_phys_addr < region.memory_size:
                return f"{name} {(ipa - region.guest_phys_addr) // SIZE_4K}"
        return f"{ipa:#x}"


def synced(exit_: Exit) -> int:
    """Return what a guest says by a call; any other exit fails the test."""
    assert isinstance(exit_, Mmio), exit_
    assert exit_.phys_addr != EXCEPTION, f"the guest took {ESR_EL1(exit_.value)}"
    assert (exit_.phys_addr, exit_.is_write) == (SYNC, True), exit_
    return exit_.value


def _kind(event: KvmGuestFault) -> str:
    fault = FaultInfo(event.hsr, VA(event.hxfar), event.ipa)
    if fault.is_s1ptw:
        return "walk"
    if ESR_EL2(event.hsr).EC is ExceptionClass.IABT_LOW:
        return "fetch"
    return "write" if fault.is_write else "read"


# --- code ------------------------------------------------------------------------------------

TOUCH_READ: Final = 0
TOUCH_WRITE: Final = 5 * 4

TOUCH: Final = (
    # 0: read x3 words from x1 on, x2 bytes apart
    a64.ldr(4, 1),
    0x8B02_0021,  # ADD X1, X1, X2
    a64.subs(3, 3, 1),
    a64.cbnz(3, -12),
    a64.b(4 * 5),
    # 5: write x5 to them
    a64.str_(5, 1),
    0x8B02_0021,  # ADD X1, X1, X2
    a64.subs(3, 3, 1),
    a64.cbnz(3, -12),
    # 9: tell the test, and go where it says
    a64.str_(4, 19),
    a64.br(21),
)
"""A program that touches pages as the test says, and comes back after each round."""


def start_touch(
    guest: SelftestGuest,
    vcpu: VCPU,
    first: int,
    count: int,
    step: int = SIZE_4K,
    *,
    write: int | None = None,
) -> None:
    """Have a vCPU that runs :data:`TOUCH` read words, or write one to each place, when it runs."""
    entry = CODE + (TOUCH_READ if write is None else TOUCH_WRITE)
    if vcpu.mmio is None:
        vcpu.set_one_reg(one_reg.PC, entry)
    guest.set_x(vcpu, x1=first, x2=step, x3=count, x5=write or 0, x21=entry)


def touch(
    guest: SelftestGuest,
    vcpu: VCPU,
    first: int,
    count: int,
    step: int = SIZE_4K,
    *,
    write: int | None = None,
) -> None:
    """Have it do so now."""
    start_touch(guest, vcpu, first, count, step, write=write)
    guest.sync(vcpu)
