"""Images that a table names, and the lines of a table that are refused."""

from __future__ import annotations

import os

import pytest
from image_files import PNG, fill, table

from cnncodes.display import for_csv
from cnncodes.errors import ImagesError
from cnncodes.images.loading import load_images


def test_manifest(tmp_path):
    fill(tmp_path, "a/1.png", "a/2.png", "b 3.png")
    text = '\ufeffPath, Label ,group,split\na/1.png,cat,g1,train\n"a/../a/2.png",dog,g1,Test\n\n'
    text += './b 3.png ,"big, cat",g2,valid\n'
    images = load_images(table(tmp_path, text))
    assert images.ids == ["a/1.png", "a/2.png", "b 3.png"]
    assert images.labels == ["cat", "dog", "big, cat"]
    assert images.groups == ["g1", "g1", "g2"]
    assert images.splits == ["train", "test", "val"]
    assert images.root == tmp_path
    assert [images.read_bytes(row) for row in range(3)] == [PNG] * 3
    assert (images.notes, images.failures) == ([], {})


def test_manifest_with_tabs(tmp_path):
    fill(tmp_path, "1,2.png", "3.png")
    images = load_images(table(tmp_path, "label\tpath\r\ncat\t1,2.png\r\ndog\t3.png\r\n", "images.TSV"))
    assert (images.ids, images.labels, images.groups, images.splits) == (
        ["1,2.png", "3.png"],
        ["cat", "dog"],
        None,
        None,
    )


def test_manifest_keeps_its_order_and_names_of_spaces(tmp_path):
    fill(tmp_path, " 2.png", "1.png")
    images = load_images(table(tmp_path, "path,label\n1.png,x\n 2.png,x\n"))
    assert images.ids == ["1.png", " 2.png"]


def test_manifest_that_predict_has_written_names_files_that_look_like_formulas(tmp_path):
    names = ["-1 (copy).png", "'tis.png", "@home (2).png"]
    fill(tmp_path, *names)
    rows = "\n".join(f"{for_csv(name)},a" for name in names)
    assert load_images(table(tmp_path, f"path,label\n{rows}\n")).ids == names


