"""A run: a request resolved, prepared, cut into batches, given to workers, stored and resumed.

May import results and all below. Must not know the command line, bisects, or how results look.
"""
