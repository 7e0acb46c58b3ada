"""The command line: one file for each group of commands, their shared options and output.

Imports everything below. Nothing imports it. It decides nothing: it reads options, calls, prints.
"""
