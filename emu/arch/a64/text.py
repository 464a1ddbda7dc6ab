"""Instructions as text, for reports and traces."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emu.arch.address import VA

Disassembler = Any
"""``capstone.Cs``; the package is optional."""


@cache
def _disassembler() -> Disassembler | None:
    try:
        import capstone  # type: ignore[import-untyped]  # noqa: PLC0415  # optional, ships no types
    except ImportError:
        return None
    return capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)


def disassemble(word: int, pc: VA) -> str:
    """Return the instruction ``word`` at ``pc`` as assembly.

    ``.word 0x...`` when it is no instruction, or when capstone is not installed.
    """
    engine = _disassembler()
    if engine is not None:
        for _, _, mnemonic, operands in engine.disasm_lite(word.to_bytes(4, "little"), pc, 1):
            return f"{mnemonic} {operands}".rstrip()
    return f".word {word:#010x}"
