"""The codes file: its layout, reading, writing, and the views of an image. Knows no network."""
