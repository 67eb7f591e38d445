"""Networks and their weights: which there are, how they are built, frozen, cut at layers, and fed.

`registry` finds a `network` by its name: in `torchvision_zoo`, in `timm_zoo`, or among those that the user registered;
what cannot be read off a network stands in `facts`. `weights` finds and verifies the file of the parameters,
`snapshots` reads folders of weights, `licences` says what it may be used for, and `checkpoint` fits it to the module.
`loading` puts these together and freezes the module: a `backbone`, which gives its layers names (`layers`).
`extractor` cuts it after the wanted layers, by `tracing` it or with hooks. `tokens` knows networks of tokens and their
poolings, `image_size` fits their positions to other images, and `pre_logits` lets a network say what enters its head.
`preprocessing` makes the pixels that it expects, and `pooling` turns its maps into codes. `cut` cuts a network in two
by its `graph` and its `parts`, for training. `portable` takes networks of the user along to other processes.
"""
