"""Linear probes on codes, and honest scores of them: arrays and codes files in, no torch and no image.

Rows are split and guarded against near-duplicates, dealt into folds, C is searched, and the answers are scored.
"""
