"""Dense linear solvers with scikit-learn's objectives, for one C or many. Imports nothing of ours but errors."""
