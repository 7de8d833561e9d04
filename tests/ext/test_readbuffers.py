"""The loop's read buffers in a range of their own: in processes of their own, since it changes the whole process."""

import subprocess
import sys
import textwrap

PRELUDE = """
    import ctypes
    from pathlib import Path
    from outrider_ext import readbuffers

    size = readbuffers.BUFFER_BYTES
    raw = ctypes.pythonapi
    raw.PyMem_RawMalloc.restype = raw.PyMem_RawRealloc.restype = ctypes.c_void_p
    raw.PyMem_RawMalloc.argtypes = (ctypes.c_size_t,)
    raw.PyMem_RawRealloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    raw.PyMem_RawFree.argtypes = (ctypes.c_void_p,)
    take, change, give_back = raw.PyMem_RawMalloc, raw.PyMem_RawRealloc, raw.PyMem_RawFree

    def resident_kb():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4

    early = take(size)
    assert readbuffers.install() and readbuffers.install()
"""


def run(script: str) -> None:
    words = [sys.executable, "-c", textwrap.dedent(PRELUDE) + textwrap.dedent(script)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_buffer_is_the_one_that_was_freed_last_and_others_are_apart() -> None:
    run("""
        first, second = take(size), take(size)
        assert abs(first - second) >= size and readbuffers.in_use() == 2
        ctypes.memset(first, 1, size)
        ctypes.memset(second, 2, size)
        assert ctypes.string_at(first, size) == b"\\1" * size
        give_back(first)
        assert take(size) == first
        for at in (first, second, early):
            give_back(at)
        assert readbuffers.in_use() == 0
    """)


def test_other_sizes_are_not_its_business() -> None:
    run("""
        for other in (1, size - 1, size + 1, 1 << 22):
            give_back(take(other))
        grown = change(None, size)
        assert readbuffers.in_use() == 1
        ctypes.memset(grown, 7, size)
        moved = change(grown, 2 * size)
        assert readbuffers.in_use() == 0 and ctypes.string_at(moved, size) == b"\\7" * size
        give_back(change(moved, 10))
        give_back(None)
    """)


def test_what_is_freed_is_no_memory_any_more() -> None:
    run("""
        before_kb = resident_kb()
        for _ in range(3):
            every = [take(size) for _ in range(400)]
            for at in every:
                ctypes.memset(at, 1, size)
            assert resident_kb() - before_kb > 400 * 250
            for at in every:
                give_back(at)
            assert resident_kb() - before_kb < 4096
    """)


def test_when_all_slots_are_taken_the_usual_allocator_helps() -> None:
    run("""
        every = [take(size) for _ in range(readbuffers.SLOTS + 3)]
        assert len(set(every)) == len(every) and all(every) and readbuffers.in_use() == readbuffers.SLOTS
        for at in every:
            give_back(at)
        assert readbuffers.in_use() == 0
    """)


def test_threads_may_share_it() -> None:
    run("""
        import threading

        def work(mark):
            for _ in range(3000):
                at = take(size)
                ctypes.memset(at, mark, 64)
                assert ctypes.string_at(at, 64) == bytes([mark]) * 64
                give_back(at)

        threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert readbuffers.in_use() == 0
    """)


def test_the_loops_buffers_are_in_it() -> None:
    run("""
        import asyncio, ssl, uvloop

        async def main():
            protocol = asyncio.Protocol()
            context = ssl.create_default_context()
            import socket
            ours, theirs = socket.socketpair()
            task = asyncio.ensure_future(asyncio.get_running_loop().create_connection(
                lambda: protocol, sock=ours, ssl=context, server_hostname="x.example"))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert readbuffers.in_use() == 1
            theirs.close()
            try:
                await task
            except OSError:
                pass

        uvloop.run(main())
    """)


def test_the_heaps_free_pages_go_back_to_the_system() -> None:
    run("""
        every = [take(20_000) for _ in range(4000)]
        for at in every:
            ctypes.memset(at, 1, 20_000)
        last, full_kb = every.pop(), resident_kb()
        for at in every:
            give_back(at)
        readbuffers.trim_heap()
        assert resident_kb() < full_kb - 60_000
        assert not readbuffers.trim_heap() or resident_kb() < full_kb - 60_000
        give_back(last)
    """)
