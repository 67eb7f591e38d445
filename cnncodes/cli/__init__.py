"""The command line: a module for each command, which parses, calls one library function and renders.

`main` is the group of the commands, `output` what they show, `options` what several of them take.
"""
