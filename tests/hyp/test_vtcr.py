"""The shape of stage 2 by IPA size."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from emu.arch.address import PA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.identification import ID_AA64MMFR0_EL1
from emu.arch.registers.translation import PhysicalAddressSize
from hyp.cpufeature import HostFeatures
from hyp.errors import Errno, KvmError
from hyp.vtcr import Stage2Geometry, vttbr
from tests.hyp.fake_machine import NEW_CPU, FakeMachine

if TYPE_CHECKING:
    from hyp.vm import VM

# IPA bits -> levels, top pages, pages that one mapping can need.
SHAPES = [
    (32, 2, 4, 1),
    (34, 2, 16, 1),
    (35, 3, 1, 2),
    (39, 3, 1, 2),
    (40, 3, 2, 2),
    (42, 3, 8, 2),
    (43, 3, 16, 2),
    (44, 4, 1, 3),
    (48, 4, 1, 3),
]


@pytest.mark.parametrize(("bits", "levels", "top", "minimum"), SHAPES)
def test_shape_by_ipa_size(bits: int, levels: int, top: int, minimum: int) -> None:
    shape = Stage2Geometry.of(bits)
    assert shape.levels == levels
    assert shape.pgd_size == top * 0x1000
    assert shape.cache_min_pages == minimum
    assert shape.start_level == 4 - levels


@pytest.mark.parametrize(("bits", "sl0"), [(32, 0), (40, 1), (44, 2)])
def test_vtcr_names_size_and_start_level(bits: int, sl0: int) -> None:
    vm = FakeMachine().vm(bits)
    assert 64 - bits == vm.vtcr.T0SZ
    assert sl0 == vm.vtcr.SL0
    assert vm.vtcr.RES1 == 1
    assert (vm.vtcr.SH0, vm.vtcr.ORGN0, vm.vtcr.IRGN0, vm.vtcr.TG0) == (3, 1, 1, 0)
    assert vm.vtcr.PS is PhysicalAddressSize.BITS_44
    assert (vm.vtcr.VS, vm.vtcr.HA) == (0, 0)


def test_vtcr_uses_what_the_machine_has() -> None:
    vtcr = FakeMachine(features=NEW_CPU).vm().vtcr
    assert (vtcr.VS, vtcr.HA) == (1, 1)


def test_larger_physical_addresses_count_as_48_bits() -> None:
    big = CORTEX_A72.replace(ID_AA64MMFR0_EL1.build(PARange=PhysicalAddressSize.BITS_52))
    machine = FakeMachine(features=big)
    features = HostFeatures.of(cast("object", machine.pes[0]))  # type: ignore[arg-type]  # a fake
    assert features.ipa_limit == 48
    assert features.pa_range is PhysicalAddressSize.BITS_48


def test_vttbr_holds_table_and_vmid() -> None:
    value = vttbr(PA(0x8_0000_2000), 7)
    assert value.VMID == 7
    assert value.BADDR << 1 == 0x8_0000_2000


def test_size_0_means_40_bits() -> None:
    assert FakeMachine().vm(0).ipa_bits == 40


@pytest.mark.parametrize("bits", [1, 31, 45, 64, -1])
def test_impossible_ipa_size_is_refused(bits: int) -> None:
    with pytest.raises(KvmError, match="use 32 to 44") as caught:
        FakeMachine().vm(bits)
    assert caught.value.errno is Errno.EINVAL


def test_vms_on_one_machine_share_its_memory() -> None:
    machine = FakeMachine()
    first = machine.vm()
    second: VM = machine.vm(host=first.host)
    assert first.pgt.pgd != second.pgt.pgd
    first.destroy()
    second.destroy()
    assert first.host.frames.allocated == 0
