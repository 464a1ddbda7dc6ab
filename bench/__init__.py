"""Benchmarks: what an abort, a refill, an exit and plain guest code cost, as ratios of one run."""
