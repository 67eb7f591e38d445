"""Torch made fast: a frozen network, its precision, fusion and compilation, from pixels to pooled codes.

`tuning` chooses a `plan` for a backbone on the `devices` at hand: it learns the sizes of maps and codes from a
`first_pass`, and tries each `precision` and `fusion` on photographs, against codes in float32. `frozen_network` follows
the plan: it prepares the `forward` pass, compiles it (`compilation`) if the plan says so, and runs batches from any
thread. The `workload` decides whether compiling pays.
"""
