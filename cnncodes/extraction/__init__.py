"""Images × network → codes: the work that is done once, survives a kill, and never loses a row.

`extract` reads the `settings` and makes a `task` of them, which builds the network, lets `reuse` match the images with
the rows of an existing file (by their `stamps`, or else by their bytes), `prepare` the file, and `fill` the rows that
it lacks; `workers` decode and run batches, and the `journal` remembers which images they are at. `shards` deals images
out to several machines, `merge` joins their files. `verify` computes a sample again; `in_memory` computes codes of new
images for models, and `cache` those of estimators.
"""
