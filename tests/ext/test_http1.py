"""Heads: what is read, what is refused, what is built. Both builds run everything."""

import codecs
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both
from ext.http1_driver import Reader, builds, read
from outrider_ext import http1_tables

REQUEST = (
    b"POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: api.test\r\nX-Odd:  one \t\r\nContent-Length: 2\r\n"
    b"Authorization: Bearer x\r\nX-Outrider-Tag: t\r\nx-odd: two\r\n\r\n"
)
RESPONSE = b"HTTP/1.1 429 Too Many\r\nContent-Type: text/plain\r\nRetry-After: 1\r\nX-OUTRIDER-error: e\r\n\r\n"
CAP = 64 << 10


@pytest.fixture(name="build", params=[0, 1], ids=["compiled", "interpreted"])
def fixture_build(request: pytest.FixtureRequest) -> SimpleNamespace:
    return builds()[request.param]


def scanned(build: SimpleNamespace, data: bytes, **options: Any) -> Any:
    head = build.Head(**options)
    scan = head.scan_response if data.startswith(b"HTTP") else head.scan_request
    assert scan(data, 0, CAP) == len(data)
    return head


def refusal(build: SimpleNamespace, data: bytes, cap: int = CAP, **options: Any) -> int:
    with pytest.raises(build.ProtocolError) as caught:
        build.Head(**options).scan_request(data, 0, cap)
    return int(caught.value.status)


def test_a_request_head_is_read(build: SimpleNamespace) -> None:
    head = scanned(build, REQUEST)
    assert (head.method, head.target, head.version) == (b"POST", b"/v1/chat/completions?a=b", 11)
    assert (head.start, head.end, head.count, head.content_length) == (0, len(REQUEST), 6, 2)
    assert head.get(http1_tables.H_HOST) == b"api.test"
    assert head.get(http1_tables.H_COOKIE) is None
    assert head.get_name(b"x-odd") == b"one"
    assert head.get_name(b"x-odder") is None
    assert head.items()[1] == (b"x-odd", b"one")
    assert head.mask == http1_tables.mask_of(b"host", b"content-length", b"authorization")
    assert head.keep_alive
    assert (head.chunked, head.upgrade, head.expect_continue, head.nominated) == (False, False, False, False)


def test_a_response_head_is_read(build: SimpleNamespace) -> None:
    head = scanned(build, RESPONSE)
    assert (head.status, head.reason, head.version) == (429, b"Too Many", 11)
    assert (head.content_length, head.get(http1_tables.H_RETRY_AFTER)) == (-1, b"1")


def test_a_head_in_the_middle_of_a_buffer_is_read(build: SimpleNamespace) -> None:
    head = build.Head()
    data = b"before\r\n" + REQUEST + b"after"
    assert head.scan_request(data, 6, CAP) == len(data) - 5
    assert head.start == 8  # the empty line is no part of the message
    assert head.get(http1_tables.H_HOST) == b"api.test"
    built = head.build_request(b"/x", 0, b"")
    assert built.startswith(b"POST /x HTTP/1.1\r\nHost: api.test\r\n")
    assert built.endswith(b"x-odd: two\r\n\r\n")


def test_the_buffer_may_move_while_a_scan_waits(build: SimpleNamespace) -> None:
    head = build.Head()
    assert head.scan_request(b"gone" + REQUEST[:60], 4, CAP) == 0
    assert head.scan_request(REQUEST, 0, CAP) == len(REQUEST)
    assert head.items() == scanned(build, REQUEST).items()


def test_a_reused_head_forgets_the_message_before(build: SimpleNamespace) -> None:
    head = scanned(build, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close, x\r\n\r\n")
    assert head.scan_request(REQUEST, 0, CAP) == len(REQUEST)
    assert (head.chunked, head.content_length, head.keep_alive, head.nominated) == (False, 2, True, False)
    with pytest.raises(build.ProtocolError):
        head.scan_request(b"GET / HTTP/1.1\r\nX: y\n", 0, CAP)
    assert head.scan_response(RESPONSE, 0, CAP) == len(RESPONSE)
    assert (head.method, head.status) == (b"", 429)


def test_an_unfinished_head_shows_no_fields_and_builds_nothing(build: SimpleNamespace) -> None:
    head = build.Head()
    assert head.scan_request(REQUEST[:-1], 0, CAP) == 0
    assert (head.count, head.items(), head.get(http1_tables.H_HOST), head.get_name(b"host")) == (0, [], None, None)
    for call in (lambda: head.build_request(b"/", 0, b""), lambda: head.build_response(0, b"")):
        with pytest.raises(ValueError, match="no head was scanned"):
            call()


def test_reset_forgets_an_unfinished_scan(build: SimpleNamespace) -> None:
    head = build.Head()
    assert head.scan_request(REQUEST[:50], 0, CAP) == 0
    head.reset()
    assert head.scan_response(RESPONSE, 0, CAP) == len(RESPONSE)


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: close\r\n", False),
        (b"1.1", b"Connection: Keep-Alive, ,CLOSE\r\n", False),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive\r\nConnection: close\r\n", False),
        (b"1.0", b"Proxy-Connection: keep-alive\r\n", False),
    ],
)
def test_keep_alive_follows_version_and_connection(
    build: SimpleNamespace, version: bytes, connection: bytes, kept: bool
) -> None:
    assert scanned(build, b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + connection + b"\r\n").keep_alive is kept


