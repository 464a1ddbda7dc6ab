"""Conformance: recorded exceptions of another implementation, replayed on the machine.

``cases`` says what a recorded case is, ``reader`` reads files of them (with ``values`` for
single JSON values), ``setup`` puts a case into a machine, ``run`` executes it, ``compare``
finds the differences, ``deviations`` knows which of them are allowed, and ``report`` and
``details`` show the result.
"""
