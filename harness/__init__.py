"""The harness: Go programs, several libgos, a guest that may die of it, and a matrix of what happened.

A package a stage: conf -> programs -> build -> guest -> images -> trial -> results -> run -> bisect -> cli. Each
imports only those before it, and says in its first lines what it holds, what it may import and what it must not know.
docs/architecture.md follows one program all the way.
"""

__version__ = "0.1.0"
