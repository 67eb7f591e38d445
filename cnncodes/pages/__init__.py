"""Pages for people who look: the report on a codes file, and the montage of similar images.

`report` gathers what is known about a codes file: `answers` of a model to images that it has not seen, their places on
a map (`scatter`), `plots`, `provenance`, and of many images those that are shown (`choosing`). `sections` turns it into
values, and `page` puts these into a template. A page is one HTML file that fetches nothing; its parts lie in
`templates/`.
"""
