import socket

from outrider.door.original_dst import original_destination


class FakeSocket:
    """Answers as the kernel does for a redirected connection."""

    def __init__(self, local: str, level: int, answer: bytes) -> None:
        self.local, self.level, self.answer = local, level, answer

    def getsockname(self) -> tuple[str, int]:
        return self.local, 8486

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option, size) == (self.level, 80, len(self.answer))
        return self.answer


V4 = b"\x02\x00\x01\xbb" + socket.inet_pton(socket.AF_INET, "203.0.113.7") + bytes(8)
V6 = b"\x0a\x00\x01\xbb" + bytes(4) + socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(4)


def test_an_ipv4_connection_is_asked_in_the_ipv4_tables() -> None:
    assert original_destination(FakeSocket("127.0.0.1", socket.SOL_IP, V4)) == ("203.0.113.7", 443)  # type: ignore[arg-type]


def test_an_ipv4_connection_on_a_dual_stack_socket_is_asked_in_the_ipv4_tables() -> None:
    assert original_destination(FakeSocket("::ffff:127.0.0.1", socket.SOL_IP, V4)) == ("203.0.113.7", 443)  # type: ignore[arg-type]


def test_an_ipv6_connection_is_asked_in_the_ipv6_tables() -> None:
    assert original_destination(FakeSocket("::1", 41, V6)) == ("2001:db8::7", 443)  # type: ignore[arg-type]


def test_a_socket_without_an_original_destination_gives_none() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert original_destination(left) is None
    with socket.socket() as unconnected:
        assert original_destination(unconnected) is None
