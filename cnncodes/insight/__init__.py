"""What labelled codes tell beyond a fitted model: which layer, which case, which labels are wrong.

Each verb is a module. `compare` cross-validates layers and gives a `comparison`; `advise` adds a `learning_curve` and
the `pretrained_head`, and weighs the `evidence`; `audit` asks each kind of `finding` (`suspects`, `duplicate_pairs`,
`outliers`, `unreadable`) to look at the images.
"""
