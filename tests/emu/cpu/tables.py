"""Translation tables by simple calls: one tree of 4 KiB tables, of either stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import PA

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.memory import PhysicalMemory

ADDRESS: Final = 0x0000_FFFF_FFFF_F000
TABLE: Final = 0b11
VALID: Final = 1
AF: Final = 1 << 10
INNER: Final = 3 << 8

# Stage 2
S2_READ: Final = 1 << 6
S2_WRITE: Final = 2 << 6
S2_NORMAL: Final = 0b1111 << 2
S2_XN: Final = 2 << 53
S2_RW: Final = S2_READ | S2_WRITE
S2_RO: Final = S2_READ

# Stage 1
S1_EL0: Final = 1 << 6
S1_READ_ONLY: Final = 2 << 6
S1_NG: Final = 1 << 11
S1_PXN: Final = 1 << 53
S1_UXN: Final = 1 << 54


class Tables:
    """A tree of translation tables.

    Parameters
    ----------
    memory
        Where the descriptors are.
    allocate
        Returns a zeroed table: its address as a descriptor names it, and its PA. They differ
        for stage 1, whose tables lie in IPA space.
    start_level
        Level of the root.
    roots
        How many tables are concatenated there.
    """

    def __init__(
        self,
        memory: PhysicalMemory,
        allocate: Callable[[], tuple[int, PA]],
        start_level: int = 1,
        roots: int = 1,
    ) -> None:
        self._memory = memory
        self._allocate = allocate
        self.start_level = start_level
        tables = [allocate() for _ in range(roots)]
        while tables[0][1] % (0x1000 * roots):  # concatenated tables are aligned to their size
            tables = [*tables[1:], allocate()]
        self.root, root_pa = tables[0]
        self._root_bits = 9 + roots.bit_length() - 1
        self._pa_of = dict(tables)
        assert [pa for _, pa in tables] == [root_pa + 0x1000 * i for i in range(roots)]

    def entry(self, address: int, level: int = 3) -> PA:
        """Return where the descriptor for ``address`` at ``level`` is; make what leads there."""
        table = self._pa_of[self.root]
        at_level = self.start_level
        bits = self._root_bits
        while True:
            shift = 12 + 9 * (3 - at_level)
            entry = PA(table + 8 * (address >> shift & ((1 << bits) - 1)))
            if at_level == level:
                return entry
            word = self._memory.read_u64(entry)
            if word & TABLE != TABLE:
                named, pa = self._allocate()
                self._pa_of[named] = pa
                word = named | TABLE
                self._memory.write_u64(entry, word)
            table = self._pa_of[word & ADDRESS]
            at_level += 1
            bits = 9

    def address_of(self, address: int, level: int = 3) -> int:
        """Return the address of the descriptor for ``address`` as the walk forms it."""
        pa = self.entry(address, level)
        named = {p: n for n, p in self._pa_of.items()}
        return named[PA(pa & ~0xFFF)] | pa & 0xFFF

    def write(self, address: int, descriptor: int, level: int = 3) -> None:
        """Write one descriptor as it is."""
        self._memory.write_u64(self.entry(address, level), descriptor)

    def read(self, address: int, level: int = 3) -> int:
        """Read one descriptor."""
        return self._memory.read_u64(self.entry(address, level))

    def map(self, address: int, output: int, attributes: int, level: int = 3) -> None:
        """Map one page or block."""
        kind = TABLE if level == 3 else VALID
        self.write(address, output | attributes | kind, level)

    def swap(self) -> None:
        """Turn all descriptors into the other byte order."""
        for table in self._pa_of.values():
            for entry in range(table, table + 0x1000, 8):
                self._memory.write(PA(entry), self._memory.read(PA(entry), 8)[::-1])

    def unmap(self, address: int, level: int = 3) -> None:
        """Write zero over one page or block descriptor."""
        self.write(address, 0, level)
