"""Hardware beside the core."""
