"""The harness: Go programs, several libgos, a guest that may die of it, and a matrix of what happened.

Each package or module below says in its first lines what it holds and what it may not know; the way of the data is
conf -> plan -> build -> guest -> trial -> results, and `engine` is the one place that joins them.
"""

__version__ = "0.1.0"
