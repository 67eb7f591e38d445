"""Which images are alike, by their codes and by their pictures.

`nearest` whitens codes and finds the nearest rows; `similar` finds those of a codes file that are nearest to a new
image. `duplicates` is what keeps a test honest: `copies` takes candidates from the codes and from the small pictures,
`pictures` compares two of these once `registration` has laid one over the other, and `thumbnails` makes them of images
where a codes file keeps none.
"""
