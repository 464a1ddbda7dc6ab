import pytest

from emu.arch.address import VA
from lab.autopsy import loop_body
from lab.crash import Step


def steps(*pcs: int) -> list[Step]:
    return [Step(VA(pc), None) for pc in pcs]


@pytest.mark.parametrize(
    ("executed", "body"),
    [
        ((1, 1, 1), (1,)),
        ((9, 1, 2, 3, 1, 2, 3), (1, 2, 3)),
        ((1, 2, 3, 1, 2, 3, 1), (1, 2, 3)),
        ((5, 6, 1, 5, 6, 1), (1, 5, 6)),
        ((1, 1, 2, 1, 1, 2), (1, 1, 2)),
        ((1, 2, 3, 4), ()),
        ((1,), ()),
        ((), ()),
    ],
)
def test_one_round_of_a_loop_is_found_and_begins_at_its_lowest_address(
    executed: tuple[int, ...], body: tuple[int, ...]
) -> None:
    assert [step.pc for step in loop_body(steps(*executed))] == list(body)