def test_an_upgrade_needs_both_the_option_and_the_field(build: SimpleNamespace) -> None:
    line = b"GET / HTTP/1.1\r\nHost: a\r\n"
    assert scanned(build, line + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n").upgrade
    assert not scanned(build, line + b"Connection: upgrade\r\n\r\n").upgrade
    assert not scanned(build, line + b"Upgrade: websocket\r\n\r\n").upgrade


def test_only_an_http11_client_expects_100_continue(build: SimpleNamespace) -> None:
    rest = b"\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n"
    assert scanned(build, b"POST / HTTP/1.1" + rest).expect_continue
    assert not scanned(build, b"POST / HTTP/1.0" + rest).expect_continue


def test_the_head_is_capped_in_bytes_fields_and_target(build: SimpleNamespace) -> None:
    line = b"GET / HTTP/1.1\r\nHost: a\r\n"
    exact = line + b"X: " + b"y" * 100 + b"\r\n\r\n"
    assert build.Head().scan_request(exact, 0, len(exact)) == len(exact)
    assert refusal(build, exact, len(exact) - 1) == 431
    assert refusal(build, exact[:-1], len(exact) - 1) == 431
    assert build.Head(max_fields=3).scan_request(line + b"X: y\r\n" * 2 + b"\r\n", 0, CAP) > 0
    assert refusal(build, line + b"X: y\r\n" * 2 + b"X", max_fields=3) == 431
    assert refusal(build, b"GET /" + b"a" * (16 << 10) + b" HTTP/1.1\r\n") == 414
    assert refusal(build, b"GET /" + b"a" * 500, 400) == 414
    assert refusal(build, b"A" * 40) == 501


@pytest.mark.parametrize(
    "start",
    [
        b"\n",
        b"G\n",
        b"GET /\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\r\nA\n",
        b"GET / HTTP/1.1\r\nA: b\n",
        b"GET / HTTP/1.1\r\nA: b\rc",
    ],
)
def test_an_error_is_raised_at_the_byte_that_proves_it(build: SimpleNamespace, start: bytes) -> None:
    assert build.Head().scan_request(start[:-1], 0, CAP) == 0
    assert refusal(build, start) == 400


def test_bad_arguments_are_value_errors(build: SimpleNamespace) -> None:
    for pos in (-1, 5):
        with pytest.raises(ValueError, match="pos does not lie"):
            build.Head().scan_request(b"GET ", pos, CAP)
    with pytest.raises(ValueError, match="max_fields"):
        build.Head(max_fields=0)
    with pytest.raises(ValueError, match="not a known field name"):
        http1_tables.mask_of(b"x-nobody")


class Tape(bytes):
    """Bytes that count how often one of them was looked at (the interpreted build alone looks this way)."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        Tape.looks += 1
        return super().__getitem__(at)


def test_each_byte_is_looked_at_a_few_times_however_the_head_drips() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 5_000 + b"\r\n" + b"z" * 5_000 + b": 1\r\n\r\n"
    head = builds()[1].Head()
    Tape.looks = 0
    ends = [head.scan_request(Tape(data[:size]), 0, CAP) for size in range(1, len(data) + 1)]
    assert ends[-1] == len(data)
    assert not any(ends[:-1])
    assert Tape.looks < 4 * len(data)


def documented() -> list[tuple[str, bytes, str]]:
    """The rows of docs/http1.md: (kind, message, verdict)"""
    text = (Path(__file__).resolve().parents[2] / "docs" / "http1.md").read_text("utf-8")
    rows = re.findall(r"^\| (request|response|chunks) \| `(.*?)` \| (\w+) \|", text, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| (?!kind)\w", text, re.MULTILINE))
    return [(kind, codecs.escape_decode(message)[0], verdict) for kind, message, verdict in rows]


@pytest.mark.parametrize(("kind", "message", "verdict"), documented())
def test_the_documented_strictness_is_the_real_one(
    build: SimpleNamespace, kind: str, message: bytes, verdict: str
) -> None:
    if kind == "chunks":
        message = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + message
    whole = read(build, kind.replace("chunks", "request"), message)
    assert (str(whole.error[0]) if whole.error else whole.verdict) == verdict
    drip = Reader(build, kind.replace("chunks", "request"))
    drip.give_all(message)
    assert drip.result() == whole.result()


def test_every_known_name_is_recognised_in_any_case(build: SimpleNamespace) -> None:
    special = {b"host", b"content-length", b"transfer-encoding", b"connection"}
    for name in http1_tables.NAMES:
        if name in special:
            continue
        for spelling in (name, name.upper(), name.title()):
            head = scanned(build, b"GET / HTTP/1.1\r\nHost: a\r\n" + spelling + b": v\r\n\r\n")
            assert head.mask == http1_tables.mask_of(b"host", name)
            assert head.get(http1_tables.header_id(name)) == b"v"


def test_ids_constants_and_names_agree() -> None:
    assert len(http1_tables.NAMES) <= 63
    for module in (*both("http1"), http1_tables):
        for name in http1_tables.NAMES:
            constant = "H_" + name.decode().upper().replace("-", "_")
            assert getattr(module, constant) == http1_tables.header_id(name)
    assert http1_tables.header_id(b"x-nobody") == 0


def test_a_request_is_built_from_what_is_kept(build: SimpleNamespace) -> None:
    head = scanned(build, REQUEST)
    drop = http1_tables.mask_of(b"host", b"authorization")
    built = head.build_request(b"/v1/x", drop, b"host: b\r\nauthorization: Bearer real\r\n")
    assert built == (
        b"POST /v1/x HTTP/1.1\r\nX-Odd:  one \t\r\nContent-Length: 2\r\nx-odd: two\r\n"
        b"host: b\r\nauthorization: Bearer real\r\n\r\n"
    )


def test_a_response_is_built_as_http11_with_its_own_reason(build: SimpleNamespace) -> None:
    drop = http1_tables.mask_of(b"retry-after")
    assert scanned(build, RESPONSE).build_response(drop, b"x-a: b\r\n") == (
        b"HTTP/1.1 429 Too Many\r\nContent-Type: text/plain\r\nx-a: b\r\n\r\n"
    )
    assert scanned(build, b"HTTP/1.0 200 Fine\r\nA: b\r\n\r\n").build_response(0, b"") == (
        b"HTTP/1.1 200 Fine\r\nA: b\r\n\r\n"
    )
    assert scanned(build, RESPONSE).build_response(drop, b"", 503) == (
        b"HTTP/1.1 503 \r\nContent-Type: text/plain\r\n\r\n"
    )
    assert scanned(build, RESPONSE).build_response(drop, b"", 429).startswith(b"HTTP/1.1 429 Too Many\r\n")
    for bare in (b"HTTP/1.1 204\r\n\r\n", b"HTTP/1.0 204 \r\n\r\n"):
        assert scanned(build, bare).build_response(0, b"") == b"HTTP/1.1 204 \r\n\r\n"


def test_fields_that_connection_names_are_dropped(build: SimpleNamespace) -> None:
    head = scanned(
        build,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, cookie, HTTP2-Settings, te, x-outrider-a\r\nX-HOP: 1\r\n"
        b"Cookie: c\r\nhttp2-settings: s\r\nX-Hopper: 2\r\n\r\n",
    )
    assert head.nominated
    drop = http1_tables.mask_of(b"connection")
    assert head.build_request(b"/", drop, b"") == b"GET / HTTP/1.1\r\nHost: a\r\nX-Hopper: 2\r\n\r\n"


def test_fields_of_one_hop_are_no_nomination(build: SimpleNamespace) -> None:
    options = b"close, keep-alive, upgrade, TE, transfer-encoding, trailer, connection, proxy-connection"
    head = scanned(build, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + options + b"\r\n\r\n")
    assert not head.nominated


def test_drop_names_drop_unknown_fields_in_any_case(build: SimpleNamespace) -> None:
    head = scanned(build, REQUEST)
    head.drop_names = frozenset({b"x-odd"})
    built = head.build_request(b"/", 0, b"")
    assert b"odd" not in built.lower()
    assert b"Authorization: Bearer x\r\n" in built


def test_our_own_fields_never_pass_in_either_direction(build: SimpleNamespace) -> None:
    assert b"outrider" not in scanned(build, REQUEST).build_request(b"/", 0, b"").lower()
    assert b"outrider" not in scanned(build, RESPONSE).build_response(0, b"").lower()


@pytest.mark.parametrize("target", [b"", b"/a b", b"/a\r\nX: y", b"/\xc3\xbc", b"/#"])
def test_a_target_that_would_break_the_line_is_not_written(build: SimpleNamespace, target: bytes) -> None:
    with pytest.raises(ValueError, match="target"):
        scanned(build, REQUEST).build_request(target, 0, b"")


def test_many_alternating_drops_keep_the_rest(build: SimpleNamespace) -> None:
    lines = [b"Cookie: c\r\nX-%d: y\r\n" % k for k in range(63)]
    head = scanned(build, b"HTTP/1.1 200 OK\r\n" + b"".join(lines) + b"Cookie: z\r\n\r\n")
    assert head.count == 127
    kept = b"".join(line.removeprefix(b"Cookie: c\r\n") for line in lines)
    assert head.build_response(http1_tables.mask_of(b"cookie"), b"") == b"HTTP/1.1 200 OK\r\n" + kept + b"\r\n"


TOKEN = st.text("abcXYZ09-_!", min_size=1, max_size=12).map(str.encode)
VALUE = st.binary(max_size=30).map(lambda raw: re.sub(rb"[\x00-\x1f\x7f]", b"", raw).strip(b" \t"))
FIELDS = st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in http1_tables.NAMES), VALUE), max_size=8)
MESSY = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"GET",
                b"POST",
                b"HTTP/1.1",
                b"HTTP/1.0",
                b" ",
                b"/",
                b"\r\n",
                b"\r\n",
                b"\r",
                b"\n",
                b":",
                b"200",
                b"Host: a",
                b"Content-Length: 3",
                b"Transfer-Encoding: chunked",
                b"Connection: ",
                b"close",
                b"\t",
                b"0\r\n\r\n",
                b"\0",
            ]
        ),
        st.binary(max_size=4),
    ),
    max_size=30,
).map(b"".join)
KIND = st.sampled_from(["request", "response"])


@given(fields=FIELDS, cuts=st.lists(st.integers(0, 400), max_size=6))
def test_any_cut_gives_the_same_head(fields: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    data = b"\r\nPUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n" + lines + b"\r\nabcGET / HTTP/1.1\r\n"
    for build in builds():
        whole = read(build, "request", data)
        assert whole.messages[0][3][2:] == [(name.lower(), value) for name, value in fields]
        parts = Reader(build, "request")
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        for a, b in pairwise(edges):
            parts.give(data[a:b])
        assert parts.result() == whole.result()


@given(kind=KIND, data=MESSY)
def test_garbage_gives_the_declared_error_or_a_result_in_both_builds(kind: str, data: bytes) -> None:
    compiled, interpreted = (read(build, kind, data) for build in builds())
    assert compiled.result() == interpreted.result()
    drip = Reader(builds()[0], kind)
    drip.give_all(data)
    assert drip.result() == compiled.result()


@given(fields=FIELDS, drop=st.sets(st.integers(0, 7)), extra=st.sampled_from([b"", b"a: b\r\n"]))
def test_what_is_built_reads_back_as_what_was_kept(
    fields: list[tuple[bytes, bytes]], drop: set[int], extra: bytes
) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + b"".join(name + b":" + value + b"\r\n" for name, value in fields) + b"\r\n"
    names = frozenset(name.lower() for k, (name, _) in enumerate(fields) if k in drop)
    built = []
    for build in builds():
        head = scanned(build, data)
        head.drop_names = names
        built.append(head.build_response(0, extra))
    assert built[0] == built[1]
    kept = [(name.lower(), value) for name, value in fields if name.lower() not in names]
    assert scanned(builds()[0], built[0]).items() == kept + ([(b"a", b"b")] if extra else [])


@pytest.mark.parametrize("build", builds(), ids=["compiled", "interpreted"])
@pytest.mark.parametrize("byte", [0, 8, 9, 10, 11, 13, 31, 32, 126, 127, 128, 255])
def test_a_value_ends_at_the_same_byte_wherever_it_stands(build: Any, byte: int) -> None:
    """Values are read sixteen bytes at a time where the processor can."""
    is_fine = byte in (9, 32, 126, 128, 255)
    for place in (0, 1, 7, 15, 16, 17, 31, 32, 40):
        value = b"x" * place + bytes((byte,)) + b"y" * 40
        head = b"GET / HTTP/1.1\r\nhost: h\r\nx-a: " + value + b"\r\n\r\n"
        scanned = build.Head()
        if is_fine:
            assert scanned.scan_request(head, 0, 65536) == len(head)
            assert scanned.get_name(b"x-a") == value.strip(b" \t")
        else:
            with pytest.raises(build.ProtocolError):
                scanned.scan_request(head, 0, 65536)
