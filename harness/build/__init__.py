"""Builds: GCC's source, patches, toolchains, libgo variants and programs, each made once under its hash.

May import programs, conf and the modules at the bottom. Must not know QEMU, guests or trials.
"""
