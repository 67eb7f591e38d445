"""What labelled codes tell beyond a fitted model: which layer, which case, which labels are wrong.

Each verb (`compare`, `advise`, `audit`) is a module; the others are what the verbs rest on.
"""
