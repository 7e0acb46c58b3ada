"""Test programs: their model, their header, GCC's suites, and how a selection becomes programs.

May import conf and the modules at the bottom.
Must not know how a program is compiled or run.
"""
