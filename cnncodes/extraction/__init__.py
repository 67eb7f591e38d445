"""Images × network → codes: the work that is done once, survives a kill, and never loses a row.

`extract` plans, `workers` decode and run batches, `settings` says what is asked, `merge` joins parts, `verify` checks.
"""
