"""What is a URL, and that nothing secret of it is shown."""

import pytest

from cnncodes.images.image_set import name_of
from cnncodes.urls import as_path_or_url, base_of, is_url, public_url, suffix_of, without_secrets

SECRET = "5ecre7"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (text, True)
            for text in ("s3://b/x", "S3://b", "hf://datasets/a/b", "https://h", "zip://a.png::s3://b/c.zip")
        ),
        *(
            (text, False)
            for text in ("C:\\photos", "c:/photos", "C://photos", "photos", "s3:/b/x", "a::b.png", "://x", "")
        ),
    ],
)
def test_what_is_a_url(text: str, expected: bool) -> None:
    assert is_url(text) is expected


def test_a_file_url_is_a_path() -> None:
    assert as_path_or_url("file:///a/b%20c.png") == "/a/b c.png"
    assert as_path_or_url("FILE:///a") == "/a"
    assert as_path_or_url("file://localhost/a%23.png#x") == "/a#.png"
    assert as_path_or_url("local:///a") == "/a"
    assert as_path_or_url("file.png") == "file.png"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://me:{SECRET}@host:80/a.png", "https://host:80/a.png"),
        (f"ftp://me:{SECRET}@host/a@b.png", "ftp://host/a@b.png"),
        (f"s3://me:{SECRET}@bucket/a@b.png", "s3://bucket/a@b.png"),
        (f"s3a://me:half/{SECRET}@bucket/a.png", "s3a://bucket/a.png"),  # keys of AWS may have a slash
        (
            "s3://arn:aws:s3:us-east-1:1:accesspoint/mine/a@b.png",
            "s3://arn:aws:s3:us-east-1:1:accesspoint/mine/a@b.png",
        ),
        ("abfs://photos@account.dfs.core.windows.net/a.png", "abfs://photos@account.dfs.core.windows.net/a.png"),
        (f"https://host/a.png?X-Amz-Credential={SECRET}&X-Amz-Date=1&X-Amz-Signature={SECRET}", "https://host/a.png"),
        (f"https://host/a.png?sv=2026&se=9&sp=r&sig={SECRET}", "https://host/a.png"),
        (f"https://host/a.png?Expires=1&Signature={SECRET}&Key-Pair-Id={SECRET}", "https://host/a.png"),
        (f"https://host/get?id=7&token={SECRET}#{SECRET}", "https://host/get?id=7"),
        (f"https://host/get?id=7&access_key={SECRET}", "https://host/get?id=7"),
        (f"zip://cat/1.png::https://host/a.zip?X-Amz-Signature={SECRET}", "zip://cat/1.png::https://host/a.zip"),
        (f"zip://a::b.png::https://me:{SECRET}@host/a::b.zip", "zip://a::b.png::https://host/a::b.zip"),
        ("https://host/get?sp=7&design=blue%20sky", "https://host/get?sp=7&design=blue%20sky"),
        (f"https://[no-address/a.png?token={SECRET}", "https://[no-address/a.png"),
        ("s3://bucket/a#b?token=1.png", "s3://bucket/a#b?token=1.png"),  # all of it is a name
    ],
)
def test_secrets_are_not_shown(url: str, shown: str) -> None:
    assert public_url(url) == shown
    assert without_secrets(f"GET '{url}' failed") == f"GET '{shown}' failed"
    assert name_of(url) == shown


def test_secrets_behind_a_name_that_ends_a_url_in_a_text_are_not_shown() -> None:
    url = f"https://host/it's (1) <a>.png?id=7&X-Amz-Signature={SECRET}&X-Amz-Date=1"
    shown = "https://host/it's (1) <a>.png?id=7"
    assert public_url(url) == name_of(url) == shown
    assert without_secrets(f"GET {url} failed") == f"GET {shown} failed"


def test_parts() -> None:
    assert base_of("s3://b") == "s3://b"
    assert suffix_of("https://host/a.JPG?x=b.png") == ".jpg"
    assert suffix_of("s3://b.png") == ""
