"""Experiments: the command line, loaders, traces and summaries."""
