"""Machine code for the host: hooks that are called too often to be Python.

Each is a few instructions, written down for the hosts that are known. Where the host is another
or allows no executable memory, its user falls back on Python.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

CODE_CALLBACK = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p
)
"""(engine, instruction address, size in bytes, state)."""

RETURN: Final = {"x86_64": bytes.fromhex("c3"), "aarch64": (0xD65F03C0).to_bytes(4, "little")}
"""A function that does nothing."""


def words(*instructions: int) -> bytes:
    """Return AArch64 instructions as they lie in memory."""
    return b"".join(word.to_bytes(4, "little") for word in instructions)


def for_host(codes: dict[str, bytes]) -> int | None:
    """Return the address of the code for this host, or None if there can be none.

    Parameters
    ----------
    codes
        By the host's architecture.
    """
    code = codes.get(platform.machine())
    return None if code is None else _executable(code)


@cache
def nothing() -> Any:  # noqa: ANN401  # a C function, or its address
    """Return a hook that does nothing but have the engine look for a request to stop."""
    return for_host(RETURN) or CODE_CALLBACK(lambda *_arguments: None)


_keep: list[mmap.mmap] = []
"""Executable memory lives as long as the process."""


@cache
def _executable(code: bytes) -> int | None:
    """Return the address of ``code`` in executable memory, or None if the host refuses."""
    memory = mmap.mmap(-1, mmap.PAGESIZE)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect: Callable[..., int] = ctypes.CDLL(None).mprotect
    refused = protect(
        ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC
    )
    if refused:
        return None
    _keep.append(memory)
    return address
