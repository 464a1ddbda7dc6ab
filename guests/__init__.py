"""Tiny AArch64 programs, each showing one behaviour."""
