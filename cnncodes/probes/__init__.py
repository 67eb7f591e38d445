"""Linear probes on codes, and honest scores of them: arrays and codes files in, no torch and no image.

`protocol.TrainingData` leads through it: rows are split (`split`) and guarded against near-duplicates (`guard`), dealt
into folds (`folds`), C is searched (`search`), and the answers are scored (`scores`, `intervals`). Verbs that are
handed the same object share all of that.
"""
