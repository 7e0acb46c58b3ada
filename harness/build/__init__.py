"""Builds: GCC's source, patches, toolchains, libgo variants and programs, each made once under its hash.

Knows nothing of QEMU, guests or trials.
"""
