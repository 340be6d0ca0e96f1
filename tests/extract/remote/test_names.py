"""What is shown of a URL, and what patterns of names stand for."""

from __future__ import annotations

import pytest
from clipcache.cache.common.urls import is_url, without_credentials, word_without_credentials
from clipcache.extract.remote.names import expand_braces, identity, is_tar, kind_of


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://host/a.mp4", "https://host/a.mp4"),
        ("https://me:pw@host:8080/a/b.mp4?X-Amz-Signature=1#t=2", "https://host:8080/a/b.mp4"),
        ("https://token@host/a@b.mp4", "https://host/a@b.mp4"),
        ("https://me:p@w@host/a.mp4", "https://host/a.mp4"),
        ("https://host?sig=a/b@c", "https://host"),
        ("s3://key:secret@bucket/a b.mp4", "s3://bucket/a b.mp4"),
        ("s3://key:sec/ret@bucket/a.mp4", "s3://bucket/a.mp4"),
        ("https://me:p?w@host/a.mp4?sig=1", "https://host/a.mp4"),
        ("https://me:p#w", "https://"),
        ("https://host:80/a@b.mp4", "https://host:80/a@b.mp4"),
        ("http://[::1]:80/a.mp4", "http://[::1]:80/a.mp4"),
        ("s3://arn:aws:s3:us-east-1:1:accesspoint/a/b.mp4", "s3://arn:aws:s3:us-east-1:1:accesspoint/a/b.mp4"),
    ],
)
def test_credentials_are_not_shown(url: str, expected: str) -> None:
    assert without_credentials(url) == expected
    assert word_without_credentials(f"--list={url}") == f"--list={expected}"


def test_a_query_counts_without_its_signature() -> None:
    one = identity("https://host/get?id=1&X-Amz-Signature=a&X-Amz-Credential=b&Expires=5")
    assert one == identity("https://me:pw@host/get?sig=z&id=1")
    assert one != identity("https://host/get?id=2")
    assert identity("https://host/get?token=1") == "https://host/get"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{000..002}.tar", ["000.tar", "001.tar", "002.tar"]),
        ("{9..11}.tar", ["9.tar", "10.tar", "11.tar"]),
        ("{2..0}.tar", ["2.tar", "1.tar", "0.tar"]),
        ("{a,b}-{0..1}.tar", ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]),
        ("https://h/{1..2}.mp4", ["https://h/1.mp4", "https://h/2.mp4"]),
        ("{1..2}.mp4", ["{1..2}.mp4"]),
        ("{a}.tar", ["{a}.tar"]),
        ("{x..y}.tar", ["{x..y}.tar"]),
    ],
)
def test_braces(name: str, expected: list[str]) -> None:
    assert expand_braces(name) == expected


@pytest.mark.parametrize("name", ["{0..9999999999999}.tar", "{000..999}{000..999}{000..999}.tar"])
def test_too_many_names(name: str) -> None:
    with pytest.raises(ValueError, match="tar"):
        expand_braces(name)


def test_kinds_of_names() -> None:
    assert is_url("s3://a/b")
    assert not is_url("/a/s3://b")
    assert is_tar("A.TAR.GZ")
    assert is_tar("https://h/a.tgz?x=1.mp4")
    assert not is_tar("https://h/a.mp4?x=1.tar")
    assert [kind_of(name, sounds=True) for name in ("a.MP4", "a/b.wav", ".a.mp4", "a.jpg", "mp4")] == [
        "video",
        "audio",
        "",
        "",
        "",
    ]
    assert kind_of("a.wav", sounds=False) == ""
