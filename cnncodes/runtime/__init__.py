"""Torch made fast: a frozen network, its precision, fusion and compilation, from pixels to pooled codes."""
