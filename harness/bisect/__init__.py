"""The bisect: which part of a patch, or which commit, changes what a program does, when it does so only now and then.

A caller of plan, build, trial and store: it chooses the next libgo to try, and the engine tries it.
"""
