"""What each access of test_page_fault.py leads to.

Columns: what is tried, the access, whether hardware is to set the access flag; then the fields
of :class:`tests.hyp.selftests.page_fault.Outcome`. CODE stands for the walk of the fetch after
the tables were taken away. Data are translated by pages 5 (level 2) and 6 (level 3) of the
tables; page 5 has not been walked before, and page 6 only where the guest has cleared the
access flag. Flushes: ``nsh`` is a TLBI by IPA on this CPU, after a permission was added; ``is``
one for all CPUs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.hyp.selftests.guest import LOG, NO_FLAGS, READONLY
from tests.hyp.selftests.page_fault import Outcome, Setup

if TYPE_CHECKING:
    from hyp.memslots import MemoryRegionFlags

KINDS: Final[dict[str, tuple[MemoryRegionFlags, bool, bool]]] = {
    "access": (NO_FLAGS, False, False),
    "hole": (NO_FLAGS, True, False),
    "uffd": (NO_FLAGS, True, True),
    "log": (LOG, False, False),
    "uffd-log": (LOG, True, True),
    "ro": (READONLY, False, False),
    "ro-log": (READONLY | LOG, False, False),
    "ro-uffd": (READONLY, True, True),
}
"""Flags of both slots, whether data are taken away, and whether user space supplies them, and
then the tables, too."""

PAGES: Final = """
access   read64    af | w5.7 read.5                        |        |        | 3RW  |       |
access   ld_preidx af | w5.7 read.5                        |        |        | 3RW  |       |
access   cas       af | w5.7 read.5                        |        |        | 3RW  |       |
access   write64   af | w5.7 write.5                       |        |        | 3RW  |       |
access   st_preidx af | w5.7 write.5                       |        |        | 3RW  |       |
access   dc_zva    af | w5.7 write.5                       |        |        | 3RW  |       |
access   exec      af | w5.7 fetch.5                       |        |        | 3RWX |       |
hole     read64    -  | w5.7 w6.7 read.5                   |        |        | 3R   |       |
hole     cas       -  | w5.7 w6.7 read.5 write.f read.5    |        |        | 3RW  | is:3  |
hole     ld_preidx -  | w5.7 w6.7 read.5                   |        |        | 3R   |       |
hole     write64   -  | w5.7 w6.7 write.5                  |        |        | 3RW  |       |
hole     st_preidx -  | w5.7 w6.7 write.5                  |        |        | 3RW  |       |
hole     at        -  | w5.7 w6.7                          |        |        | -    |       |
hole     dc_zva    -  | w5.7 w6.7 write.5                  |        |        | 3RW  |       |
uffd     read64    af | CODE w5.7 w6.7 read.5              | t0 d0  |        | 3RW  |       |
uffd     read64    -  | CODE w5.7 w6.7 read.5              | t0 d0  |        | 3RW  |       |
uffd     cas       af | CODE w5.7 w6.7 read.5              | t0 d0  |        | 3RW  |       |
uffd     at        -  | CODE w5.7 w6.7                     | t0     |        | -    |       |
uffd     ld_preidx af | CODE w5.7 w6.7 read.5              | t0 d0  |        | 3RW  |       |
uffd     write64   af | CODE w5.7 w6.7 write.5             | t0 d0w |        | 3RW  |       |
uffd     dc_zva    af | CODE w5.7 w6.7 write.5             | t0 d0w |        | 3RW  |       |
uffd     st_preidx af | CODE w5.7 w6.7 write.5             | t0 d0w |        | 3RW  |       |
uffd     exec      af | CODE w5.7 w6.7 fetch.5             | t0 d0  |        | 3RWX |       |
log      read64    af | w5.7 w6.f read.5                   |        |        | 3R   | nsh:1 | t6
log      read64    -  | w5.7 w6.7 read.5                   |        |        | 3R   |       |
log      ld_preidx af | w5.7 w6.f read.5                   |        |        | 3R   | nsh:1 | t6
log      at        -  | w5.7 w6.7                          |        |        | -    |       |
log      exec      af | w5.7 w6.f fetch.5                  |        |        | 3RX  | nsh:1 | t6
log      write64   af | w5.7 w6.f write.5                  |        |        | 3RW  | nsh:1 | d0 t6
log      cas       af | w5.7 w6.f read.5 write.f           |        |        | 3RW  | nsh:2 | d0 t6
log      dc_zva    af | w5.7 w6.f write.5                  |        |        | 3RW  | nsh:1 | d0 t6
log      st_preidx af | w5.7 w6.f write.5                  |        |        | 3RW  | nsh:1 | d0 t6
uffd-log read64    af | CODE w5.7 w6.7 w6.f read.5         | t0 d0  |        | 3R   | nsh:1 | t6
uffd-log read64    -  | CODE w5.7 w6.7 read.5              | t0 d0  |        | 3R   |       |
uffd-log ld_preidx af | CODE w5.7 w6.7 w6.f read.5         | t0 d0  |        | 3R   | nsh:1 | t6
uffd-log at        af | CODE w5.7 w6.7 w6.f                | t0     |        | -    | nsh:1 | t6
uffd-log exec      af | CODE w5.7 w6.7 w6.f fetch.5        | t0 d0  |        | 3RX  | nsh:1 | t6
uffd-log write64   af | CODE w5.7 w6.7 w6.f write.5        | t0 d0w |        | 3RW  | nsh:1 | d0 t6
uffd-log cas       af | CODE w5.7 w6.7 w6.f read.5 write.f | t0 d0  |        | 3RW  | nsh:2 | d0 t6
uffd-log dc_zva    af | CODE w5.7 w6.7 w6.f write.5        | t0 d0w |        | 3RW  | nsh:1 | d0 t6
uffd-log st_preidx af | CODE w5.7 w6.7 w6.f write.5        | t0 d0w |        | 3RW  | nsh:1 | d0 t6
ro       read64    -  | w5.7 w6.7 read.5                   |        |        | 3R   |       |
ro       ld_preidx -  | w5.7 w6.7 read.5                   |        |        | 3R   |       |
ro       at        -  | w5.7 w6.7                          |        |        | -    |       |
ro       exec      -  | w5.7 w6.7 fetch.5                  |        |        | 3RX  |       |
ro       write64   -  | w5.7 w6.7 write.5 read.5           |        | MMIO   | 3R   |       |
ro       dc_zva    -  | w5.7 w6.7 write.5                  |        | ENOSYS | -    |       |
ro       cas       -  | w5.7 w6.7 read.5 write.f           |        | ENOSYS | 3R   |       |
ro       st_preidx -  | w5.7 w6.7 write.5                  |        | ENOSYS | -    |       |
ro-log   read64    -  | w5.7 w6.7 read.5                   |        |        | 3R   |       |
ro-log   ld_preidx -  | w5.7 w6.7 read.5                   |        |        | 3R   |       |
ro-log   at        -  | w5.7 w6.7                          |        |        | -    |       |
ro-log   exec      -  | w5.7 w6.7 fetch.5                  |        |        | 3RX  |       |
ro-log   write64   -  | w5.7 w6.7 write.5 read.5           |        | MMIO   | 3R   |       |
ro-log   dc_zva    -  | w5.7 w6.7 write.5                  |        | ENOSYS | -    |       |
ro-log   cas       -  | w5.7 w6.7 read.5 write.f           |        | ENOSYS | 3R   |       |
ro-log   st_preidx -  | w5.7 w6.7 write.5                  |        | ENOSYS | -    |       |
ro-uffd  read64    -  | CODE w5.7 w6.7 read.5              | t0 d0  |        | 3R   |       |
ro-uffd  ld_preidx -  | CODE w5.7 w6.7 read.5              | t0 d0  |        | 3R   |       |
ro-uffd  at        -  | CODE w5.7 w6.7                     | t0     |        | -    |       |
ro-uffd  exec      -  | CODE w5.7 w6.7 fetch.5             | t0 d0  |        | 3RX  |       |
ro-uffd  write64   -  | CODE w5.7 w6.7 write.5 read.5      | t0 d0w | MMIO   | 3R   |       |
ro-uffd  dc_zva    -  | CODE w5.7 w6.7 write.5             | t0     | ENOSYS | -    |       |
ro-uffd  cas       -  | CODE w5.7 w6.7 read.5 write.f      | t0 d0  | ENOSYS | 3R   |       |
ro-uffd  st_preidx -  | CODE w5.7 w6.7 write.5             | t0     | ENOSYS | -    |       |
"""
"""Anonymous memory by pages: the table of the kernel's test, row by row."""

