"""Campaigns: many runs of one guest, each with other faults, and what they say together."""
