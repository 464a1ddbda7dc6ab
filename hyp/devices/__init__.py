"""Devices the hypervisor emulates in process."""
