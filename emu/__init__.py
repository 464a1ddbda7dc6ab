"""The machine: silicon, what the Arm ARM says."""
