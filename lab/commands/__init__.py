"""The commands of ``stage2``, one a file."""
