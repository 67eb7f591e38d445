"""Images and what is known about them: found, labelled, decoded to RGB pixels.

`loading` takes whatever a user gives and asks `folders`, `manifests` or `arrays`, which find `files` and read `labels`;
all of them return one `image_set`. `layouts` says what folders mean, `tables` what spreadsheets wrote. The files of a
set are turned into pixels by `decoding`, which asks `formats` what opens a file, `number_format` what its numbers mean,
and `colours` for colours, converted by `profiles`; `libtiff` is kept quiet meanwhile. `sheet` draws many small ones.
A URL (`urls`) is a `remote` file, or a folder that `remote_folders` lists; `network` asks for it. What a `walk` through
folders meets means the same there as on a disk.
`archives` reads ZIP and tar archives as if they were folders: `archive_names` says which are meant, `zip_members` and
`tar_entries` what they list.
"""
