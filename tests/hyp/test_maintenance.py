"""TLB invalidation and cache maintenance: the sequences that are issued."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.tlbi_arguments import TlbiIpa, TlbiRangeIpa
from emu.arch.address import IPA
from emu.arch.registers.virtualization import VTTBR_EL2
from hyp.cpufeature import HostFeatures
from hyp.host import SIZE_2M, SIZE_4K
from hyp.percpu import CurrentCpu
from hyp.stats import Stats
from hyp.tlb import MAX_TLBI_RANGE_PAGES, Stage2Tlb
from tests.hyp.fake_machine import NEW_CPU, OLD_CPU, FakeMachine, FakePE

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.cpu.pe import ProcessingElement

OURS = VTTBR_EL2.build(VMID=3, BADDR=0x1000)
ADDR = IPA(0x4020_1000)


def make(features: CpuFeatures) -> tuple[FakePE, CurrentCpu, HostFeatures, Stats]:
    pe = FakeMachine(features=features).pes[0]
    real = cast("ProcessingElement", pe)
    return pe, CurrentCpu(real), HostFeatures.of(real), Stats()


def make_tlb(features: CpuFeatures = NEW_CPU) -> tuple[FakePE, Stage2Tlb, Stats]:
    pe, cpu, host, stats = make(features)
    tlb = Stage2Tlb(cpu, host, stats)
    tlb.vttbr = OURS
    pe.write(OURS)
    return pe, tlb, stats


def test_one_leaf_is_invalidated_at_stage_2_and_then_combined() -> None:
    pe, tlb, stats = make_tlb()
    tlb.flush_vmid_ipa(ADDR, 3)
    assert pe.names() == ["IPAS2E1IS", "VMALLE1IS"]
    argument = TlbiIpa(pe.log[0][1])
    assert argument.IPA == ADDR >> 12
    assert argument.TTL == 0b0111
    assert stats.tlb_flushes == {"vmid_ipa": 1}


def test_local_form_reaches_this_pe_only() -> None:
    pe, tlb, _ = make_tlb()
    tlb.flush_vmid_ipa_nsh(ADDR, 2)
    assert pe.names() == ["IPAS2E1", "VMALLE1"]
    assert TlbiIpa(pe.log[0][1]).TTL == 0b0110


@pytest.mark.parametrize(("features", "level"), [(OLD_CPU, 3), (NEW_CPU, None), (NEW_CPU, 0)])
def test_level_hint_is_left_out_where_there_is_none(
    features: CpuFeatures, level: int | None
) -> None:
    pe, tlb, _ = make_tlb(features)
    tlb.flush_vmid_ipa(ADDR, level)
    assert TlbiIpa(pe.log[0][1]).TTL == 0


def test_whole_vmid() -> None:
    pe, tlb, _ = make_tlb()
    tlb.flush_vmid()
    assert pe.names() == ["VMALLS12E1IS"]


def test_range_without_range_operations_is_the_whole_vmid() -> None:
    pe, tlb, _ = make_tlb(OLD_CPU)
    tlb.flush_vmid_range(ADDR, SIZE_2M)
    assert pe.names() == ["VMALLS12E1IS"]


@given(st.integers(1, 1 << 22), st.integers(0, 1 << 20))
def test_range_operations_cover_the_range_exactly(pages: int, first: int) -> None:
    pe, tlb, stats = make_tlb()
    tlb.flush_vmid_range(IPA(first * SIZE_4K), pages * SIZE_4K)
    at = first
    for name, argument in pe.log:
        if name == "RIPAS2E1IS":
            covered = TlbiRangeIpa(argument)
            assert covered.TG == 1
            assert covered.BaseADDR == at
            at += covered.pages
        elif name == "IPAS2E1IS":
            assert at == TlbiIpa(argument).IPA
            at += 1
        else:
            assert name == "VMALLE1IS"
    assert at == first + pages
    assert stats.tlb_flushes["vmid_range"] == -(-pages // MAX_TLBI_RANGE_PAGES)


def test_another_vm_on_the_pe_is_put_back_after_the_flush() -> None:
    pe, tlb, _ = make_tlb()
    theirs = VTTBR_EL2.build(VMID=9)
    pe.write(theirs)
    seen: list[int] = []
    pe.tlbi = lambda *_: seen.append(pe.read(VTTBR_EL2).VMID)  # type: ignore[method-assign]  # a spy
    tlb.flush_vmid()
    assert seen == [3]
    assert pe.read(VTTBR_EL2) == theirs
