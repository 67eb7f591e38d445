"""Networks and their weights: which there are, how they are built, frozen, cut at layers, and fed."""
