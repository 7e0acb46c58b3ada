"""Guests: images, the QEMU machine, its console, its shell. Knows nothing of Go."""
