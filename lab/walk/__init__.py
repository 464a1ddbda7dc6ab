"""``stage2 walk``: translations explained, from a run or from a description."""
