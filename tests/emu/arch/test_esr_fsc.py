"""Fault status codes and their parts."""

import pytest

from emu.arch.esr.fsc import FaultStatusCode, FaultType, fsc

EVERY_CODE = pytest.mark.parametrize("code", FaultStatusCode, ids=lambda code: code.name)


@EVERY_CODE
def test_type_and_level_give_the_code_back(code: FaultStatusCode) -> None:
    assert fsc(code.fault, code.level) is code


@EVERY_CODE
def test_name_agrees_with_type_and_level(code: FaultStatusCode) -> None:
    level = "" if code.level is None else f"_L{code.level}".replace("-", "M")
    assert code.name == f"{code.fault.name}{level}"


@pytest.mark.parametrize(
    ("fault", "level", "code"),
    [
        (FaultType.ADDRESS_SIZE, 0, 0x00),
        (FaultType.ADDRESS_SIZE, -1, 0x29),
        (FaultType.TRANSLATION, 0, 0x04),
        (FaultType.TRANSLATION, 3, 0x07),
        (FaultType.TRANSLATION, -1, 0x2B),
        (FaultType.ACCESS_FLAG, 0, 0x08),
        (FaultType.ACCESS_FLAG, 1, 0x09),
        (FaultType.PERMISSION, 2, 0x0E),
        (FaultType.EXTERNAL, None, 0x10),
        (FaultType.TAG_CHECK, None, 0x11),
        (FaultType.EXTERNAL_ON_WALK, -1, 0x13),
        (FaultType.EXTERNAL_ON_WALK, 0, 0x14),
        (FaultType.EXTERNAL_ON_WALK, 3, 0x17),
        (FaultType.PARITY, None, 0x18),
        (FaultType.PARITY_ON_WALK, -1, 0x1B),
        (FaultType.PARITY_ON_WALK, 3, 0x1F),
        (FaultType.ALIGNMENT, None, 0x21),
        (FaultType.GRANULE_PROTECTION_ON_WALK, -1, 0x23),
        (FaultType.GRANULE_PROTECTION_ON_WALK, 3, 0x27),
        (FaultType.GRANULE_PROTECTION, None, 0x28),
        (FaultType.TLB_CONFLICT, None, 0x30),
        (FaultType.UNSUPPORTED_ATOMIC_UPDATE, None, 0x31),
        (FaultType.LOCKDOWN, None, 0x34),
        (FaultType.UNSUPPORTED_EXCLUSIVE, None, 0x35),
    ],
)
def test_codes_are_those_of_the_architecture(
    fault: FaultType, level: int | None, code: int
) -> None:
    assert fsc(fault, level) == code


def test_a_level_without_a_code_is_refused_with_the_levels_that_have_one() -> None:
    with pytest.raises(ValueError, match=r"permission fault at level 4; .* 0, 1, 2, 3$"):
        fsc(FaultType.PERMISSION, 4)


def test_a_fault_without_levels_refuses_one() -> None:
    with pytest.raises(ValueError, match="alignment fault at level 3; levels with a code: None"):
        fsc(FaultType.ALIGNMENT, 3)


def test_description_names_fault_and_level() -> None:
    assert FaultStatusCode.TRANSLATION_LM1.description == "translation fault at level -1"
    assert FaultStatusCode.ALIGNMENT.description == "alignment fault"
