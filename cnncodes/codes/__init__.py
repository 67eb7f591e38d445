"""The codes file: codes, ids, labels and provenance of images in HDF5. Knows no network.

`writer` lays a file out and fills its rows; `file` reads them, and `checksums` compares each with its checksum.
`image_rows` says which image each row is of, and whether its codes are there; `stored_thumbnails` reads the small
pictures of the images. `load_codes` gives arrays. `layout` says where each dataset lies and refuses what is damaged or
hostile; `columns` reads and writes plain bytes at these places. `provenance` says how the codes were made; its parts
are in `provenance_parts`, their checks in `checks`. `summary` tells all of it in words, and `views` turns the rows of
several views into rows of images.
"""
