"""Disk images on this host: download, prepare, partition and file system, GRUB, Debian packages.

May import guest and all below: an operating system's image is booted once, to install what it lacks. Must not know
trials.
"""
