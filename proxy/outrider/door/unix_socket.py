"""Listening on `unix:PATH`, and who is at the other end of such a connection.

Rules: the file is made with the wanted mode and group before anyone can connect; a file that a dead listener left is
removed, one that somebody listens on, or that is no socket, is not; at the end the file is removed if it is still ours.
Source: unix(7), SO_PEERCRED: the uid, gid and pid are those of whoever called connect(), when it did.
Does not know: what is said on it.
"""

import os
import socket
import stat
import struct
from contextlib import suppress
from grp import getgrnam
from pathlib import Path

from outrider.errors import StartError
from outrider.secrets.files import reason

_UCRED = struct.Struct("=iII")
_PROBE_S = 1.0


class UnixListener(socket.socket):
    """A listening socket that takes its file with it when it is closed."""

    _bound: tuple[Path, int, int] | None = None

    def bind_file(self, path: Path, *, mode: int, group: int | None) -> None:
        """Raises: OSError."""
        before = os.umask(0o177)  # nobody else gets in before mode and group are what they should be
        try:
            self.bind(str(path))
        finally:
            os.umask(before)
        seen = path.lstat()
        self._bound = (path, seen.st_dev, seen.st_ino)
        if group is not None:
            os.chown(path, -1, group)
        path.chmod(mode)

    def close(self) -> None:
        bound, self._bound = self._bound, None
        if bound is not None:
            path, device, inode = bound
            with suppress(OSError):
                seen = path.lstat()
                if (seen.st_dev, seen.st_ino) == (device, inode):
                    path.unlink()
        super().close()


def listen_unix(path: Path, *, mode: int, group: int | str | None, backlog: int) -> UnixListener:
    """A non-blocking listening socket. Raises: StartError with one sentence."""
    number = _group_number(group, path)
    _remove_stale(path)
    sock = UnixListener(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.bind_file(path, mode=mode, group=number)
        sock.listen(backlog)
    except OSError as exc:
        sock.close()
        raise StartError(
            f"Cannot listen on unix:{path}: {reason(exc)}; make its folder, and let this user write it."
        ) from exc
    return sock


def _group_number(group: int | str | None, path: Path) -> int | None:
    if not isinstance(group, str):
        return group
    try:
        return getgrnam(group).gr_gid
    except KeyError:
        raise StartError(
            f"Cannot listen on unix:{path}: this machine has no group {group!r} (listen.unix_group)."
        ) from None


def _remove_stale(path: Path) -> None:
    """Raises: StartError when something is there that is not a dead listener's file."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise StartError(f"Cannot listen on unix:{path}: {reason(exc)}.") from exc
    if not is_socket:
        raise StartError(
            f"Cannot listen on unix:{path}: a file that is no socket is there; remove it or choose another."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                path.unlink()
            return
        except FileNotFoundError:
            return
        except OSError as exc:
            raise StartError(
                f"Cannot listen on unix:{path}: {reason(exc)}; remove the file if nobody uses it."
            ) from exc
    raise StartError(f"Cannot listen on unix:{path}: another program listens there; stop it or choose another path.")


def unix_credentials(sock: socket.socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of whoever connected. Raises: OSError."""
    found: tuple[int, int, int] = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return found
