"""Trials: ship a program, run it in a guest, observe it, and say what the observation means.

Knows guests only as something that runs commands and takes files.
"""
