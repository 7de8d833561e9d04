"""Sockets that are watched for a moment only, on an epoll of their own that the loop watches as one.

Rules: level-triggered, as the loop's own readers are; whoever watches takes its socket out before it is closed or given
away. After close() nothing is watched any more, and taking out is still allowed.
Why: the loop makes a handle for each socket, at eight system calls and some objects a time; here it is two.
Does not know: what is read.
"""

import asyncio
import select
import socket
from collections.abc import Callable


class Readers:
    """add_reader(sock, callback), remove_reader(sock): as the loop's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._on_ready)

    def add_reader(self, sock: socket.socket, callback: Callable[[], None]) -> None:
        fd = sock.fileno()
        self._epoll.register(fd, select.EPOLLIN)
        self._callbacks[fd] = callback

    def remove_reader(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        if self._callbacks.pop(fd, None) is not None and not self._epoll.closed:
            self._epoll.unregister(fd)

    def close(self) -> None:
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _on_ready(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            if callback is not None:  # else one that was called before it took this one out
                callback()
            if self._epoll.closed:
                return
