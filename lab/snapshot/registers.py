"""Which register of a processing element differs from what it was, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.exceptions import SP_EL0, SP_EL1
from hyp.context import GUEST_REGISTERS

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement

_SYSTEM: Final = 3
"""op0 of the system registers that the engine has."""


def different_register(pe: ProcessingElement, saved: bytes) -> str:
    """Return in words how the engine's registers differ from those that were saved."""
    now, named = pe.engine.save_state(), _named(pe)
    pe.engine.load_state(saved)
    before = _named(pe)
    pe.engine.load_state(now)
    for name, value in before.items():
        if named[name] != value:
            return f"{name} was {value:#x}, is {named[name]:#x}"
    at = next(at for at, (old, new) in enumerate(zip(saved, now, strict=True)) if old != new)
    return f"byte {at:#x} of the engine's registers was {saved[at]:#x}, is {now[at]:#x}"


def _named(pe: ProcessingElement) -> dict[str, int]:
    engine = pe.engine
    pc, pstate = engine.state()
    values = {"PC": int(pc), "PSTATE": pstate}
    values.update((f"X{number}", value) for number, value in enumerate(pe.read_all_x()))
    registers: tuple[type[SystemRegister], ...] = (SP_EL0, SP_EL1, *GUEST_REGISTERS)
    for register in registers:
        if register.encoding.op0 == _SYSTEM:
            values[register.__name__] = int(pe.read(register))
    values.update((f"Q{number}", value) for number, value in enumerate(pe.read_all_q()))
    return values
