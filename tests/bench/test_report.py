from __future__ import annotations

import io

from rich.console import Console

from bench import report
from bench.rows import Reference, Row, Unit
from bench.timing import Spent

ROW = Row(
    "HVC",
    10.0,
    Unit.MICROSECONDS,
    (Reference("KVM in QEMU TCG", 20.0, 1.0, is_rival=True),),
)


def printed(row: Row) -> list[str]:
    output = io.StringIO()
    console = Console(file=output, width=report.WIDTH)
    console.print(report.table({"kvm": [row]}, {"kvm": Spent(2.0, 3.0, 10.0)}))
    return output.getvalue().splitlines()


def test_the_table_says_what_a_benchmark_took_by_both_clocks() -> None:
    assert any("kvm" in line and "took 10.0 s, 3.0 s CPU" in line for line in printed(ROW))


def test_the_verdict_stands_in_the_line_of_the_rival() -> None:
    (line,) = (line for line in printed(ROW) if "KVM in QEMU TCG" in line)
    assert " ".join(line.split()) == "HVC 10.0 us 20.0 us KVM in QEMU TCG 0.500x <= 1x cheaper"
