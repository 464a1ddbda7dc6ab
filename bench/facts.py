"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import qemu
from emu import compiled


def machine() -> dict[str, Any]:
    """Return the host and the versions that decide about the figures."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load": [round(value, 2) for value in os.getloadavg()],
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "compiled": compiled.in_use() is not None,
        "unicorn": version("unicorn"),
        "qemu": qemu.version(),
    }


def _cpu_model() -> str:
    """Return the host's CPU by name, as far as it tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
