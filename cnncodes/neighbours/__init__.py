"""Which images are alike, by their codes and by their pictures.

`nearest` whitens codes and finds the nearest rows. `duplicates` tells copies among them, and compares `thumbnails`
where the images are at hand; `similar` finds the images of a codes file that are nearest to a new one.
"""
