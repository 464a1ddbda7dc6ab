"""The hypervisor: EL2 software, what KVM/arm64 does."""

import emu  # noqa: F401  # decides whether modules of hyp come compiled, before one is imported