BLOCKS: Final = """
access   read64    af | read.5                             |        |        | 2RW  |       |
access   ld_preidx af | read.5                             |        |        | 2RW  |       |
access   cas       af | read.5                             |        |        | 2RW  |       |
access   write64   af | write.5                            |        |        | 2RW  |       |
access   st_preidx af | write.5                            |        |        | 2RW  |       |
access   dc_zva    af | write.5                            |        |        | 2RW  |       |
access   exec      af | fetch.5                            |        |        | 2RWX |       |
hole     read64    -  | read.5                             |        |        | 2R   |       |
hole     cas       -  | read.5 write.e                     |        |        | 2RW  | nsh:1 |
hole     ld_preidx -  | read.5                             |        |        | 2R   |       |
hole     write64   -  | write.5                            |        |        | 2RW  |       |
hole     st_preidx -  | write.5                            |        |        | 2RW  |       |
hole     at        -  |                                    |        |        | -    |       |
hole     dc_zva    -  | write.5                            |        |        | 2RW  |       |
uffd     read64    af | w0.6 read.5                        | t0 d0  |        | 2RW  |       |
uffd     read64    -  | w0.6 read.5                        | t0 d0  |        | 2RW  |       |
uffd     cas       af | w0.6 read.5                        | t0 d0  |        | 2RW  |       |
uffd     at        -  | w0.6                               | t0     |        | -    |       |
uffd     ld_preidx af | w0.6 read.5                        | t0 d0  |        | 2RW  |       |
uffd     write64   af | w0.6 write.5                       | t0 d0w |        | 2RW  |       |
uffd     dc_zva    af | w0.6 write.5                       | t0 d0w |        | 2RW  |       |
uffd     st_preidx af | w0.6 write.5                       | t0 d0w |        | 2RW  |       |
uffd     exec      af | w0.6 fetch.5                       | t0 d0  |        | 2RWX |       |
ro       read64    -  | read.5                             |        |        | 2R   |       |
ro       ld_preidx -  | read.5                             |        |        | 2R   |       |
ro       at        -  |                                    |        |        | -    |       |
ro       exec      -  | fetch.5                            |        |        | 2RX  |       |
ro       write64   -  | write.5 read.5                     |        | MMIO   | 2R   |       |
ro       dc_zva    -  | write.5                            |        | ENOSYS | -    |       |
ro       cas       -  | read.5 write.e                     |        | ENOSYS | 2R   |       |
ro       st_preidx -  | write.5                            |        | ENOSYS | -    |       |
ro-log   read64    -  | read.5                             |        |        | 2R   |       |
ro-log   ld_preidx -  | read.5                             |        |        | 2R   |       |
ro-log   at        -  |                                    |        |        | -    |       |
ro-log   exec      -  | fetch.5                            |        |        | 2RX  |       |
ro-log   write64   -  | write.5 read.5                     |        | MMIO   | 2R   |       |
ro-log   dc_zva    -  | write.5                            |        | ENOSYS | -    |       |
ro-log   cas       -  | read.5 write.e                     |        | ENOSYS | 2R   |       |
ro-log   st_preidx -  | write.5                            |        | ENOSYS | -    |       |
ro-uffd  read64    -  | w0.6 read.5                        | t0 d0  |        | 2R   |       |
ro-uffd  ld_preidx -  | w0.6 read.5                        | t0 d0  |        | 2R   |       |
ro-uffd  at        -  | w0.6                               | t0     |        | -    |       |
ro-uffd  exec      -  | w0.6 fetch.5                       | t0 d0  |        | 2RX  |       |
ro-uffd  write64   -  | w0.6 write.5 read.5                | t0 d0w | MMIO   | 2R   |       |
ro-uffd  dc_zva    -  | w0.6 write.5                       | t0     | ENOSYS | -    |       |
ro-uffd  cas       -  | w0.6 read.5 write.e                | t0 d0  | ENOSYS | 2R   |       |
ro-uffd  st_preidx -  | w0.6 write.5                       | t0     | ENOSYS | -    |       |
"""
"""Where 2 MiB pages differ: blocks, unless the slot is logged; a walk meets one fault. A logged
read-only slot counts as not logged."""

