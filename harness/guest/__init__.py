"""A guest that runs: its QEMU, console, SSH, agent, saved machines, and the pool that hands out fresh ones.

May import build, programs, conf and the modules at the bottom. Must not know disk images' making, trials or Go.
"""
