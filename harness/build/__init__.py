"""Builds: GCC's source, patches, toolchains, libgo variants and programs, each made once under the hash of what made it.

Knows nothing of QEMU, guests or trials.
"""
