"""Experiments under real KVM and here, all in one boot of the machine, and how they compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.kvm import ours, qemu
from lab.kvm.compare import compare
from lab.kvm.experiment import machine
from lab.kvm.report import parse
from lab.kvm.versions import profile_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lab.kvm.compare import Comparison
    from lab.kvm.experiment import Experiment
    from lab.kvm.report import Report


@dataclass(frozen=True, slots=True)
class Outcome:
    """One experiment.

    Attributes
    ----------
    experiment : Experiment
        What was done.
    theirs : Report
        What KVM did.
    profile : str
        What the hypervisor here was to be.
    comparison : Comparison or None
        None if KVM could not do it.
    """

    experiment: Experiment
    theirs: Report
    profile: str
    comparison: Comparison | None


@dataclass(frozen=True, slots=True)
class Session:
    """All experiments of one boot.

    Attributes
    ----------
    release : str
        The kernel, as ``uname -r`` prints it.
    outcomes : tuple[Outcome, ...]
        In the order of the experiments.
    """

    release: str
    outcomes: tuple[Outcome, ...]

    @property
    def same(self) -> bool:
        """Whether nothing that could be compared differs."""
        return all(each.comparison is None or each.comparison.same for each in self.outcomes)


def hold(kernel: Path, experiments: Sequence[Experiment], *, follow_kernel: bool) -> Session:
    """Do experiments under KVM, then here, and compare them.

    Parameters
    ----------
    kernel
        The Linux image that provides KVM.
    experiments
        What to do; at least one.
    follow_kernel
        Be the KVM of the kernel's age, whatever profile the configurations name.

    Raises
    ------
    UserError
        If the machine with KVM is not possible, or fails.
    """
    under_kvm = machine(qemu.vmm(), experiments)
    report = parse(qemu.boot(kernel, under_kvm.initramfs, under_kvm.memory_mib))
    outcomes = []
    for experiment in experiments:
        theirs = report.runs[experiment.name]
        profile = profile_of(report.release) if follow_kernel else experiment.config.kvm_profile
        comparison = None
        if theirs.lacks is None:
            comparison = compare(theirs, ours.run(experiment, profile))
        outcomes.append(Outcome(experiment, theirs, profile, comparison))
    return Session(report.release, tuple(outcomes))
