"""Pages for people who look: the report on a codes file, and the montage of similar images.

A page is one HTML file that asks nothing of the network; its parts lie in `templates/`.
"""
