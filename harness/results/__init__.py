"""Results: the store, the matrix and its statistics, comparisons, reports.

May import trial and all below. Must not know QEMU, or how a run is made.
"""
