"""Tables as spreadsheets and programs write them are read right, or refused in one line that says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_files import fill, table

from cnncodes.errors import ImagesError
from cnncodes.images.loading import load_images
from cnncodes.images.tables import read_table

NFC, NFD = "caf\u00e9", "cafe\u0301"
PLAIN = 'path,label,group\n1.png,"big, cat",g\nsub/2.png,dog,h\n'
SEMICOLONS = "path;label;group\n1.png;big, cat;g\nsub/2.png;dog;h\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.encode("utf-8-sig"),
        b"\xef\xbb\xbf" + PLAIN.encode("utf-8-sig"),
        PLAIN.encode("utf-16"),
        PLAIN.encode("utf-16-be"),
        PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-32"),
        PLAIN.replace("\n", "\r"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\n\n , , \n"),
        PLAIN.replace(",", " , ").replace("big ,  cat", "big, cat"),
        'path,label,group,,\n1.png,"big, cat",g,,\nsub/2.png,dog,h,,\n',
        'path,label,group\n1.png,"big, cat",g,,\nsub/2.png,dog,h\n',
        PLAIN.replace("path", "File Name").replace("label", "CLASS").replace("group", "Group-ID"),
        PLAIN.replace("sub/", "sub\\"),
        PLAIN.replace("1.png", "{root}/1.png"),
        PLAIN.replace("1.png", "file://{root}/1.png").replace("sub/", "file://localhost{root}/sub/"),
        SEMICOLONS,
        SEMICOLONS.replace(";", "\t"),
        SEMICOLONS.replace(";", "|"),
        "sep=;\r\n" + SEMICOLONS,
        '"sep=;"\n' + SEMICOLONS,
        "SEP=\t\r" + SEMICOLONS.replace(";", "\t").replace("\n", "\r"),
        b"\xef\xbb\xbfsep=;\n" + SEMICOLONS.encode(),
        "sep=;\n" + SEMICOLONS.replace("path;label;group", '"path";"label";"group"'),
    ],
)
@pytest.mark.parametrize("name", ["images.csv", "images.tsv"])
def test_what_spreadsheets_write_is_read_as_it_is_meant(tmp_path: Path, text: str | bytes, name: str) -> None:
    root = fill(tmp_path / "a b", "1.png", "sub/2.png")
    if isinstance(text, str):
        quoted = "file://" in text
        text = text.replace("{root}", str(root).replace(" ", "%20") if quoted else str(root))
    images = load_images(table(root, text, name))
    assert images.ids == ["1.png", "sub/2.png"]
    assert [Path(str(source)).resolve() for source in images.sources] == [root / "1.png", root / "sub" / "2.png"]
    assert images.labels == ["big, cat", "dog"]
    assert images.groups == ["g", "h"]
    assert [note for note in images.notes if "is taken as" not in note] == []


def test_a_column_that_others_call_otherwise_is_taken_with_a_note(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png")
    images = load_images(table(tmp_path, "Image,Category,subset\n1.png,a,train\n2.png,b,test\n"))
    assert (images.ids, images.labels, images.splits) == (["1.png", "2.png"], ["a", "b"], ["train", "test"])
    assert images.notes == [
        "the column 'image' is taken as 'path'",
        "the column 'category' is taken as 'label'",
        "the column 'subset' is taken as 'split'",
    ]
    images = load_images(table(tmp_path, "path,label,class,set\n1.png,a,x,9\n2.png,b,y,10\n"))
    assert (images.labels, images.splits) == (["a", "b"], None)
    assert images.notes == ["columns that are not used: class, set"]
    images = load_images(table(tmp_path, ",path,label\n0,1.png,a\n1,2.png,b\n"))  # an index of pandas
    assert (images.ids, images.notes) == (["1.png", "2.png"], ["columns that are not used: one without a name"])


def test_a_column_of_row_numbers_that_the_header_lacks_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, "1.png", "2.png")
    for separator in ",\t;":
        rows = ['"path","label"', '"1","1.png","a"', '"2","2.png","b"']  # as write.table of R has it
        images = load_images(table(tmp_path, "\n".join(rows).replace(",", separator)))
        assert (images.ids, images.labels) == (["1.png", "2.png"], ["a", "b"])
        assert images.notes == ["columns that are not used: one without a name"]


def test_lines_within_quotation_marks_and_empty_rows_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, "1.png")
    read = read_table(table(tmp_path, 'sep=,\n\npath,label\n1.png,"two\nlines"\n,\n2.png,x\n'))
    assert read.rows == [(4, ["1.png", "two\nlines"]), (7, ["2.png", "x"])]
    assert (read.lines, read.column("label")) == ([4, 7], ["two\nlines", "x"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\n1.png,a\n1.png,caf\u00e9\n".encode("cp1252"), r"line 3: not UTF-8 text .*; save it as CSV UTF-8"),
        (PLAIN.encode("utf-16")[:-1], "not UTF-16.* text .*; save it as CSV UTF-8"),
        (b"PK\3\4 and more", "a workbook of a spreadsheet program; save it as CSV UTF-8 from there"),
        (b"\xd0\xcf\x11\xe0 and more", "a workbook"),
        ("1.png,a\n2.png,b\n", r"no header, but 1\.png, a: write path,label above the first row"),
        ("1.png;a\n2.png;b\n", r"no header, but 1\.png, a: write path,label above the first row"),
        ("Bild;Klasse\n1.png;a\n", "no column 'path', only 'bild', 'klasse'"),
        ("file,image,label\n1.png,1.png,a\n", "the columns file, image may all be the path; call one 'path'"),
        ("path,class,category\n1.png,a,b\n", "the columns class, category may all be the label; call one 'label'"),
        ("path;label\n1.png,a\n", "line 2: the header has 2 columns, the row has: 1 cells"),
        ('path,label\n1.png, "big, cat\n', "line 2: "),
        (",".join(["x" * 5000] * 100), r"no column 'path', only 'x+…x+'.* and 97 more"),
    ],
)
def test_what_is_unclear_is_refused_in_a_line_that_says_what_to_do(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    fill(tmp_path, "1.png", "2.png")
    with pytest.raises(ImagesError, match=words) as error:
        load_images(table(tmp_path, text))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_many_columns_and_long_names_are_not_listed_whole(tmp_path: Path) -> None:
    fill(tmp_path, "1.png")
    header = ",".join(["path", "label", *(f"{i}" * 50 for i in range(10_000))])
    images = load_images(table(tmp_path, f"{header}\n1.png,a{',' * 10_000}\n"))
    assert images.notes[0].endswith(" and 9997 more")
    assert len(images.notes[0]) < 400


def test_files_are_found_whatever_form_of_unicode_the_table_has(tmp_path: Path) -> None:
    fill(tmp_path, f"{NFD}/{NFD}.png", f"{NFC}2.png", "both/1.png")
    text = f"path,label\n{NFC}/{NFC}.png,{NFC}\n{NFD}2.png,{NFD}\n"
    images = load_images(table(tmp_path, text))
    assert images.ids == [f"{NFD}/{NFD}.png", f"{NFC}2.png"]
    assert images.failures == {}
    assert images.labels == [NFC, NFC]
    fill(tmp_path, f"{NFC}/in_the_other.png")
    assert load_images(table(tmp_path, f"path,label\n{NFD}\\in_the_other.png,a\n")).ids == [f"{NFC}/in_the_other.png"]
    with pytest.raises(ImagesError, match="line 3: the same file again"):
        load_images(table(tmp_path, f"path,label\n{NFC}2.png,a\n{NFD}2.png,b\n"))
