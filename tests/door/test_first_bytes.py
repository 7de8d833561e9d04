import pytest

from outrider.door.first_bytes import FIRST_BYTES, Speech, has_request_line, recognise

CASES = [
    (b"\x16\x03\x01\x02\x00", Speech.TLS),
    (b"\x16\x05", Speech.OPAQUE),
    (b"GET / HTTP/1.1\r\n", Speech.HTTP),
    (b"\r\nPOST /v1 HTTP/1.1\r\n", Speech.HTTP),
    (b"M-SEARCH * HTTP/1.1", Speech.HTTP),
    (b"CONNECT a:443 HTTP/1.1", Speech.CONNECT),
    (b"\r\nCONNECT a:443", Speech.CONNECT),
    (b"CONNECTED ", Speech.HTTP),
    (b"connect a:443", Speech.OPAQUE),
    (b"SSH-2.0-OpenSSH_9.2", Speech.OPAQUE),
    (b"*1\r\n$4\r\nPING", Speech.OPAQUE),
    (b"\0\0\0\x08\x04\xd2\x16\x2f", Speech.OPAQUE),
    (b"A" * 40, Speech.OPAQUE),
    (b"\n\nGET / ", Speech.OPAQUE),
    (b"\r\n\r\nGET / ", Speech.OPAQUE),
]


@pytest.mark.parametrize(("data", "speech"), CASES)
def test_first_bytes_are_recognised_as_early_as_they_can_be(data: bytes, speech: Speech) -> None:
    seen = [recognise(data[:i]) for i in range(len(data) + 1)]
    assert seen[0] is Speech.MORE
    assert seen[-1] is speech
    decided = seen.index(speech)
    assert seen[:decided] == [Speech.MORE] * decided
    assert set(seen[decided:]) == {speech}
    assert decided < FIRST_BYTES


@pytest.mark.parametrize(
    ("data", "is_request"),
    [
        (b"GET / HTTP/1.1", None),
        (b"GET / HTTP/1.1\r\n", True),
        (b"GET / HTTP/1.0\n", True),
        (b"NICK outrider\r\n", False),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", False),
    ],
)
def test_a_word_in_capitals_alone_is_no_request(data: bytes, is_request: bool | None) -> None:
    assert has_request_line(data) is is_request
