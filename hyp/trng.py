"""The TRNG firmware interface (arch/arm64/kvm/trng.c), on deterministic entropy."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from hyp.smccc import NOT_SUPPORTED, SmcccFunction

if TYPE_CHECKING:
    from hyp.vcpu import VCPU

TRNG_VERSION_1_0: Final = 0x1_0000
SUCCESS, INVALID_PARAMETER = 0, -2

_UUID: Final = (0x00E0_210D, 0xEB11_8443, 0x4452_7080, 0x4C5A_4E55)
"""0d21e000-4384-11eb-8070-5244554e5a4c, KVM's own, in words."""
_REGISTERS: Final = 3
"""Random bits come in x3, then x2, then x1."""

TRNG_FUNCTIONS: Final = frozenset(
    {
        SmcccFunction.TRNG_VERSION,
        SmcccFunction.TRNG_FEATURES,
        SmcccFunction.TRNG_GET_UUID,
        SmcccFunction.TRNG_RND,
        SmcccFunction.TRNG_RND_64,
    }
)


class Entropy:
    """Random numbers of a VM: equal seeds give equal ones.

    Parameters
    ----------
    seed
        Any number that is not negative.
    """

    def __init__(self, seed: int) -> None:
        self._key = blake2b(f"{seed}".encode()).digest()
        self._count = 0

    def long(self) -> int:
        """Return the next 64 bits (``get_random_long``)."""
        self._count += 1
        block = self._count.to_bytes(8, "little")
        return int.from_bytes(blake2b(block, key=self._key, digest_size=8).digest(), "little")


def kvm_trng_call(vcpu: VCPU, function: int) -> tuple[int, ...]:
    """Serve a call; return its results."""
    if function == SmcccFunction.TRNG_VERSION:
        return (TRNG_VERSION_1_0,)
    if function == SmcccFunction.TRNG_FEATURES:
        known = vcpu.pe.read_x(1) & 0xFFFF_FFFF in TRNG_FUNCTIONS
        return (SUCCESS if known else NOT_SUPPORTED,)
    if function == SmcccFunction.TRNG_GET_UUID:
        return _UUID
    return _rnd(vcpu, 32 if function == SmcccFunction.TRNG_RND else 64)


def _rnd(vcpu: VCPU, width: int) -> tuple[int, ...]:
    """Return as many random bits as x1 asks for, in registers of ``width`` bits."""
    bits = vcpu.pe.read_x(1) & (1 << width) - 1
    if bits > _REGISTERS * width:
        return (INVALID_PARAMETER,)
    longs = [vcpu.vm.firmware.entropy.long() for _ in range(-(-bits // 64))]
    number = sum(long << 64 * n for n, long in enumerate(longs)) & (1 << bits) - 1
    mask = (1 << width) - 1
    return (SUCCESS, *(number >> width * n & mask for n in reversed(range(_REGISTERS))))
