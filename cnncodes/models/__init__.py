"""A fitted probe bound to the network that feeds it: fitted, saved, loaded, asked, scored.

`fit` makes a `ProbeModel` of codes, `model_file` keeps it, `predict` and `evaluate` use it on new images.
"""
