"""Builds: GCC's source, patches, toolchains, libgo variants and programs, each built once and cached under its hash.

May import programs, conf and the modules at the bottom.
Must not know QEMU, guests, trials, or what a build is used for.
"""
