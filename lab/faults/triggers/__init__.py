"""Triggers: each says when a fault is injected, one kind of moment a file."""
