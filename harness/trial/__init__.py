"""One trial, whole: ship, run, watch, stop, observe; its verdict, signature, diagnostics and cores.

May import guest, build and all below. Must not know who wants the trial, other trials, or where results are kept.
"""
