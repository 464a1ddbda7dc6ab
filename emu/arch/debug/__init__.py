"""Self-hosted debug as pure functions: when an exception is due, and what matches."""
