"""Dense linear solvers with scikit-learn's objectives.

`classifiers` holds the two estimators; both call `path`, which fits one C or many: it weighs the rows, replaces a few
long ones by their coordinates in `row_space`, and hands them to `hinge_path` (SVM) or `logistic_path`, whose objectives
are in `hinge` and `logistic`. Those solve `newton_system`s with the products of a `matrix`, or of a `gpu_matrix` where
`device` says so, and the solutions come back as a `linear_path`. `threads` keeps BLAS to one thread for small rows.
"""
