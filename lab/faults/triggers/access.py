"""Before memory is accessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from emu.arch.address import IPA, PA, PAGE_MASK, PAGE_SIZE, VA
from emu.mmu import stage2
from emu.mmu.fault import Fault
from lab.errors import UserError
from lab.faults.parameter import parameter
from lab.faults.triggers.nth import NthInContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emu.cpu.pe import ProcessingElement
    from emu.cpu.probe import DataAccess
    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments

SPACES: Final = ("va", "ipa", "pa")
KINDS: Final = ("read", "write", "any", "fetch")
_ADDRESSES: Final = 1 << 64
_INSTRUCTION: Final = 4


@dataclass(frozen=True, slots=True)
class Access(NthInContext):
    """Before the Nth instruction that accesses a range of addresses.

    Loads, stores and DC ZVA count, also those that the hypervisor emulates as MMIO; table walks,
    devices and what the hypervisor does itself do not. The access is allowed and about to be
    made. IPAs are those that the stage-2 tables give the memory now. Each access to a page of the
    range costs about 100 microseconds until then; for fetches, each instruction does.
    """

    name: ClassVar[str] = "access"

    address: int = parameter("the first address", minimum=0)
    size: int = parameter("bytes of the range", default=1, minimum=1)
    space: str = parameter("what the address is", default="va", choices=SPACES)
    kind: str = parameter("which accesses; any: reads and writes", default="any", choices=KINDS)

    def __post_init__(self) -> None:
        """Check the parameters."""
        super(Access, self).__post_init__()
        if self.address + self.size > _ADDRESSES:
            raise UserError(
                f"Access: the range of {self.size:#x} bytes at {self.address:#x} goes beyond 64 "
                "bits; choose less"
            )

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        count = self.counting(moments)
        if self.kind == "fetch":
            return self._fetching(moments, count, fire)

        def asked(vcpu: VCPU, access: DataAccess) -> bool:
            if not (access.reads if self.kind == "read" else access.writes or self.kind == "any"):
                return False
            return self._touches(vcpu.pe, access.va, access.size) and count(vcpu)

        return moments.accessing(self._watches, asked, fire)

    def _fetching(
        self, moments: Moments, count: Callable[[VCPU], bool], fire: Callable[[VCPU], None]
    ) -> Callable[[], None]:
        def look(vcpu: VCPU) -> None:
            if self._touches(vcpu.pe, vcpu.pc, _INSTRUCTION) and count(vcpu):
                cancel()
                fire(vcpu)

        cancel = moments.each_instruction(look)
        return cancel

    def _watches(self, pe: ProcessingElement, page: VA, pa: PA | None, ipa: IPA | None) -> bool:
        """Whether an access to a page may be to the range."""
        if self.space == "va":
            return self._overlaps(page & ~PAGE_MASK, PAGE_SIZE)
        if ipa is not None:
            return self.space == "ipa" and self._overlaps(ipa & ~PAGE_MASK, PAGE_SIZE)
        assert pa is not None, "stage 2 allows the access"
        return any(self._overlaps(at, PAGE_SIZE) for at in self._places(pe, pa))

    def _touches(self, pe: ProcessingElement, va: VA, size: int) -> bool:
        """Whether an access touches the range."""
        if self.space == "va":
            return self._overlaps(va, size)
        while size > 0:
            part = min(size, PAGE_SIZE - (va & PAGE_MASK))
            for page in self._pages_of(pe, va):
                if self._overlaps(page | va & PAGE_MASK, part):
                    return True
            va, size = VA(va + part), size - part
        return False

    def _pages_of(self, pe: ProcessingElement, va: VA) -> Iterator[int]:
        """Yield the pages, in the range's address space, that a VA is on."""
        found = pe.probe.translation(va)
        if isinstance(found, Fault):
            if self.space == "ipa" and found.stage == stage2.STAGE and not found.s1ptw:
                yield found.ipa & ~PAGE_MASK
            return
        yield from self._places(pe, PA(found & ~PAGE_MASK))

    def _places(self, pe: ProcessingElement, pa: PA) -> Iterator[int]:
        """Yield the pages of the range's address space that have a page of memory behind them."""
        if self.space == "pa":
            yield pa
            return
        controls = pe.mmu.regime.stage2
        for page in range(self.address & ~PAGE_MASK, self.address + self.size, PAGE_SIZE):
            found = stage2.walk(pe.memory, controls, IPA(page))
            if not isinstance(found, Fault) and PA(page + found.offset) == pa:
                yield page

    def _overlaps(self, first: int, size: int) -> bool:
        return first < self.address + self.size and self.address < first + size