SHARED_PAGES: Final = """
hole     read64    -  | w5.7 w6.7 read.5                   |        |        | 3RW  |       |
hole     cas       -  | w5.7 w6.7 read.5                   |        |        | 3RW  |       |
hole     ld_preidx -  | w5.7 w6.7 read.5                   |        |        | 3RW  |       |
"""
"""Where shared memory differs: a page that is read is not the page of zeros, but the file's."""

SHARED_BLOCKS: Final = """
hole     read64    -  | read.5                             |        |        | 2RW  |       |
hole     cas       -  | read.5                             |        |        | 2RW  |       |
hole     ld_preidx -  | read.5                             |        |        | 2RW  |       |
"""

HUGE_ZERO_PAGE: Final = """
hole     cas       -  | read.5 write.e read.5              |        |        | 2RW  | is:2  |
"""
"""Where transparent huge pages differ from those of hugetlbfs: there is a huge page of zeros, and
a page that user space supplies is small."""

_CODE: Final = "w0.6 w1.7 w2.7 w3.7"
_FLUSHES: Final = {"nsh": "vmid_ipa_nsh", "is": "vmid_ipa"}

Table = dict[tuple[str, str, bool], Outcome]


def parse(text: str) -> Table:
    """Return the rows of a table by kind, access, and whether the access flag is clear."""
    rows: Table = {}
    for line in text.strip().splitlines():
        head, faults, userfaults, exits, mapped, flushes, dirty = (
            column.strip() for column in f"{line} ".split("|")
        )
        kind, access, af = head.split()
        if flushes:
            name, count = flushes.split(":")
            flushes = f"{_FLUSHES[name]}:{count}"
        faults = faults.replace("CODE", _CODE)
        outcome = Outcome(faults, userfaults, exits, mapped, flushes, dirty)
        rows[kind, access, af == "af"] = outcome
    return rows


def setup(kind: str, access: str, *, with_af: bool) -> Setup:
    """Return the set-up of a row."""
    flags, hole, userfault = KINDS[kind]
    return Setup(access, with_af, flags, hole, hole and userfault, userfault)


def _without_userfaults(table: Table) -> Table:
    return {key: row for key, row in table.items() if not row.userfaults}


TABLES: Final[dict[str, Table]] = {
    "anonymous": parse(PAGES),
    "shmem": parse(PAGES) | parse(SHARED_PAGES),
    "anonymous_hugetlb_2mb": parse(PAGES) | parse(BLOCKS),
    "shared_hugetlb_2mb": parse(PAGES) | parse(BLOCKS) | parse(SHARED_BLOCKS),
    "anonymous_thp": parse(PAGES) | _without_userfaults(parse(BLOCKS)) | parse(HUGE_ZERO_PAGE),
}
"""By what is behind the slots."""
