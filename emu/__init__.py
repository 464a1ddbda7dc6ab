"""The machine: silicon, what the Arm ARM says."""

from emu import compiled

compiled.use()
