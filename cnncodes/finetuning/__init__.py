"""The upper part of a network trained further, from a fitted probe on, where that beats the probe.

`finetune` is the verb. It takes the maps of the frozen lower part from `cached_maps`, puts the fitted probe on the
upper part as its first `head`, and trains both (`training`, by the pure functions of `schedule`). Whether that pays is
found out on the folds of the probe (`out_of_fold`). A run that is killed goes on from its `state`. `curve_points`
trains the same images in other ways, too, one of them from random weights (`scratch`), and gives `curves`.
"""
