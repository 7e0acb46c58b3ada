"""The bisect: which part of a patch, or which commit, changes what a program does, when it does so only now and then.

May import run and all below.
Must not know the command line, or how a trial runs: it chooses the next libgo to try, and a run tries it.
"""

import os

# The search multiplies small matrices, for which OpenBLAS's threads cost more than they gain; trials need the cores.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
