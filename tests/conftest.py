"""How hypothesis searches: the same examples on every run, more of them on request."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("thorough", deadline=None, derandomize=True, max_examples=2000)
settings.load_profile(os.environ.get("STAGE2_HYPOTHESIS", "default"))
