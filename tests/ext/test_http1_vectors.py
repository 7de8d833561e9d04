"""HTTP/1.1 messages collected by others: whole, byte by byte, with trailing data, compiled and interpreted."""

import base64
import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ext.http1_driver import Reader, builds, read
from ext.http1_overruled import HOST, OVERRULED

# Rows whose recorded length is not that of the body: their log spells one body with escapes and omits a bare LF.
UNCOUNTED = ("Response without `Content-Length`, but with body", "amazon.com")


@pytest.fixture(name="rows", scope="module")
def fixture_rows(vectors: Path) -> list[dict[str, Any]]:
    with gzip.open(vectors / "http1.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(name="build", params=[0, 1], ids=["compiled", "interpreted"])
def fixture_build(request: pytest.FixtureRequest) -> SimpleNamespace:
    return builds()[request.param]


def kind(row: dict[str, Any]) -> str:
    return "request" if row["type"].startswith("request") else "response"


def options(row: dict[str, Any]) -> dict[str, bool]:
    return {"no_bodies": bool(row["meta"].get("skipBody"))}


def is_lenient(row: dict[str, Any]) -> bool:
    return "lenient" in row["type"]


def with_host(data: bytes) -> bytes:
    """A Host after each HTTP/1.1 request line, unless the message has one somewhere."""
    if re.search(rb"^host *:", data, re.IGNORECASE | re.MULTILINE):
        return data
    return re.sub(rb"^([A-Z-]+ [^ \r\n]+ HTTP/1\.1\r\n)", rb"\1Host: a.test\r\n", data, flags=re.MULTILINE)


def test_every_vector_gets_its_verdict_or_the_one_of_the_table(rows: list[Any], build: SimpleNamespace) -> None:
    wrong = []
    for row in rows:
        ours = read(build, kind(row), base64.b64decode(row["b64"]), **options(row)).verdict
        wanted = OVERRULED.get(row["id"], (row["expect"],))[0]
        if ours != wanted and not (is_lenient(row) and ours == "reject"):
            wrong.append(f"{row['id']}: {ours}, not {wanted}")
    assert not wrong, "\n".join(wrong)


def test_the_table_has_no_stale_and_no_needless_row(rows: list[Any]) -> None:
    strict = {row["id"]: row["expect"] for row in rows if not is_lenient(row)}
    assert set(OVERRULED) <= set(strict)
    assert [name for name, (verdict, _) in OVERRULED.items() if verdict == strict[name]] == []


def test_the_table_only_ever_refuses_more() -> None:
    assert {verdict for verdict, _ in OVERRULED.values()} == {"reject"}
    assert all(re.match(r"RFC \d{4} §\d", why) for _, why in OVERRULED.values())


def test_a_vector_refused_for_want_of_a_host_is_as_expected_with_one(rows: list[Any], build: SimpleNamespace) -> None:
    wrong = []
    for row in rows:
        if OVERRULED.get(row["id"], ("", ""))[1] == HOST:
            reader = read(build, kind(row), with_host(base64.b64decode(row["b64"])), **options(row))
            if reader.verdict != row["expect"]:
                wrong.append(f"{row['id']}: {reader.verdict} {reader.error}")
    assert not wrong, "\n".join(wrong)


def test_bodies_are_as_long_as_the_vectors_say(rows: list[Any], build: SimpleNamespace) -> None:
    wrong = []
    for row in rows:
        data = base64.b64decode(row["b64"])
        reader = read(build, kind(row), with_host(data) if kind(row) == "request" else data, **options(row))
        if reader.verdict == row["expect"] != "reject" and not row["id"].endswith(UNCOUNTED):
            length = sum(len(message[-1]) for message in reader.messages) + len(reader.payload)
            if length != row["body_len"]:
                wrong.append(f"{row['id']}: {length}, not {row['body_len']}")
    assert not wrong, "\n".join(wrong)


def test_byte_by_byte_is_read_as_whole(rows: list[Any], build: SimpleNamespace) -> None:
    for row in rows:
        data = base64.b64decode(row["b64"])
        for message in {data, with_host(data) if kind(row) == "request" else data}:
            whole = read(build, kind(row), message, **options(row))
            drip = Reader(build, kind(row), **options(row))
            drip.give_all(message)
            assert drip.result() == whole.result(), row["id"]


def test_trailing_data_changes_nothing_that_was_read_before_it(rows: list[Any], build: SimpleNamespace) -> None:
    for row in rows:
        data = base64.b64decode(row["b64"])
        message = with_host(data) if kind(row) == "request" else data
        alone = read(build, kind(row), message, **options(row))
        followed = read(build, kind(row), message + b"\0\r\n\r\nx", **options(row))
        assert followed.messages[: len(alone.messages)] == alone.messages, row["id"]
        if alone.verdict == "reject":
            assert followed.result() == alone.result(), row["id"]


def test_both_builds_read_every_vector_alike(rows: list[Any]) -> None:
    compiled, interpreted = builds()
    for row in rows:
        data = base64.b64decode(row["b64"])
        for message in (data, with_host(data)):
            one = read(compiled, kind(row), message, **options(row)).result()
            assert one == read(interpreted, kind(row), message, **options(row)).result(), row["id"]
