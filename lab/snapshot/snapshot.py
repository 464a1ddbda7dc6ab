"""Snapshots of a machine, with the hypervisor, the VMM and the guest on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.snapshot.comparing import Comparison, steps
from lab.snapshot.graph import Graph
from lab.snapshot.kinds import SnapshotError
from lab.snapshot.registers import different_register
from lab.snapshot.restoring import Plan

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from emu.images import MemoryImage
    from lab.snapshot.comparing import Step
    from lab.snapshot.graph import Entry


class Snapshot:
    """What a machine was. It never changes; the pages of memory are shared with other snapshots.

    Attributes
    ----------
    instructions
        How many all PEs had retired.
    memory
        Physical memory.
    root
        What it was taken of.
    entries, others
        What all objects held: what matters when two states are compared, and the rest.
    """

    def __init__(
        self,
        root: object,
        graph: Graph,
        image: MemoryImage,
        entries: list[Entry],
        others: list[Entry],
        instructions: int,
    ) -> None:
        self.root = root
        self.entries, self.others = entries, others
        self._pes = graph.pes
        self._memory = graph.memories[0]
        self.memory = image
        self._steps: list[Step] | None = None
        contents = {id(entry.object): entry.contents for entry in entries}
        self._registers = [contents[id(pe.engine)] for pe in graph.pes]
        self._plan = Plan([*entries, *others])
        self.instructions = instructions

    def comparison(self) -> Comparison:
        """Return a comparison of what the objects hold with what they held."""
        if self._steps is None:  # many a snapshot is never asked for it
            self._steps = steps(self.entries)
        return Comparison(self._steps)


def take(root: object) -> Snapshot:
    """Take a snapshot.

    Parameters
    ----------
    root
        The object from which everything is reached: a :class:`lab.vmm.Vmm`, a
        :class:`hyp.vm.VM`, a :class:`emu.machine.Machine`.

    Raises
    ------
    SnapshotError
        If the guest is running, or something is met that cannot be restored.
    """
    graph = graph_of(root)
    image = graph.memories[0].take_image()
    for pe in graph.pes:
        pe.engine.flush_tlb()
    retired = sum(pe.retired for pe in graph.pes)
    return Snapshot(root, graph, image, graph.entries, graph.others, retired)


def graph_of(root: object) -> Graph:
    """Return all that can change in a machine, which must not be running.

    Raises
    ------
    SnapshotError
        As :func:`take` does.
    """
    graph = Graph(root, type(root).__name__.lower())
    if len(graph.memories) != 1:
        raise SnapshotError(
            f"a snapshot is of a machine with one memory, not {len(graph.memories)}; "
            "take it of a Vmm, a VM or a Machine"
        )
    _check_stopped(graph.pes)
    return graph


def restore(root: object, snapshot: Snapshot) -> None:
    """Make everything what it was when the snapshot was taken.

    Objects stay the same ones. Who listens to events, hooks of traces, and the console's output
    stay as they are now.

    Parameters
    ----------
    root
        What the snapshot was taken of.
    snapshot
        The snapshot.

    Raises
    ------
    SnapshotError
        If it is of something else, or the guest is running.
    """
    _check_root(root, snapshot)
    pes = snapshot._pes  # noqa: SLF001  # one module
    _check_stopped(pes)
    watched = set().union(*(pe.code.pages for pe in pes))
    changed = snapshot._memory.load_image(snapshot.memory, watched)  # noqa: SLF001
    snapshot._plan.carry_out()  # noqa: SLF001
    for pe in pes:
        pe.state_replaced(changed)


def is_equal(root: object, snapshot: Snapshot) -> bool:
    """Whether :func:`first_difference` would find none; quick if there are many."""
    _check_root(root, snapshot)
    for pe, registers in zip(snapshot._pes, snapshot._registers, strict=True):  # noqa: SLF001  # one module
        if pe.engine.save_state() != registers:
            return False
    memory = snapshot._memory  # noqa: SLF001
    return (
        memory.first_difference(snapshot.memory) is None
        and snapshot.comparison().first_difference() is None
    )


def first_difference(root: object, snapshot: Snapshot) -> str | None:
    """Return where the present state first differs from a snapshot, in words; None if nowhere.

    Statistics do not count, nor what is written before it is read again (``NOT_COMPARED`` of
    :mod:`emu.state`). If there is no difference, what follows is what followed the snapshot.

    Parameters
    ----------
    root
        What the snapshot was taken of.
    snapshot
        The snapshot.

    Raises
    ------
    SnapshotError
        If it is of something else.
    """
    _check_root(root, snapshot)
    for pe, registers in zip(snapshot._pes, snapshot._registers, strict=True):  # noqa: SLF001  # one module
        if pe.engine.save_state() != registers:
            return f"PE {pe.index}: {different_register(pe, registers)}"
    memory = snapshot._memory  # noqa: SLF001
    page = memory.first_difference(snapshot.memory)
    if page is None:
        return snapshot.comparison().first_difference()
    saved, now = snapshot.memory.page(page), memory.read(page, len(snapshot.memory.page(page)))
    at = next(at for at in range(0, len(now), 8) if saved[at : at + 8] != now[at : at + 8])
    was, is_ = (int.from_bytes(page[at : at + 8], "little") for page in (saved, now))
    return f"memory at PA {page + at:#x} was {was:#018x}, is {is_:#018x}"


def _check_root(root: object, snapshot: Snapshot) -> None:
    if root is not snapshot.root:
        raise SnapshotError(
            "the snapshot is of another machine; write it to a file and read it here"
        )


def _check_stopped(pes: list[ProcessingElement]) -> None:
    for pe in pes:
        if pe.execution.running:
            raise SnapshotError(
                f"PE {pe.index} is running the guest; take and restore snapshots between two runs"
            )
