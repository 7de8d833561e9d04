"""A place of their own for the event loop's 256 KiB read buffers, of which every TLS connection has one.

In the heap of malloc such a buffer is a large piece of which a read touches a few pages. Freed, it becomes room for
small things, the next buffer lies elsewhere, and every page that any of them ever touched stays resident: 1,000
connections that come and go cost 50 MB each time. Here a buffer is a slot of one reserved range of addresses, and its
pages go back to the system when it is freed.

Rules
- Only requests of exactly BUFFER_BYTES are answered from here; all else, and what finds no slot free, goes to the
  allocator that was there before. A pointer is ours if it lies in the range: no table is asked.
- The slot that was freed last is the next to be used, and its first pages are kept: connections that come and go one
  after the other cost no page fault.
- Thread-safe, as the raw domain of Python's allocators has to be; nothing here needs the interpreter.

Does not know: whose buffers these are.
"""

cdef extern from "Python.h":
    ctypedef struct PyMemAllocatorEx:
        void* ctx
        void* (*malloc)(void* ctx, size_t size) noexcept nogil
        void* (*calloc)(void* ctx, size_t count, size_t size) noexcept nogil
        void* (*realloc)(void* ctx, void* at, size_t size) noexcept nogil
        void (*free)(void* ctx, void* at) noexcept nogil
    enum PyMemAllocatorDomain:
        PYMEM_DOMAIN_RAW
    void PyMem_GetAllocator(PyMemAllocatorDomain domain, PyMemAllocatorEx* allocator) nogil
    void PyMem_SetAllocator(PyMemAllocatorDomain domain, PyMemAllocatorEx* allocator) nogil

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, const void* attributes)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)

from libc.stdint cimport uint32_t
from libc.string cimport memcpy
from posix.mman cimport (
    MADV_DONTNEED, MAP_ANONYMOUS, MAP_FAILED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE, madvise, mmap,
)

cdef extern from *:
    """
    #ifndef MADV_NOHUGEPAGE
    #define MADV_NOHUGEPAGE MADV_NORMAL
    #endif
    """
    int MADV_NOHUGEPAGE

cdef extern from *:
    """
    #include <stddef.h>
    extern int malloc_trim(size_t pad) __attribute__((weak));    /* glibc has it */
    static int trim(void) { return malloc_trim != NULL && malloc_trim(0); }
    """
    int trim() nogil

cdef enum:
    _BUFFER_BYTES = 262144         # SSL_READ_MAX_SIZE of uvloop
    _SLOTS = 16384                 # 4 GiB of addresses, of which only touched pages are memory
    _KEPT_BYTES = 16384            # of a freed slot: what a read of one TLS record touches
    _KEPT_SLOTS = 64

BUFFER_BYTES = _BUFFER_BYTES
SLOTS = _SLOTS

cdef PyMemAllocatorEx _before
cdef pthread_mutex_t _mutex
cdef char* _range = NULL
cdef uint32_t _never_used = 0      # slots from here on were never handed out
cdef uint32_t[_SLOTS] _cold        # free, and without memory
cdef uint32_t[_KEPT_SLOTS] _warm   # free, and with their first pages
cdef int _cold_count = 0
cdef int _warm_count = 0


cdef void* _take() noexcept nogil:
    global _never_used, _cold_count, _warm_count
    cdef int slot = -1
    pthread_mutex_lock(&_mutex)
    if _warm_count:
        _warm_count -= 1
        slot = <int>_warm[_warm_count]
    elif _cold_count:
        _cold_count -= 1
        slot = <int>_cold[_cold_count]
    elif _never_used < _SLOTS:
        slot = <int>_never_used
        _never_used += 1
    pthread_mutex_unlock(&_mutex)
    return NULL if slot < 0 else _range + <size_t>slot * _BUFFER_BYTES


cdef void _give_back(void* at) noexcept nogil:
    global _cold_count, _warm_count
    cdef size_t slot = <size_t>(<char*>at - _range) // _BUFFER_BYTES
    cdef bint is_kept
    # Before anyone can have it: afterwards these pages may be somebody's.
    madvise(<char*>at + _KEPT_BYTES, _BUFFER_BYTES - _KEPT_BYTES, MADV_DONTNEED)
    pthread_mutex_lock(&_mutex)
    is_kept = _warm_count < _KEPT_SLOTS
    if not is_kept:
        madvise(at, _KEPT_BYTES, MADV_DONTNEED)
        _cold[_cold_count] = <uint32_t>slot
        _cold_count += 1
    else:
        _warm[_warm_count] = <uint32_t>slot
        _warm_count += 1
    pthread_mutex_unlock(&_mutex)


cdef inline bint _is_ours(const void* at) noexcept nogil:
    return <size_t>(<const char*>at - _range) < <size_t>_SLOTS * _BUFFER_BYTES


cdef void* _malloc(void* ctx, size_t size) noexcept nogil:
    cdef void* found
    if size == _BUFFER_BYTES:
        found = _take()
        if found != NULL:
            return found
    return _before.malloc(_before.ctx, size)


cdef void* _calloc(void* ctx, size_t count, size_t size) noexcept nogil:
    return _before.calloc(_before.ctx, count, size)


cdef void* _realloc(void* ctx, void* at, size_t size) noexcept nogil:
    cdef void* moved
    if at == NULL:
        return _malloc(ctx, size)
    if not _is_ours(at):
        return _before.realloc(_before.ctx, at, size)
    moved = _before.malloc(_before.ctx, size)
    if moved != NULL:
        memcpy(moved, at, min(size, <size_t>_BUFFER_BYTES))
        _give_back(at)
    return moved


cdef void _free(void* ctx, void* at) noexcept nogil:
    if at != NULL and _is_ours(at):
        _give_back(at)
    else:
        _before.free(_before.ctx, at)


def install() -> bool:
    """From now on, for the whole process. False where the system does not give the range: then all stays as it was."""
    global _range
    cdef PyMemAllocatorEx ours
    cdef void* found
    if _range != NULL:
        return True
    found = mmap(NULL, <size_t>_SLOTS * _BUFFER_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if found == MAP_FAILED:
        return False
    madvise(found, <size_t>_SLOTS * _BUFFER_BYTES, MADV_NOHUGEPAGE)    # eight buffers would be one page
    pthread_mutex_init(&_mutex, NULL)
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &_before)
    _range = <char*>found
    ours.ctx = NULL
    ours.malloc, ours.calloc, ours.realloc, ours.free = _malloc, _calloc, _realloc, _free
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &ours)
    return True


def trim_heap() -> bool:
    """Gives the free pages of malloc's heap back to the system; whether there were any. 1 ms for 20 MB."""
    cdef int gave
    with nogil:
        gave = trim()
    return gave != 0


def in_use() -> int:
    """Slots that are handed out now."""
    cdef long used
    pthread_mutex_lock(&_mutex)
    used = <long>_never_used - _cold_count - _warm_count
    pthread_mutex_unlock(&_mutex)
    return used
