"""Extraction on the machines of a Ray cluster.

`units` keeps which rows are to be done, under way and done; `worker` is what runs on a node; `transport` is the only
module that speaks with Ray; `crew` starts workers, compares their networks and replaces those that die; `ray_cluster`
hands units out, and yields what comes back. The codes file is written by the caller alone, as for a local extraction.
"""
