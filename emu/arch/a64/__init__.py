"""A64 instructions the MMU must understand: loads, stores and system instructions."""
