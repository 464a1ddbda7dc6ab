"""Faults: what goes wrong (:mod:`lab.faults.models`), and when (:mod:`lab.faults.triggers`)."""
