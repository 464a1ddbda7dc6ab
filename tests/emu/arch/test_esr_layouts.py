"""Which layout reads an ESR value, and that every value of every field has a meaning."""

import pytest

from emu.arch.esr import iss
from emu.arch.esr.build import syndrome
from emu.arch.esr.classes import CLASSES, ExceptionClass
from emu.arch.esr.layouts import ISS2_LAYOUTS, ISS_LAYOUTS, iss2_layout, iss_layout
from emu.arch.esr.meanings import BY_FIELD, BY_LAYOUT, meaning
from emu.arch.esr.sentences import SENTENCES
from emu.arch.fields import Layout

ISS_BITS = (1 << 25) - 1

LAYOUTS = [
    item
    for item in vars(iss).values()
    if isinstance(item, type)
    and issubclass(item, Layout)
    and item not in (Layout, iss.DataAbortCommon)
]


@pytest.mark.parametrize("table", [CLASSES, ISS_LAYOUTS, SENTENCES])
def test_every_class_has_a_row(table: dict[ExceptionClass, object]) -> None:
    assert list(table) == list(ExceptionClass)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_can_be_reached(layout: type[Layout]) -> None:
    reached = {iss_layout(syndrome(ec)) for ec in ExceptionClass} | set(ISS2_LAYOUTS.values())
    reached |= {
        iss_layout(syndrome(ExceptionClass.DABT_LOW, 1 << 24)),
        iss_layout(syndrome(ExceptionClass.DABT_LOW, 0x10)),
        iss_layout(syndrome(ExceptionClass.IABT_LOW, 0x10)),
        iss_layout(syndrome(ExceptionClass.SERROR, 1 << 24)),
    }
    assert layout in reached


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_value_of_every_field_has_a_meaning(layout: type[Layout]) -> None:
    for field in layout.FIELDS.values():
        for raw in {0, 1, field.mask, *range(min(field.mask + 1, 64))}:
            value = field.decode(raw << field.lsb)
            assert isinstance(meaning(layout, field.name, value), str)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_fields_fit_their_syndrome(layout: type[Layout]) -> None:
    width = 24 if layout in ISS2_LAYOUTS.values() else 25
    assert all(field.msb < width for field in layout.FIELDS.values())


def test_no_meaning_is_of_a_field_that_does_not_exist() -> None:
    names = {name for layout in LAYOUTS for name in layout.FIELDS}
    assert set(BY_FIELD) <= names
    assert all(name in layout.FIELDS for layout, name in BY_LAYOUT)


@pytest.mark.parametrize(
    ("iss_value", "layout"),
    [
        (1 << 24, iss.IssDataAbort),
        (1 << 24 | 0x10, iss.IssDataAbort),
        (0x07, iss.IssDataAbortNoSyndrome),
        (0x3F, iss.IssDataAbortNoSyndrome),
        (0x10, iss.IssDataAbortExternal),
        (0x14, iss.IssDataAbortExternal),
    ],
)
def test_isv_and_status_decide_how_a_data_abort_is_read(
    iss_value: int, layout: type[Layout]
) -> None:
    assert iss_layout(syndrome(ExceptionClass.DABT_CUR, iss_value)) is layout


def test_ids_decides_how_an_serror_is_read() -> None:
    assert iss_layout(syndrome(ExceptionClass.SERROR, 0x11)) is iss.IssSError
    implementation_defined = syndrome(ExceptionClass.SERROR, 1 << 24 | 0x11)
    assert iss_layout(implementation_defined) is iss.IssSErrorImplementationDefined


def test_reserved_class_has_no_layout() -> None:
    assert iss_layout(0x3F << 26) is None
    assert iss2_layout(0x3F << 26) is None


def test_described_data_abort_uses_every_bit() -> None:
    assert iss.IssDataAbort(ISS_BITS).unnamed == 0


def test_system_register_syndrome_gives_its_encoding() -> None:
    trap = iss.IssSystemRegister.build(Op0=3, Op1=4, CRn=2, CRm=1, Op2=2, Rt=5, Direction=1)
    assert trap.encoding == (3, 4, 2, 1, 2)
