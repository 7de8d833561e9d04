"""A dialler knows the connections that it made by the name of their near end."""

import socket

from outrider.upstream.dial import Dialer
from outrider.upstream.guard import AddressGuard


async def test_our_end_of_an_open_connection_is_known_and_forgotten_once_it_is_closed() -> None:
    dialer = Dialer(AddressGuard(), connect_s=5.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = await dialer.connect("127.0.0.1", listener.getsockname()[1], private_ok=True)
        far, name = listener.accept()
        with far, sock:
            assert dialer.is_own_end(*name)
            assert not dialer.is_own_end("127.0.0.1", listener.getsockname()[1])
        assert not dialer.is_own_end(*name)
        del sock
        assert not dialer.is_own_end(*name)
