"""What a process does to itself and Python has no call for; `ctypes` would be half a megabyte for three calls.

Rules: each says what could not be done, and none raises for it; run once, at the start.
Does not know: what is secret, what runs.
"""

from libc.errno cimport errno
from libc.stdio cimport FILE, fclose, fgets, fopen, sscanf
from libc.stdlib cimport getenv
from libc.string cimport memset, strchr, strlen
from posix.mman cimport MADV_DONTNEED, madvise

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/prctl.h>
    static int undumpable(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }
    #else
    static int undumpable(void) { return -1; }
    #endif
    """
    int undumpable() nogil


def make_undumpable() -> int:
    """PR_SET_DUMPABLE 0: no core dump, and /proc/PID is root's. 0, or the errno."""
    return errno if undumpable() != 0 else 0


def overwrite_variable(name: bytes) -> bool:
    """The value of an environment variable becomes asterisks where the kernel put it; whether it is set.

    `unsetenv` alone leaves the bytes in the block that /proc/PID/environ shows for as long as the process lives.
    """
    cdef char* value = getenv(name)
    if value == NULL:
        return False
    memset(value, 0x2A, strlen(value))
    return True


def trim_code() -> int:
    """Unmaps the code of all libraries, bytes; what runs again is mapped again from the page cache, as it is touched.

    The kernel maps 64 kB around each page of code that start-up ran, and keeps them: of two libraries that read a
    configuration and a certificate once, 12 MB. Code alone: it is never written to, so nothing can be lost.
    """
    cdef FILE* maps = fopen(b"/proc/self/maps", b"r")
    cdef char[4352] line                # a path of PATH_MAX and what stands before it
    cdef char[8] rights
    cdef unsigned long begin = 0, end = 0, inode = 0
    cdef unsigned long trimmed = 0
    if maps == NULL:
        return 0
    while fgets(line, sizeof(line), maps) != NULL:
        if sscanf(line, b"%lx-%lx %7s %*s %*s %lu", &begin, &end, rights, &inode) != 4:
            continue
        if inode == 0 or rights[0] != b"r" or rights[1] != b"-" or rights[2] != b"x" or strchr(line, b"/") == NULL:
            continue
        if madvise(<void*>begin, end - begin, MADV_DONTNEED) == 0:
            trimmed += end - begin
    fclose(maps)
    return trimmed
