"""One Unicorn instance through its own binding, set up as the engine sets up its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from unicorn import arm64_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn_py3.arch.arm64 import UcAArch64
from unicorn.unicorn_py3.unicorn import UcError

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import SystemRegister

CODE: Final = 0x10_0000
DATA: Final = 0x11_0000
SIZE: Final = 0x10_0000
X1, X2, X3 = reg.UC_ARM64_REG_X1, reg.UC_ARM64_REG_X2, reg.UC_ARM64_REG_X3
PC, PSTATE = reg.UC_ARM64_REG_PC, reg.UC_ARM64_REG_PSTATE


class Fill(NamedTuple):
    """One call of the fill hook."""

    page: int
    access: int
    pc: int


class Probe:
    """One instance set up as the engine does it, with a fill hook that can refuse pages."""

    def __init__(self, *, page_size: int | None = 4096, exits: bool = True) -> None:
        self.uc = UcAArch64(const.UC_ARCH_ARM64, const.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(reg.UC_CPU_ARM64_A72)
        if page_size:
            self.uc.ctl_set_page_size(page_size)
        self.uc.ctl_set_tlb_mode(const.UC_TLB_VIRTUAL)
        if exits:
            self.uc.ctl_exits_enabled(True)
            self.uc.ctl_set_exits([])
        self.uc.mem_map(CODE, SIZE)
        self.fills: list[Fill] = []
        self.refused: set[int] = set()
        self.perms = const.UC_PROT_ALL
        self.on_fill: Callable[[int], None] = lambda _page: None
        self.on_interrupt: Callable[[], None] = self.uc.emu_stop
        self.interrupts: list[tuple[int, int]] = []
        self.uc.hook_add(const.UC_HOOK_TLB_FILL, self._fill)
        self.uc.hook_add(const.UC_HOOK_INTR, self._interrupt)

    def _fill(self, uc: UcAArch64, page: int, access: int, result: Any, _data: object) -> bool:  # noqa: ANN401
        self.fills.append(Fill(page, access, uc.reg_read(PC)))
        self.on_fill(page)
        result.paddr = page
        result.perms = self.perms
        return page not in self.refused

    def _interrupt(self, uc: UcAArch64, number: int, _data: object) -> None:
        self.interrupts.append((number, uc.reg_read(PC)))
        self.on_interrupt()

    @property
    def pc(self) -> int:
        """The program counter."""
        return int(self.uc.reg_read(PC))

    def x(self, register: int) -> int:
        """Return a general register."""
        return int(self.uc.reg_read(register))

    def write(self, *words: int, at: int = CODE) -> None:
        """Write code through Unicorn's interface."""
        self.uc.mem_write(at, b"".join(word.to_bytes(4, "little") for word in words))

    def write_system(self, value: SystemRegister) -> None:
        """Write a system register."""
        op0, op1, crn, crm, op2 = value.encoding
        self.uc.cpr_write(op0, op1, crn, crm, op2, int(value))

    def run(self, count: int, pc: int = CODE, until: int = 0) -> int:
        """Run; return the error code."""
        try:
            self.uc.emu_start(pc, until, count=count)
        except UcError as error:
            return int(error.errno)
        return const.UC_ERR_OK
