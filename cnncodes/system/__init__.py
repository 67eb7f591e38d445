"""Files, memory, the process and libraries: whatever depends on the machine.

`files` writes files whole, and `locks` gives a file one writer; `memory` tells how much is left; `process` sets, and
sets back, what a network needs of its process; `optional` imports libraries that may be missing; `shipped` finds the
files that come with the package.
"""
