"""The CPU of a run, by the name of its profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.features import CORTEX_A72, CpuFeatures
from emu.arch.registers.identification import CTR_EL0, IcachePolicy
from lab.errors import UserError

if TYPE_CHECKING:
    from lab.config import RunConfig


def cpu_of(config: RunConfig) -> CpuFeatures:
    """Return the CPU, with the caches that the options ask for.

    Raises
    ------
    UserError
        If there is no such profile, or its file does not describe a CPU.
    """
    cpu = _named(config.cpu)
    ctr = cpu.read(CTR_EL0).replace(
        DIC=int(config.dic), IDC=int(config.idc), L1Ip=IcachePolicy[config.icache.upper()]
    )
    return cpu.replace(ctr)


def registers_of(cpu: CpuFeatures) -> dict[str, str]:
    """Return what a CPU is, whatever it is called: its ID registers that are not 0, by name."""
    registers = sorted((type(value).__name__, int(value)) for value in cpu.id_registers)
    return {name: f"{value:#x}" for name, value in registers if value}


def _named(name: str) -> CpuFeatures:
    if name == CORTEX_A72.name:
        return CORTEX_A72
    from emu.arch.profiles import ProfileError, profile  # noqa: PLC0415  # start-up time

    try:
        return profile(name)
    except ProfileError as error:
        raise UserError(f"--cpu: {error}") from error
