"""The hypervisor: EL2 software, what KVM/arm64 does."""
