"""The guest of test_page_fault.py: one access, and all that it leads to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.registers.exceptions import PAR_EL1
from emu.arch.registers.translation import TCR_EL1
from hyp.exits import Error, Mmio
from hyp.host import HVA
from hyp.pte import Prot, pte_prot, pte_valid
from tests.emu.cpu import a64
from tests.hyp.selftests.guest import (
    ATOMIC_CPU,
    DATA,
    DATA_SLOT,
    LOG,
    NO_FLAGS,
    TABLES_SLOT,
    Backing,
    Fault,
    SelftestGuest,
    synced,
)

if TYPE_CHECKING:
    from hyp.host.userfault import UserfaultMessage
    from hyp.memslots import MemoryRegionFlags

TEST_DATA: Final = 0x0123_4567_89AB_CDEF
AF: Final = 1 << 10

_DSB_ISHST: Final = 0xD503_3ABF
_DSB_ISH: Final = 0xD503_3BBF
_PREPARE_AF: Final = (
    a64.mrs(9, TCR_EL1),
    0xAA0A_0129,  # ORR X9, X9, X10
    a64.msr(TCR_EL1, 9),
    a64.ISB,
    a64.ldr(9, 2),
    0x8A2B_0129,  # BIC X9, X9, X11
    a64.str_(9, 2),
    _DSB_ISHST,
    0xD508_836C,  # TLBI VAAE1IS, X12
    _DSB_ISH,
    a64.ISB,
)
"""Turn access flags by hardware on, and clear that of the data page."""

_READ_BACK: Final = a64.ldr(5, 1)
ACCESSES: Final[dict[str, tuple[int, ...]]] = {
    "read64": (a64.ldr(5, 1),),
    "ld_preidx": (a64.ldr_pre(5, 6, 8),),
    "at": (0xD508_7801, a64.ISB, a64.mrs(5, PAR_EL1)),  # AT S1E1R, X1
    "exec": (0xD63F_00E0, 0xAA00_03E5),  # BLR X7; MOV X5, X0
    "write64": (a64.str_(3, 1), _READ_BACK),
    "st_preidx": (a64.str_pre(3, 6, 8), _READ_BACK),
    "cas": (0xC8E4_FC23, _READ_BACK),  # CASAL X4, X3, [X1]
    "dc_zva": (0xD50B_7421, _DSB_ISH, _READ_BACK),  # DC ZVA, X1
}
_RETURN_77: Final = (a64.movz(0, 0x77), 0xD65F_03C0)  # RET

RESULTS: Final = {
    "read64": 0,
    "ld_preidx": 0,
    "exec": 0x77,
    "write64": TEST_DATA,
    "st_preidx": TEST_DATA,
    "cas": TEST_DATA,
    "dc_zva": 0,
}
"""What X5 holds in the end; of AT, PAR_EL1."""


class Setup(NamedTuple):
    """One combination."""

    access: str
    with_af: bool = False
    flags: MemoryRegionFlags = NO_FLAGS
    """Of the slots of tables and data."""
    hole_data: bool = False
    hole_tables: bool = False
    userfault: bool = False
    """Whether the holes are for user space to fill."""


class Outcome(NamedTuple):
    """What came of the access. What the guest did before it, or does after it, is left out."""

    faults: str
    """``w6.f``: a walk's access to page 6 of the tables, status code 0x0f; ``write.5``: one to the
    data."""
    userfaults: str
    """``d`` or ``t``, the slot; the page in it; ``w`` for UFFD_PAGEFAULT_FLAG_WRITE."""
    exits: str
    mapped: str
    """Level and permissions of the data page in the end."""
    flushes: str
    """TLB invalidations by kind."""
    dirty: str
    """The dirty pages of data and tables, if the slots are logged."""


class Ran(NamedTuple):
    """A run, seen from outside and from the guest."""

    outcome: Outcome
    result: int | None
    """X5, if the guest came to its end."""
    af: bool
    """The access flag of the data page."""


def run(setup: Setup, backing: Backing) -> Ran:
    """Have the guest make one access."""
    guest = SelftestGuest(features=ATOMIC_CPU)
    size = backing.granule
    hva = guest.add_slot(DATA_SLOT, DATA, size, setup.flags, backing)
    guest.write(DATA + 8, *_RETURN_77)
    prepare = _PREPARE_AF if setup.with_af else ()
    access = (*ACCESSES[setup.access], a64.str_(5, 19))
    guest.load(
        *prepare,
        a64.str_(31, 19),
        *access,
        pages=range(DATA, DATA + 0x1000, 0x1000),
        tables_flags=setup.flags,
        tables_backing=backing,
    )
    vcpu, pte = guest.vcpu, guest.pte(DATA)
    guest.set_x(vcpu, x1=DATA, x2=pte, x3=TEST_DATA, x4=0, x6=DATA - 8, x7=DATA + 8)
    guest.set_x(vcpu, x10=1 << 39, x11=AF, x12=DATA >> 12)
    guest.sync()
    if setup.flags & LOG:
        # What was written up to now is not of interest.
        guest.dirty(DATA_SLOT)
        guest.dirty(TABLES_SLOT)
    userfaults: list[str] = []
    holes = {"d": (DATA_SLOT, setup.hole_data), "t": (TABLES_SLOT, setup.hole_tables)}
    for name, (number, punched) in holes.items():
        region = guest.regions[number]
        if punched:
            _punch(
                guest, name, region.userspace_addr, region.memory_size, backing, userfaults, setup
            )
    guest.faults()
    before = Counter(guest.vm.stats.tlb_flushes)
    exits: list[str] = []
    result = None
    while result is None and not (exits and exits[-1].startswith("E")):
        exit_ = vcpu.run(1000)
        if isinstance(exit_, Error):
            exits.append(exit_.errno.name)
        elif isinstance(exit_, Mmio) and exit_.phys_addr == DATA:
            assert (exit_.is_write, exit_.value) == (True, TEST_DATA)
            exits.append("MMIO")
            guest.vm.host.write(hva, exit_.data)
        else:
            result = synced(exit_)
    flushed = Counter(guest.vm.stats.tlb_flushes) - before
    outcome = Outcome(
        " ".join(_short(fault) for fault in guest.faults() if fault.where not in _CALLING),
        " ".join(userfaults),
        " ".join(exits),
        _mapped(guest),
        " ".join(f"{kind}:{count}" for kind, count in flushed.items()),
        _dirty(guest) if setup.flags & LOG else "",
    )
    return Ran(outcome, result, bool(guest.read_u64(pte) & AF))


_CALLING: Final = ("table 7", "table 8")
"""The tables that translate the address of the guest's call."""


