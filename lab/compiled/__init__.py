"""Modules of emu and hyp turned into machine code by mypyc: ``stage2 compile``."""
