"""AArch64 code that every guest starts with, and the build of both."""
