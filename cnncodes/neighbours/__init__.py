"""Which images are alike: near-duplicates, copies, and the images nearest to a new one."""
