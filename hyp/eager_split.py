"""Eager splitting: blocks become pages when logging starts, not at the write that needs it.

(``kvm_mmu_split_huge_pages``.) A range is split chunk by chunk, with tables from a
cache of its own, which is filled before each chunk with what one can need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA
from hyp.errors import Errno, KvmError
from hyp.host import SIZE_1G, SIZE_2M, SIZE_4K
from hyp.memcache import MemoryCache

if TYPE_CHECKING:
    from hyp.vm import VM

SUPPORTED_BLOCK_SIZES: Final = SIZE_4K | SIZE_2M | SIZE_1G
"""KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES: a bit for each size of a leaf."""


def split_nr_page_tables(size: int) -> int:
    """Return how many tables ``size`` bytes can need to become pages.

    (``kvm_mmu_split_nr_page_tables``.)
    """
    return -(-size // SIZE_1G) + -(-size // SIZE_2M)


class EagerSplit:
    """Splits the blocks of one VM.

    Parameters
    ----------
    vm
        The VM.

    Attributes
    ----------
    chunk_size
        KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE; 0 leaves blocks to the faults that need pages.
    cache
        Tables in reserve.
    """

    __slots__ = ("_vm", "cache", "chunk_size")

    def __init__(self, vm: VM) -> None:
        self._vm = vm
        self.chunk_size = 0
        self.cache = MemoryCache(vm.host.frames)

    def enable(self, chunk_size: int) -> None:
        """Set KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE.

        Raises
        ------
        KvmError
            EINVAL for a size that no block has, or once there are memory slots.
        """
        if len(self._vm.memslots):
            raise KvmError(
                Errno.EINVAL,
                f"{len(self._vm.memslots)} memory slots exist; set the chunk size before them",
            )
        if chunk_size & (chunk_size - 1) or chunk_size & ~SUPPORTED_BLOCK_SIZES or chunk_size < 0:
            raise KvmError(
                Errno.EINVAL,
                f"no block has {chunk_size:#x} bytes; use {SIZE_4K:#x}, {SIZE_2M:#x} or "
                f"{SIZE_1G:#x}, or 0 to split at faults",
            )
        self.chunk_size = chunk_size

    def split_range(self, start: IPA, size: int) -> Errno:
        """Turn the blocks of a range into pages, if the VM asks for that.

        Returns
        -------
        Errno
            ENOMEM when memory ran out; what is left is split by faults.
        """
        if not self.chunk_size:
            return Errno.OK
        end = start + size
        while start < end:
            tables = split_nr_page_tables(self.chunk_size)
            error = self.cache.topup(tables, capacity=tables)
            if error:
                return error
            after = min((start | (self.chunk_size - 1)) + 1, end)
            error = self._vm.pgt.split(start, after - start, self.cache)
            if error:
                return error
            start = IPA(after)
        return Errno.OK

    def free_cache(self) -> None:
        """Give the reserve back."""
        self.cache.free()
