"""The command line: a module for each command, which parses, calls one library function and renders.

`main` is the group of the commands. `options` are those that several commands take, `output` is what they show, by which alone
they print, and `scores` are the figures that `fit` and `evaluate` show.
"""
