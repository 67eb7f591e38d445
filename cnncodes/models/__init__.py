"""A fitted probe bound to the network that feeds it: fitted, saved, loaded, applied, scored.

`fit` makes a `ProbeModel` (`model`) of a codes file, and `model_file` saves and loads it. What it says of codes, without
the network, is that of its `FittedProbe` (`fitted_probe`). `predict` runs new images through the network of the model
and returns a `Prediction` each; `evaluate` does so with labelled images, or takes their codes from a codes file
(`stored_codes`), and returns an `EvaluationResult` (`evaluation`).
"""
