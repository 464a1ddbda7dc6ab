import io
import json

import pytest

from emu.arch.address import IPA, VA
from hyp.events import Event, KvmEntry, KvmGuestFault, KvmMmio, MmioType
from lab.trace import JsonTrace, TextTrace, event_line

FAULT = KvmGuestFault(0, 1234, VA(0x4008_0010), 0x9300_0046, VA(0x0900_0000), IPA(0x0900_0000))
WRITE = KvmMmio(1, 99, MmioType.WRITE, 1, IPA(0x0900_0000), 0x41)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            FAULT,
            (
                "  vcpu-0 [000]       1234: kvm_guest_fault: ipa 0x9000000, hsr 0x93000046, "
                "hxfar 0x9000000, pc 0x00000040080010"
            ),
        ),
        (WRITE, "  vcpu-1 [001]         99: kvm_mmio: mmio write len 1 gpa 0x9000000 val 0x41"),
        (
            KvmEntry(-1, 12_345_678_901, VA(0)),
            "  vm [000] 12345678901: kvm_entry: PC: 0x0000000000000000",
        ),
    ],
)
def test_a_line_is_what_ftrace_prints_at_the_time_in_instructions(event: Event, line: str) -> None:
    assert event_line(event) == line


def test_the_text_trace_is_plain_unless_asked_for_colour() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    TextTrace(plain)(FAULT)
    TextTrace(coloured, colour=True)(FAULT)
    assert plain.getvalue() == event_line(FAULT) + "\n"
    assert coloured.getvalue() == f"\x1b[33m{event_line(FAULT)}\x1b[0m\n"


def test_the_json_trace_is_one_object_a_line_with_a_fixed_key_order() -> None:
    stream = io.StringIO()
    trace = JsonTrace(stream)
    trace(FAULT)
    trace(WRITE)
    first, second = stream.getvalue().splitlines()
    assert list(json.loads(first)) == ["event", "vcpu", "time", "vcpu_pc", "hsr", "hxfar", "ipa"]
    assert second == (
        '{"event":"kvm_mmio","vcpu":1,"time":99,"type":"WRITE","len":1,"gpa":150994944,"val":65}'
    )
