"""What exits look like to a person."""

from __future__ import annotations

from emu.arch.address import IPA, VA
from hyp.exits import ArmSea, Mmio, SeaFlags, SystemEvent, SystemEventType


def test_addresses_and_syndromes_are_shown_in_hexadecimal() -> None:
    mmio = Mmio(IPA(0x900_0018), b"A", 1, is_write=True)
    assert repr(mmio) == "Mmio(phys_addr=0x9000018, data=b'A', len=1, is_write=True)"
    sea = ArmSea(SeaFlags(0), 0x9200_0010, VA(0xFFFF_0000), IPA(0))
    assert repr(sea) == "ArmSea(flags=<SeaFlags: 0>, esr=0x92000010, gva=0xffff0000, gpa=0x0)"


def test_other_values_are_shown_as_they_are() -> None:
    event = SystemEvent(SystemEventType.RESET)
    assert repr(event) == "SystemEvent(type=<SystemEventType.RESET: 2>, data=())"
