"""HTML pages to look at: the report on a codes file, and the montage of similar images.

`report` gathers what is known about a codes file: the `answers` of a model to images that it has not seen, a map of the
images (`scatter`), `plots`, and `provenance`. If there are many images, `shown_images` chooses those that the page
shows. `report_sections` turns all of it into values, and `render` puts the values into a template of `templates/`. A
page is one HTML file that loads nothing else. `codes_page` shows a codes file in a notebook. `curves_section` is the
part of a report on fine-tuning.
"""
