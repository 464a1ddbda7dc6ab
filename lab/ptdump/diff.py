"""What differs between two dumps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from emu.arch.address import IPA
from hyp.pte import GRANULE, PTE_ADDR, pte_to_phys
from lab.ptdump.decode import attributes
from lab.ptdump.dump import Run
from lab.sizes import format_address, format_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.text import Text

    from lab.ptdump.decode import Attributes
    from lab.ptdump.dump import Dump


class Change(Enum):
    """What became of a range, and how ``diff`` marks it."""

    MAPPED = "+"
    UNMAPPED = "-"
    CHANGED = "~"


@dataclass(frozen=True, slots=True)
class Difference:
    """A range whose entries differ between two dumps, all of it in the same way.

    Attributes
    ----------
    change
        What became of it.
    start, end
        The range.
    old, new
        An entry of each dump, as if there were one that begins at ``start``.
    old_fwb, new_fwb
        Whether HCR_EL2.FWB was set.
    """

    change: Change
    start: IPA
    end: IPA
    old: Run
    new: Run
    old_fwb: bool = False
    new_fwb: bool = False

    @property
    def size(self) -> int:
        """The length of the range in bytes."""
        return self.end - self.start

    def what(self) -> list[str]:
        """Return what changed, each as one phrase: ``perm r-x -> rwx``."""
        old, new = self._sides()
        phrases = [
            f"{name} {before or 'none'} -> {after or 'none'}"
            for name, before, after in (
                ("size", _size(self.old), _size(self.new)),
                ("perm", old.prot, new.prot),
                ("memory", old.memory, new.memory),
                ("share", old.share, new.share),
                ("af", str(int(old.af)), str(int(new.af))),
                ("sw", f"{old.sw:#x}", f"{new.sw:#x}"),
                ("entry", old.annotation, new.annotation),
            )
            if before != after
        ]
        if self.old.valid and pte_to_phys(self.old.pte) != pte_to_phys(self.new.pte):
            before, after = (format_address(pte_to_phys(run.pte)) for run in (self.old, self.new))
            phrases.insert(0, f"pa {before} -> {after}")
        return phrases or ["reserved bits"]

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "change": self.change.name.lower(),
            "ipa": self.start,
            "size": self.size,
            "old": {"level": self.old.level, "pte": self.old.pte},
            "new": {"level": self.new.level, "pte": self.new.pte},
            "what": self.what() if self.change is Change.CHANGED else [],
        }

    def _sides(self) -> tuple[Attributes, Attributes]:
        return (
            attributes(self.old, fwb=self.old_fwb),
            attributes(self.new, fwb=self.new_fwb),
        )

    def __str__(self) -> str:
        old, new = self._sides()
        run, found = (self.old, old) if self.change is Change.UNMAPPED else (self.new, new)
        text = (
            f"{self.change.value} {format_address(self.start)}-{format_address(self.end)} "
            f"{format_size(self.size):>6} "
        )
        if self.change is Change.CHANGED:
            return text + ", ".join(self.what())
        pa = format_address(pte_to_phys(run.pte))
        return f"{text} {_size(run)} {found.prot} pa {pa} {found.memory}"


def compare(old: Dump, new: Dump) -> list[Difference]:
    """Return what differs, by ascending address.

    An address space that is larger than the other's counts as mapping nothing there.
    """
    found: list[Difference] = []
    for start, end, before, after in _overlaps(old, new):
        change = _change(before, after)
        if change is None:
            continue
        last = found[-1] if found else None
        if last is not None and last.end == start and _goes_on(last, change, before, after):
            found[-1] = Difference(change, last.start, end, last.old, last.new, old.fwb, new.fwb)
        else:
            found.append(Difference(change, start, end, before, after, old.fwb, new.fwb))
    return found


def show(differences: list[Difference]) -> Iterator[Text]:
    """Yield a line for each difference, then the sums."""
    from rich.text import Text  # noqa: PLC0415  # start-up time

    for difference in differences:
        yield Text(str(difference), _STYLES[difference.change])
    sums = (
        f"{format_size(sum(found.size for found in differences if found.change is change))} "
        f"{change.name.lower()}"
        for change in Change
    )
    yield Text(", ".join(sums))


_STYLES: Final = {Change.MAPPED: "green", Change.UNMAPPED: "red", Change.CHANGED: "yellow"}


def _size(run: Run) -> str:
    return format_size(GRANULE[run.level]) if run.valid else ""


def _overlaps(old: Dump, new: Dump) -> Iterator[tuple[IPA, IPA, Run, Run]]:
    """Yield the ranges over which one run of each dump goes, cut to the range."""
    limit = IPA(1 << max(old.ipa_bits, new.ipa_bits))
    olds, news = _runs(old, limit), _runs(new, limit)
    before, after, start = next(olds), next(news), IPA(0)
    while start < limit:
        end = min(before.end, after.end)
        yield start, end, _cut(before, start), _cut(after, start)
        start = end
        if start < limit:
            before = next(olds) if before.end == start else before
            after = next(news) if after.end == start else after


def _runs(dump: Dump, limit: IPA) -> Iterator[Run]:
    yield from dump.runs
    end = dump.runs[-1].end
    if end < limit:
        granule = GRANULE[dump.start_level]
        yield Run(end, dump.start_level, 0, (limit - end) // granule)


def _cut(run: Run, start: IPA) -> Run:
    """Return a run as if it began at ``start``, where the other dump's entry may begin."""
    if not run.valid or start == run.ipa:
        return run._replace(ipa=start)
    return Run(start, run.level, run.pte + (start - run.ipa), run.length)


def _change(old: Run, new: Run) -> Change | None:
    if not old.valid and not new.valid:
        # Where nothing is mapped, it does not matter how large the hole's entries are.
        return None if old.pte == new.pte else Change.CHANGED
    if old.valid and new.valid:
        same = (old.level, old.pte) == (new.level, new.pte)
        return None if same else Change.CHANGED
    return Change.MAPPED if new.valid else Change.UNMAPPED


def _goes_on(last: Difference, change: Change, old: Run, new: Run) -> bool:
    """Return whether a range is more of the one before it."""
    distance = new.ipa - last.start
    return (
        last.change is change
        and _follows(last.old, old, distance)
        and _follows(last.new, new, distance)
    )


def _follows(first: Run, later: Run, distance: int) -> bool:
    """Return whether an entry is like an earlier one, its output further on by ``distance``."""
    if first.pte & ~PTE_ADDR != later.pte & ~PTE_ADDR:
        return False
    if not first.valid:
        return first.pte == later.pte
    return first.level == later.level and later.pte == first.pte + distance
