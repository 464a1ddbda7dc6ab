"""Set-ups: each is another machine, and what user space does in it is done on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA
from hyp.vm import Cap
from lab.commands.diff_kvm import planned
from lab.errors import UserError
from lab.kvm import ours
from lab.kvm.experiment import machine
from lab.kvm.setups import ALL, AS_RUN, chosen, named

if TYPE_CHECKING:
    from lab.kvm.experiment import Experiment


def experiment(guest: str, setup: str, *options: str) -> Experiment:
    (found,) = planned(guest, [named(setup)], options)
    return found


def lines(found: Experiment) -> list[str]:
    """Return what the VMM under KVM is told to do."""
    text = machine(b"", [found]).initramfs.decode(errors="replace")
    return text[text.index("\nbegin ") + 1 :].split("\nrun\n")[0].splitlines()


def test_names_are_unique_and_say_what_can_be_chosen() -> None:
    names = [setup.name for setup in ALL]
    assert len(set(names)) == len(names)
    assert chosen(["all"]) == ALL
    assert chosen(["thp", "rom", "thp"]) == (named("thp"), named("rom"))
    assert chosen([]) == (AS_RUN,)
    with pytest.raises(UserError, match="no set-up 'nowhere'; there are plain, private"):
        chosen(["nowhere"])


def test_no_two_set_ups_are_the_same_machine() -> None:
    told = {
        tuple(line for line in lines(found) if not line.startswith(("begin", "needs")))
        for found in planned("hello", ALL, ())
    }
    assert len(told) == len(ALL)


def test_ram_is_one_memory_behind_several_slots() -> None:
    slots = experiment("hello", "slots").config.all_slots
    assert [(slot.id, slot.region.base, slot.region.size) for slot in slots] == [
        (0, 0x4000_0000, 0x10_0000),
        (1001, 0x4010_0000, 0x20_1000),
        (1002, 0x4030_1000, (64 << 20) - 0x30_1000),
    ]
    told = lines(experiment("hello", "slots"))
    assert [line for line in told if line.startswith(("area", "slot"))] == [
        "area 0 0x4000000 0x200000 shared",
        "slot 0 0x40000000 0x100000 0 0 0x0",
        "slot 1001 0x40100000 0x201000 0 0 0x100000",
        "slot 1002 0x40301000 0x3cff000 0 0 0x301000",
    ]


def test_page_of_the_entry_point_is_read_only_and_never_logged() -> None:
    (rom,) = (
        slot for slot in experiment("hello", "rom", "--dirty-log").config.all_slots
        if slot.read_only
    )  # fmt: skip
    assert rom.region.contains(IPA(0x4008_0000))
    assert rom.region.size == 0x1000
    assert not rom.log_dirty


def test_ram_that_is_too_small_for_its_slots_is_refused() -> None:
    with pytest.raises(UserError, match="RAM of 2M has no slot behind the first"):
        experiment("hello", "slots", "--mem", "2M")


def test_capabilities_are_enabled_before_there_are_slots() -> None:
    told = lines(experiment("hello", "log-eager"))
    order = [line.split()[0] for line in told if not line.startswith(("load", "x ", "pc"))]
    assert order == ["begin", "needs", "vm", "cap", "area", "slot", "vcpu", "line"]
    assert f"needs {Cap.ARM_SUPPORTED_BLOCK_SIZES:d}" in told


def dirty(setup: str) -> list[str]:
    found = ours.run(experiment("hello", setup), "6.1")
    return [event for event in found.events if event.startswith("dirty_log")]


def test_dirty_log_is_read_after_each_line() -> None:
    # A variable and the stack; the stack again, whose right to be written was taken.
    assert dirty("log-lines") == [
        "dirty_log: slot 0, pages 131-131",
        "dirty_log: slot 0, pages 135-135",
        "dirty_log: slot 0, pages 135-135",
    ]
    assert dirty("log") == []


def test_with_manual_protection_all_pages_begin_dirty() -> None:
    first, second = dirty("log-manual")
    assert first == "dirty_log: slot 0, pages 0-16383"
    assert second == "dirty_log: slot 0, pages 135-135"


def test_toggled_logging_sees_what_is_written_while_it_is_on() -> None:
    # On after the first of two lines: of the pages that are written before, only the stack is.
    assert dirty("log-toggled") == ["dirty_log: slot 0, pages 135-135"]


def test_other_profile_leaves_another_trace() -> None:
    old, new = (ours.run(experiment("psci", "plain"), name).events for name in ("6.1", "2026"))
    assert old != new
