"""``stage2 run`` as a user meets it: good guests, bad input, and guests that end badly."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from lab.cli import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Program = Callable[..., Path]

X1_UART = 0xD2A12001  # mov x1, #0x09000000
X1_TEST_DEVICE = 0xD2A16001  # mov x1, #0x0b000000
X1_HOLE = 0xD2A16401  # mov x1, #0x0b200000
W2_CODE = 0x528000E2  # mov w2, #7
W2_CHARACTER = 0x52800F02  # mov w2, #'x'
STORE = 0xB9000022  # str w2, [x1]
STORE_BYTE = 0x39000022  # strb w2, [x1]
LOAD_PAIR = 0xA9400C22  # ldp x2, x3, [x1]
SYSTEM_OFF = (0xD2800100, 0xF2B08000, 0xD4000002)  # mov x0, #8; movk x0, #0x8400, lsl 16; hvc #0
JUMP_AWAY = (0xD2A24680, 0xD61F0000)  # mov x0, #0x12340000; br x0
UNDEFINED = 0x00000000
WAIT = 0xD503207F  # wfi
LOAD_FLAGS = 0xB9401823  # ldr w3, [x1, #0x18]: a register of the UART
BACK_ONE = 0x17FFFFFF  # b .-4
NOP = 0xD503201F
LOOP = 0x14000000  # b .


def stage2(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)


def error(*arguments: str | Path) -> str:
    """Return the error line of a refused command, without its prefix."""
    result = stage2(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    line = result.stderr
    assert line.startswith("stage2: error: ")
    assert line.count("\n") == 1
    return line.removeprefix("stage2: error: ").rstrip()


# -- guests that end by themselves --------------------------------------------------------------


def test_a_bundled_guest_prints_on_stdout_and_is_summed_up_on_stderr() -> None:
    result = stage2("run", "hello")
    assert result.exit_code == 0
    assert result.stdout.endswith("PASS\n")
    assert "hello powered off, exit code 0" in result.stderr
    assert re.search(r"data abort +translation +\d +mmio +\d+", result.stderr)


def test_the_exit_status_is_the_guests_own(program: Program) -> None:
    assert stage2("run", program(X1_TEST_DEVICE, W2_CODE, STORE, *SYSTEM_OFF)).exit_code == 7


def test_an_exit_code_that_no_process_can_have_is_no_success(program: Program) -> None:
    w2_256 = 0x52802002  # mov w2, #0x100
    assert stage2("run", program(X1_TEST_DEVICE, w2_256, STORE, *SYSTEM_OFF)).exit_code == 255


def test_a_guest_without_exit_code_that_powers_off_succeeds(program: Program) -> None:
    assert stage2("run", program(*SYSTEM_OFF)).exit_code == 0


def test_quiet_leaves_only_the_console() -> None:
    result = stage2("run", "hello", "--quiet")
    assert result.stdout.endswith("PASS\n")
    assert result.stderr == ""


def test_json_is_one_object_with_the_console_inside() -> None:
    result = stage2("run", "hello", "--json")
    outcome = json.loads(result.stdout)
    assert result.stderr == ""
    assert outcome["console"].endswith("PASS\n")
    assert (outcome["end"], outcome["exit_code"], outcome["crash"]) == ("power_off", 0, None)
    assert {"kind", "fault", "level", "resolution", "times"} == set(outcome["aborts"][0])


def test_equal_runs_differ_in_nothing_but_the_hosts_time() -> None:
    first, second = (json.loads(stage2("run", "el0", "--json").stdout) for _ in range(2))
    del first["host"], second["host"]
    assert first == second


def test_the_outcome_says_what_machine_was_asked_for(program: Program, tmp_path: Path) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(bytes(5000))
    options = ("--gic", "2", "--initrd", initrd, "--seed", "3", "--quantum", "2K", "--mem", "32M")
    outcome = json.loads(stage2("run", program(*SYSTEM_OFF), "--json", *options).stdout)
    assert outcome["machine"] == {
        "memory": 32 << 20,
        "cpus": 1,
        "gic": 2,
        "initrd": 5000,
        "seed": 3,
        "kaslr": False,
        "quantum": 2000,
        "virtio": [],
    }


def test_the_trace_shows_the_hypervisors_events_in_order() -> None:
    result = stage2("run", "hello", "--trace", "--quiet")
    lines = result.stderr.splitlines()
    assert all(re.match(r"  vcpu-0 \[000\] +-?\d+: kvm_\w+: ", line) for line in lines)
    names = [line.split(": ")[1] for line in lines]
    assert names[:4] == ["kvm_entry", "kvm_exit", "kvm_guest_fault", "kvm_entry"]
    assert names[-1] == "kvm_userspace_exit"


def test_equal_runs_leave_equal_trace_files(tmp_path: Path) -> None:
    files = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for file in files:
        stage2("run", "hello", "--quiet", "--trace-file", file)
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert json.loads(first.splitlines()[0])["event"] == "kvm_entry"


def test_the_dirty_log_names_the_pages_that_were_written(program: Program) -> None:
    x1_ram = 0xD2A82001  # mov x1, #0x41000000
    path = program(x1_ram, STORE, *SYSTEM_OFF)
    outcome = json.loads(stage2("run", path, "--dirty-log", "--json").stdout)
    (log,) = outcome["dirty"]
    assert (log["slot"], log["pages"], log["dirty"]) == (0, 16384, [0x4100_0000])


def test_a_dirty_ring_that_fills_up_gives_the_same_pages_as_the_bitmap(program: Program) -> None:
    path = program(
        0xD2A82001,  # mov x1, #0x41000000
        0xD2802583,  # mov x3, #300
        STORE,
        0x91400421,  # add x1, x1, #0x1000
        0xF1000463,  # subs x3, x3, #1
        0x54FFFFA1,  # b.ne -12
        *SYSTEM_OFF,
    )
    ring, bitmap = (
        json.loads(stage2("run", path, "--dirty-log", *options, "--json").stdout)
        for options in (("--dirty-ring", "256"), ())
    )
    assert ring["exits"] == {"DIRTY_RING_FULL": 1, "SYSTEM_EVENT": 1}
    assert bitmap["exits"] == {"SYSTEM_EVENT": 1}
    assert ring["dirty"] == bitmap["dirty"]
    assert len(ring["dirty"][0]["dirty"]) == 300


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--dirty-log", "--dirty-ring", "100"), "from 256 to 65536, not 100"),
        (("--dirty-log", "--dirty-ring", "128"), "from 256 to 65536, not 128"),
        (("--dirty-log", "--dirty-ring", "131072"), "from 256 to 65536, not 131072"),
        (("--dirty-ring", "256"), "nothing to record; add --dirty-log"),
    ],
)
def test_a_dirty_ring_that_cannot_be_is_refused(options: tuple[str, ...], text: str) -> None:
    result = stage2("run", "hello", *options)
    assert result.exit_code == 2
    assert text in result.stderr


def test_unclaimed_mmio_is_counted_and_reported(program: Program) -> None:
    result = stage2("run", program(X1_HOLE, STORE, STORE, *SYSTEM_OFF))
    assert "unclaimed     2 x write at 0x0b20_0000" in result.stderr


def test_a_slot_is_filled_from_its_file(program: Program, tmp_path: Path) -> None:
    (tmp_path / "rom").write_bytes((7).to_bytes(4, "little"))
    x3_slot, load, store = 0xD2AA0003, 0xB9400062, STORE  # mov x3, #0x50000000; ldr w2, [x3]
    path = program(x3_slot, load, X1_TEST_DEVICE, store, *SYSTEM_OFF)
    slot = f"id=1,gpa=0x50000000,size=4K,ro,file={tmp_path / 'rom'}"
    assert stage2("run", path, "--slot", slot).exit_code == 7


# -- options of bundled guests ------------------------------------------------------------------


def test_a_guests_own_options_come_first() -> None:
    outcome = json.loads(stage2("run", "dirty_pattern", "--json").stdout)
    assert [(log["slot"], log["pages"]) for log in outcome["dirty"]] == [(1, 128)]
    assert outcome["exit_code"] == 0


def test_the_command_line_overrides_a_guests_own_slot() -> None:
    options = ("--slot", "id=1,gpa=0x50000000,size=1M,log", "--dirty-log")
    outcome = json.loads(stage2("run", "dirty_pattern", *options, "--json").stdout)
    assert [(log["slot"], log["pages"]) for log in outcome["dirty"]] == [(0, 16384), (1, 256)]


# -- bad input ----------------------------------------------------------------------------------


def test_a_misspelt_guest_is_answered_with_the_nearest_name() -> None:
    assert error("run", "helo") == "no guest is called 'helo', and no file; did you mean 'hello'?"


def test_an_unknown_name_is_answered_with_the_list_command() -> None:
    assert error("run", "zzz") == (
        "no guest is called 'zzz', and no file; 'stage2 guests' lists the bundled ones"
    )


def test_a_missing_file_is_refused() -> None:
    assert error("run", "./no/such.elf") == "there is no file no/such.elf; check the path"


def test_a_missing_source_is_refused() -> None:
    assert "there is no such file" in error("run", "./no/such.S")


def test_a_truncated_elf_file_is_refused(
    make_elf: Callable[..., bytes], guest_file: Callable[[bytes], Path]
) -> None:
    path = guest_file(make_elf()[:100])
    assert error("run", path) == (
        f"{path} is a truncated ELF file: 100 bytes, its headers speak of 120; "
        "copy or build it again"
    )


def test_an_elf_file_for_another_machine_is_refused(
    make_elf: Callable[..., bytes], guest_file: Callable[[bytes], Path]
) -> None:
    path = guest_file(make_elf(machine=243))
    assert error("run", path) == (
        f"{path} is an ELF file for RISCV, not for AArch64; build it with -target aarch64"
    )


def test_an_image_larger_than_memory_is_refused(guest_file: Callable[[bytes], Path]) -> None:
    path = guest_file(bytes(2 << 20))
    assert error("run", path, "--mem", "1M") == (
        f"{path} has 2M, the guest has 1M; give the guest more with --mem"
    )


def test_an_entry_point_outside_ram_is_refused(
    make_elf: Callable[..., bytes], guest_file: Callable[[bytes], Path]
) -> None:
    path = guest_file(make_elf(entry=0x1000))
    assert error("run", path) == (
        f"{path}: the entry point 0x0000_1000 lies outside the guest's memory "
        "(0x4000_0000 to 0x43ff_ffff); relink the guest for RAM"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ("--slot", "id=1,gpa=0x40100000,size=64K"),
            (
                "RAM at 0x4000_0000 to 0x43ff_ffff and slot 1 at 0x4010_0000 to 0x4010_ffff "
                "overlap; move one with gpa="
            ),
        ),
        (
            ("--slot", "id=1,gpa=0x50000800,size=64K"),
            (
                "slot 1 starts at 0x50000800, which is not page aligned; the next page is "
                "gpa=0x50001000"
            ),
        ),
        (
            ("--slot", "gpa=0x50000000"),
            (
                "--slot 'gpa=0x50000000': id and size missing; write it as "
                "id=1,gpa=0x50000000,size=64K[,ro][,log][,backing=2M][,file=PATH]"
            ),
        ),
        (
            ("--slot", "id=1,gpa=0x50000000,size=4K,file=/no/file"),
            "slot 1: cannot read /no/file: No such file or directory; check file=",
        ),
        (
            ("--slot", f"id=1,gpa=0x50000000,size=4K,file={__file__}"),
            f"slot 1: {__file__} does not fit its 4K; raise size=",
        ),
        (("--ipa-bits", "30"), "--ipa-bits is 32 to 52, not 30; the default is 40"),
        (("--ipa-bits", "48"), "--ipa-bits is 32 to 44 on a cortex-a72, not 48; choose less"),
        (
            ("--cpu", "cortex-a5"),
            (
                "--cpu: no profile and no file is called 'cortex-a5'; "
                "the profiles are max, cortex-a72, neoverse-n1"
            ),
        ),
        (("--cpu", "/etc/passwd"), "--cpu: /etc/passwd: not TOML:"),
        (("--ipa-bits", "52", "--cpu", "neoverse-n1"), "--ipa-bits is 32 to 48 on a neoverse-n1"),
        (("--ipa-bits", "many"), "Invalid value for '--ipa-bits': 'many' is not a valid integer"),
        (("--mem", "64Q"), "--mem is a number such as 64K, 1G, 4096 or 0x1000, not '64Q'"),
        (("--mem", "0"), "RAM has size 0; give it at least one page of 4K with --mem"),
        (("--mem", "10T", "--ipa-bits", "44"), "the host has no 10T of memory for the guest"),
        (
            ("--backing", "16K"),
            (
                "a backing is one of 4K, 2M, 1G, private, private-2M, private-1G, thp, gmem, "
                "each with +OFFSET if wanted, not '16K'"
            ),
        ),
        (
            ("--backing", "1G"),
            "RAM has 64M, which is not a multiple of its 1G pages; change --mem or the backing",
        ),
        (("--smp", "0"), "--smp is 1 to 123 on a machine with a GICv3, not 0"),
        (("--gic", "4"), "Invalid value for '--gic': '4' is not one of 'none', '2', '3'"),
        (("--quantum", "0"), "--quantum 0 leaves no vCPU a turn; give at least 1"),
        (
            ("--rtc-base", "today"),
            "--rtc-base is a date such as 2024-01-01 or 2024-01-01T12:30:00, not 'today'",
        ),
        (
            ("--rtc-base", "2024-01-01T00:00:00+01:00"),
            "--rtc-base is a date such as 2024-01-01 or 2024-01-01T12:30:00, not",
        ),
        (("--rtc-base", "2200-01-01"), "--rtc-base is a date from 1970 to 2106, not '2200-01-01'"),
        (("--seed", "x"), "--seed is a number such as 500K, 2G or 1000, not 'x'"),
        (("--initrd", "/no/file"), "--initrd: cannot read /no/file: No such file or directory"),
        (("--max-insns", "0"), "--max-insns 0 leaves nothing to run; give at least 1"),
        (("--max-insns", "few"), "--max-insns is a number such as 500K, 2G or 1000, not 'few'"),
        (
            ("--trace-file", "/no/dir/f.jsonl"),
            "--trace-file: cannot write /no/dir/f.jsonl: No such",
        ),
        (("--colour",), "No such option '--colour'"),
    ],
)
def test_an_impossible_option_is_refused_in_one_line(options: tuple[str, ...], text: str) -> None:
    assert error("run", "hello", *options).startswith(text)


def test_the_guest_argument_is_asked_for() -> None:
    assert error("run") == "Missing argument 'GUEST'; see stage2 run --help"


# -- guests that end badly ----------------------------------------------------------------------


def test_a_guest_that_never_ends_is_stopped_and_its_loop_shown(program: Program) -> None:
    result = stage2("run", program(NOP, NOP, BACK_ONE), "--max-insns", "10K")
    assert result.exit_code == 3
    assert "program.bin never ended, exit code 3" in result.stderr
    assert "it goes round a loop of 2 instructions" in " ".join(result.stderr.split())
    assert "0x4008_0004  nop" in result.stderr


def test_a_guest_that_never_ends_says_so_in_one_line_when_quiet(program: Program) -> None:
    result = stage2("run", program(LOOP), "--max-insns", "10K", "--quiet")
    assert result.exit_code == 3
    assert result.stderr == (
        "stage2: program.bin never ended: the guest did not end within 10,000 instructions: "
        "it goes round a loop of 1 instruction\n"
    )


def test_a_guest_that_waits_for_nothing_is_not_waited_for(program: Program) -> None:
    result = stage2("run", program(WAIT, BACK_ONE), "--json")
    outcome = json.loads(result.stdout)
    assert (result.exit_code, outcome["end"]) == (3, "idle")
    assert outcome["crash"]["steps"][-1]["text"].strip() == "wfi"
    assert "SYSTEM_OFF" in outcome["crash"]["advice"]


def test_a_wild_jump_is_traced_back_to_the_branch(program: Program) -> None:
    result = stage2("run", program(NOP, *JUMP_AWAY), "--json")
    outcome = json.loads(result.stdout)
    crash = outcome["crash"]
    assert (result.exit_code, outcome["end"]) == (3, "stuck")
    assert crash["what"] == "the guest jumped to 0x1234_0000, where no code can be fetched"
    assert crash["pc"] == 0x1234_0000
    assert [step["text"] for step in crash["steps"][-2:]] == ["br x0", "(nothing to fetch)"]
    assert "tried to fetch an instruction" in crash["syndrome"]


def test_an_undefined_instruction_without_vectors_is_named(program: Program) -> None:
    result = stage2("run", program(NOP, UNDEFINED), "--json")
    crash = json.loads(result.stdout)["crash"]
    assert result.exit_code == 3
    assert crash["what"] == (
        "the exception at 0x4008_0004 found no code at its vector, 0x0000_0200"
    )
    assert crash["syndrome"] == "An instruction was UNDEFINED, or the reason is unknown."
    assert crash["registers"]["VBAR_EL1"] == 0
    assert crash["registers"]["ELR_EL1"] == 0x4008_0004


def test_a_handler_that_runs_into_an_exception_itself_is_named(program: Program) -> None:
    adr, msr_vbar, svc = 0x10003FE0, 0xD518C000, 0xD40000E1  # adr x0, .+2044; svc #7
    words = [NOP, adr, msr_vbar, svc] + [NOP] * (512 - 4)
    words += [NOP] * 128 + [UNDEFINED]  # at vector 0x200
    result = stage2("run", program(*words), "--json")
    crash = json.loads(result.stdout)["crash"]
    assert result.exit_code == 3
    assert crash["what"] == (
        "nothing retires any more: the handler of exceptions takes one itself, at 0x4008_0a00"
    )
    assert [step["text"] for step in crash["steps"]][-2:] == ["svc #7", "udf #0"]
    assert crash["syndrome"] == "An instruction was UNDEFINED, or the reason is unknown."


def test_an_access_that_cannot_be_emulated_is_named_with_its_way_out(program: Program) -> None:
    result = stage2("run", program(X1_HOLE, LOAD_PAIR, *SYSTEM_OFF), "--json")
    outcome = json.loads(result.stdout)
    assert (result.exit_code, outcome["end"]) == (3, "crashed")
    assert outcome["crash"]["steps"][-1]["text"] == "ldp x2, x3, [x1]"
    assert "--nisv" in outcome["crash"]["advice"]


def test_an_endless_chain_of_exceptions_is_told_from_a_plain_loop(program: Program) -> None:
    adr, msr_vbar, svc = 0x10003FE0, 0xD518C000, 0xD40000E1  # adr x0, .+2044; svc #7
    words = [NOP, adr, msr_vbar, svc] + [NOP] * (512 - 4)
    words += [NOP] * 128 + [NOP, svc]  # at vector 0x200: SVC again
    result = stage2("run", program(*words), "--max-insns", "10K")
    assert result.exit_code == 3
    text = " ".join(result.stderr.split())
    assert "it takes one exception after another" in text
    assert "SVC" in text


# -- Ctrl-C and pipes ---------------------------------------------------------------------------


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "lab.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


TRAPPING_LOOP = (LOAD_FLAGS, BACK_ONE)


@pytest.mark.parametrize("after", [(LOOP,), TRAPPING_LOOP], ids=["computing", "trapping"])
def test_ctrl_c_ends_the_run_with_a_summary(program: Program, after: tuple[int, ...]) -> None:
    newline = 0x52800142  # mov w2, #'\n'
    path = program(X1_UART, W2_CHARACTER, STORE_BYTE, newline, STORE_BYTE, *after)
    with start("run", path, "--max-insns", "100G") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"x\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"program.bin interrupted, exit code 130" in stderr


def test_a_reader_that_goes_away_ends_the_run_silently(program: Program) -> None:
    newline, back_two = 0x52800142, 0x17FFFFFE
    path = program(X1_UART, newline, STORE_BYTE, BACK_ONE, back_two)
    with start("run", path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""


# -- guests of other projects -------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code"), [(1, 0), (3, 1), (127, 63)])
def test_a_printed_status_is_the_exit_code_of_a_guest_that_knows_no_other(
    tmp_path: Path, status: int, code: int
) -> None:
    pytest.importorskip("ziglang")
    source = tmp_path / "foreign.c"
    source.write_text(
        f'#include "firmware.h"\nint main(void) {{ puts("\\nEXIT: STATUS={status}\\n");'
        "hvc(0x84000008, 0, 0, 0); return 0; }\n"
    )
    assert stage2("run", source).exit_code == code
