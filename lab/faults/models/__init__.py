"""Fault models: each says what goes wrong, one kind of place in the machine a file."""
