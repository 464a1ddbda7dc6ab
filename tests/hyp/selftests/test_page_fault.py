"""Accesses of every kind to memory of every kind, as in the kernel's page_fault_test.

The guest makes one access. All that it leads to is compared with a table: stage-2 faults,
requests of userfaultfd, exits, the mapping, TLB invalidations, dirty pages. No exception may
reach the guest.
"""

from __future__ import annotations

import pytest

from emu.arch.registers.exceptions import PAR_EL1
from tests.hyp.selftests import page_fault
from tests.hyp.selftests.guest import BACKINGS, DATA
from tests.hyp.selftests.page_fault_table import TABLES, setup

ROWS = [
    pytest.param(backing, *key, id=" ".join((backing, *key[:2], "af" * key[2])).strip())
    for backing, table in TABLES.items()
    for key in table
]


@pytest.mark.parametrize(("backing", "kind", "access", "with_af"), ROWS)
@pytest.mark.kvm_row(2, 21, 23, 34, 45)
def test_access_leads_to_exactly_this(
    backing: str, kind: str, access: str, *, with_af: bool
) -> None:
    ran = page_fault.run(setup(kind, access, with_af=with_af), BACKINGS[backing])
    assert ran.outcome == TABLES[backing][kind, access, with_af]
    if "ENOSYS" in ran.outcome.exits:
        assert ran.result is None
    elif access == "at":
        assert ran.result is not None
        par = PAR_EL1(ran.result)
        assert (par.F, par.PA << PAR_EL1.PA.lsb) == (0, DATA)
    else:
        assert ran.result == page_fault.RESULTS[access]
    assert ran.af


def test_tables_have_a_row_for_every_case_of_the_kernels() -> None:
    assert {len(table) for table in TABLES.values()} == {65}
