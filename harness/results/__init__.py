"""Results: what trials come to, how sure that is, how it is shown. Knows nothing of QEMU, Go or how a trial runs."""
