"""Small files, read and written with care: keys, the placeholder, trust lists, configuration.

Rules: a read has a cap; a write is atomic and private (mode 0600) and never half seen; a change is told by what `stat`
says of the file behind every symlink, so that Kubernetes' `..data` swap is one change.
Does not know: what the files mean.
"""

import grp
import os
import pwd
import secrets
import stat
from pathlib import Path

Signature = tuple[int, int, int, int, int]  # device, inode, size, mtime_ns, ctime_ns


class FileTooLargeError(OSError):
    """The file is larger than its reader's cap."""


def signature(path: Path) -> Signature | None:
    """What tells one state of a file from another; None when it is missing or cannot be looked at."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return (seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


def read_capped(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file (or pipe, as `<(...)` gives). Raises: OSError; FileTooLargeError beyond the cap."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FileTooLargeError(f"larger than {max_bytes} bytes")
    return data


def reason(exc: OSError) -> str:
    """An OSError in a few words for a person, without the path that the caller's sentence already names."""
    return (exc.strerror or str(exc)).lower()


def writable_by_others(path: Path, uid: int | None = None) -> str | None:
    """Why another user could have written this file, as the end of a sentence; None when only we and root can.

    A group's write permission counts unless the group is the user's private one (Debian's default umask makes such
    files). Raises: OSError when the file cannot be looked at.
    """
    seen = path.stat()
    uid = os.geteuid() if uid is None else uid
    if seen.st_uid not in (0, uid):
        return f"it belongs to uid {seen.st_uid}"
    if seen.st_mode & stat.S_IWOTH:
        return "every user may write it"
    if seen.st_mode & stat.S_IWGRP and not _is_private_group(seen.st_gid, uid):
        return f"group {seen.st_gid} may write it"
    return None


def _is_private_group(gid: int, uid: int) -> bool:
    if gid == 0:
        return True
    try:
        user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
    except KeyError:
        return False
    return user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}


def readable_by_others(path: Path) -> bool:
    """Whether group or others may read (or write) it. Raises: OSError."""
    return bool(path.stat().st_mode & 0o077)


def write_private(path: Path, data: bytes, *, replace: bool) -> bool:
    """Write a file (mode 0600) whole or not at all; parents are made with mode 0700.

    `replace=False` keeps a file that is there already, also one that another process makes at the same moment, and
    then returns False. Raises: OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(draft, path)
            return True
        os.link(draft, path)  # unlike rename, link fails when the name is taken
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True
