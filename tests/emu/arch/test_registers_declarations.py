"""Properties that hold for every declared register and every other layout."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.esr import iss
from emu.arch.fields import Layout, SystemRegister
from emu.arch.registers import BY_NAME, REGISTERS
from emu.arch.registers.exceptions import PAR_EL1_FAULT, PSTATE, ExceptionSyndrome

LAYOUTS: list[type[Layout]] = [
    *BY_NAME.values(),
    PSTATE,
    PAR_EL1_FAULT,
    ExceptionSyndrome,
    *(
        item
        for item in vars(iss).values()
        if isinstance(item, type) and issubclass(item, Layout) and item is not Layout
    ),
]

every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)


@every_layout
@given(word=st.integers(0, (1 << 64) - 1))
def test_decoding_and_encoding_give_back_the_named_bits(layout: type[Layout], word: int) -> None:
    value = layout(word)
    again = layout.build(**{field.name: part for field, part in value.describe()})
    assert again == word & ~value.unnamed


@every_layout
def test_no_two_fields_overlap(layout: type[Layout]) -> None:
    taken = 0
    for field in layout.FIELDS.values():
        here = field.mask << field.lsb
        assert not taken & here, f"{field.name} overlaps another field"
        taken |= here


@every_layout
def test_fields_know_their_own_names(layout: type[Layout]) -> None:
    assert all(name == field.name for name, field in layout.FIELDS.items())


def test_every_encoding_belongs_to_one_register() -> None:
    assert len(REGISTERS) == len(BY_NAME)


@pytest.mark.parametrize("register", BY_NAME.values(), ids=lambda register: register.__name__)
def test_encodings_are_in_range_and_op1_fits_the_exception_level(
    register: type[SystemRegister],
) -> None:
    op0, op1, CRn, CRm, op2 = register.encoding
    assert op0 in (2, 3)
    assert op1 < 8
    assert op2 < 8
    assert CRn < 16
    assert CRm < 16
    level = register.__name__[-4:]
    if level == "_EL2" or register.__name__ == "SP_EL1":  # EL1 has no name for its own SP
        assert op1 == 4
    elif level == "_EL1":
        assert op1 in (0, 1, 2)  # 1 and 2 for cache identification
    elif level == "_EL0" and register.__name__ != "SP_EL0":
        assert op1 == 3


def test_lookup_by_encoding_and_name_finds_the_same_register() -> None:
    assert REGISTERS[BY_NAME["HCR_EL2"].encoding] is BY_NAME["HCR_EL2"]