def test_manifest_without_labels(tmp_path):
    fill(tmp_path, "1.png")
    images = load_images(table(tmp_path, "path,label,group\n1.png,,\n"))
    assert (images.labels, images.groups) == (None, None)
    assert images.notes == ["the label column is empty: the images have no labels"]
    only_paths = table(tmp_path, "path,taken\n1.png,yesterday\n")
    images = load_images(only_paths, labelled=False)
    assert (images.ids, images.labels) == (["1.png"], None)
    assert images.notes == ["columns that are not used: taken"]
    with pytest.raises(ImagesError, match=r"no column 'label', only 'path', 'taken'"):
        load_images(only_paths)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fill,label\n1.png,a\n", r"no column 'path', only 'fill', 'label'\. Expected path,label\[,group\]\[,split\]"),
        ("path,lable\n1.png,a\n", r"no column 'label', only 'path', 'lable'\. Did you mean 'lable'\?"),
        ("path:label\n1.png:a\n", r"no column 'path', only 'path:label'"),
        ("path,label,label\n1.png,a,b\n", "several columns are called 'label'"),
        ("", "it is empty; expected columns path,label"),
        ("\n\n", "it is empty"),
        ("path,label\n", "there are no rows below the header"),
        (
            "path,label\n1.png,a\nno.png,b\n",
            r"images\.csv, line 3: no such file: no\.png; paths are relative to the folder",
        ),
        (
            "path,label\n" + "".join(f"no{i}.png,b\n" for i in range(5)),
            r"lines 2, 3, 4 and 2 more: no such file: no0\.png, no1",
        ),
        ("path,label\nsub\\1.png,a\n", r"line 2: no such file: sub\\1\.png; .*write / and not"),
        (
            "path,label\nhttps://a.org/1.png,a\nhttps://me:pw@a.org/1.png,a\n",
            r"line 3: the same file again: https://a\.org/1\.png \(as in line 2\)",
        ),
        ("path,label\nfile://{outside}/out.png,a\n", "line 2: outside of the folder of the table"),
        ("path,label\n..\\out.png,a\n", "line 2: outside of the folder of the table"),
        ("path,label\n,a\n", "line 2: no such file"),
        ("path,label\nfolder,a\n", "line 2: no such file: folder"),
        ("path,label\ndangling.png,a\n", r"line 2: no such file: dangling\.png"),
        (
            "path,label\n../out.png,a\n",
            r"line 2: outside of the folder of the table: \.\./out\.png; move the table up, or allow",
        ),
        ("path,label\nlink.png,a\n", "line 2: outside of the folder of the table"),
        ("path,label\nlinked/out.png,a\n", "line 2: outside of the folder of the table"),
        ("path,label\n{outside}/out.png,a\n", "line 2: outside of the folder of the table"),
        (
            "path,label\n1.png,a\n\n./1.png,a\n",
            r"line 4: the same file again: \./1\.png \(as in line 2\); keep one row",
        ),
        ("path,label\n1.png,a\nfolder/../1.png,b\n", r"line 3: the same file again"),
        (
            "path,label,split\n1.png,a,train\n2.png,a,held\n",
            "line 3: no such split: held; write one of train, val, test",
        ),
        (
            "path,label,split\n1.png,a,train\n2.png,a,\n",
            "line 3: the split is empty; fill the split of every row, or of none",
        ),
        ("path,label\n1.png,a\n2.png, \n", "line 3: the label is empty; fill the label of every row, or of none"),
        ("path,label,group\n1.png,a,\n2.png,a,g\n", "line 2: the group is empty"),
        ("path,label\n1.png,a\n2.png\n", "line 3: the header has 2 columns, the row has: 1 cells; quote what"),
        ("path,label\n1.png,a,b,c\n", "line 2: the header has 2 columns, the row has: 4 cells"),
        ('path,label\n1.png,a\n"2.png,b\n', "line 3: not a table"),
        (b"path,label\n1.png,caf\xe9\n", "not UTF-8 text .*save it as CSV UTF-8"),
        ('path,label\n"new\nline.png",a\nno.png,b\n', r"line 4: no such file: no\.png"),
        ('path,label\n1.png,a\n"no\nway.png",b\n', r"line 3: no such file: no\\nway\.png"),
        ("path,label\n1\x00.png,a\n", "images.csv, line 2: "),
    ],
)
def test_manifest_with_faults_names_the_lines(tmp_path, text, words):
    root = fill(tmp_path / "root", "1.png", "2.png", "folder/", "new\nline.png")
    outside = fill(tmp_path / "root_twin", "out.png")  # begins like the folder of the table
    fill(tmp_path, "out.png")
    (root / "link.png").symlink_to(outside / "out.png")
    (root / "linked").symlink_to(outside)
    (root / "dangling.png").symlink_to("nowhere")
    text = text if isinstance(text, bytes) else text.replace("{outside}", str(outside))
    with pytest.raises(ImagesError, match=words) as error:
        load_images(table(root, text))
    assert str(root / "images.csv") in str(error.value)
    assert "\n" not in str(error.value)


def test_manifest_may_be_allowed_to_leave_its_folder(tmp_path):
    root = fill(tmp_path / "root", "1.png")
    fill(tmp_path, "out.png", "other/2.png")
    (root / "linked").symlink_to(tmp_path / "other")
    path = table(root, f"path,label\n1.png,a\n../out.png,b\nlinked/2.png,c\n{root}/3.png,d\n")
    fill(root, "3.png")
    images = load_images(path, allow_outside=True)
    assert images.ids == ["1.png", (tmp_path / "out.png").resolve().as_posix(), "linked/2.png", "3.png"]
    assert [images.read_bytes(row) for row in range(4)] == [PNG] * 4


def test_manifest_through_a_linked_folder_and_with_links_inside(tmp_path):
    root = fill(tmp_path / "root", "1.png")
    (root / "2.png").symlink_to("1.png")
    table(root, "path,label\n1.png,a\n2.png,b\n")
    (tmp_path / "link").symlink_to(root)
    assert load_images(tmp_path / "link" / "images.csv").ids == ["1.png", "2.png"]


def test_manifest_names_what_must_not_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    fill(tmp_path, "1.png")
    images = load_images(table(tmp_path, "path,label\npipe.png,a\n1.png,b\n"))
    assert list(images.failures) == ["pipe.png"]
