"""Registers that do not exist are refused, with the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from tests.emu.cpu.bare import Bare


@pytest.mark.parametrize("number", [-1, 32])
@pytest.mark.parametrize("kind", ["x", "q"])
def test_a_number_that_no_register_has_is_refused(bare: Bare, kind: str, number: int) -> None:
    with pytest.raises(ValueError, match=f"there is no register {number}; use 0 to 31"):
        getattr(bare.pe, f"read_{kind}")(number)
    with pytest.raises(ValueError, match=f"there is no register {number}; use 0 to 31"):
        getattr(bare.pe, f"write_{kind}")(number, 0)


def test_a_bare_number_is_no_system_register(bare: Bare) -> None:
    value: SystemRegister = 5  # type: ignore[assignment]  # what a user may try
    with pytest.raises(TypeError, match="5 does not say which register it is for"):
        bare.pe.write(value)
