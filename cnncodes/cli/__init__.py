"""The command line: a module for each command, which parses, calls one library function and renders.

`main` is the group of the commands. `options` are those that several commands take. `output` is what they show: they
print by its functions alone. `scores` are the figures that `fit` and `evaluate` show, `curves` those of `finetune`.
"""
