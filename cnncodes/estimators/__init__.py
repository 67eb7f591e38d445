"""scikit-learn estimators that take images.

`transformer` turns images into codes (`CNNCodes`); `classifier` labels images, by codes that its transformer makes and
a probe on them (`CNNCodesClassifier`). `image_estimator` has the parameters that both share. `folding` and `weights`
read what `fit` is given beside images and labels. `tuning` trains the network of a classifier further.
"""
