"""Disk images on this host: download, prepare, partition and file system, GRUB, Debian packages.

May import build, conf and the modules at the bottom. Must not know a machine that runs.
"""
