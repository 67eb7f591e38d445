"""A fitted probe bound to the network that feeds it: fitted, saved, loaded, applied, scored.

`fit` makes a `ProbeModel` (`model`) of a codes file. What the model says of codes is in its base, `LinearProbe`
(`linear_probe`); `model_content` and `model_file` save and load it. `predict` runs new images through the network of
the model and returns a `Prediction` each; `evaluate` does so with labelled images, or takes their codes from a codes
file (`stored_codes`), and returns an `EvaluationResult` (`evaluation`).
"""