def _short(fault: Fault) -> str:
    slot, page = fault.where.split()
    walks = fault.kind == "walk"
    assert slot == ("table" if walks else "data")
    return f"{'w' + page if walks else fault.kind}.{fault.fsc:x}"


def _mapped(guest: SelftestGuest) -> str:
    leaf = guest.vm.pgt.get_leaf(DATA)
    if not pte_valid(leaf.pte):
        return "-"
    prot = pte_prot(leaf.pte)
    return f"{leaf.level}" + "".join(name for name in "RWX" if Prot[name] in prot)


def _dirty(guest: SelftestGuest) -> str:
    slots = {"d": DATA_SLOT, "t": TABLES_SLOT}
    pages = [f"{name}{page}" for name, at in slots.items() for page in sorted(guest.dirty(at))]
    return " ".join(pages)


def _punch(
    guest: SelftestGuest,
    name: str,
    start: HVA,
    size: int,
    backing: Backing,
    userfaults: list[str],
    setup: Setup,
) -> None:
    """Give up what is behind a slot; with userfault, all of it is supplied when it is missed."""
    host = guest.vm.host
    contents = host.read(start, size)
    host.discard(start, size)
    if not setup.userfault:
        return

    def handler(message: UserfaultMessage) -> None:
        assert not message.minor
        page = (message.address - start) // backing.page_size
        userfaults.append(f"{name}{page}{'w' * message.write}")
        for at in range(0, size, backing.page_size):
            host.userfault_copy(HVA(start + at), contents[at : at + backing.page_size])

    host.userfault_register(start, size, handler)
