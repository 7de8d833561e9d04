from outrider_ext.lane cimport Call, Hook
from outrider_ext.relay cimport Exchange


cdef struct Member:
    Py_ssize_t lo                       # of the whole member in the canonical text
    Py_ssize_t hi
    Py_ssize_t key_hi                   # behind the key's closing quote
    bint escaped                        # the key holds a backslash


cdef class Canon:
    cdef readonly int max_depth
    cdef readonly Py_ssize_t max_bytes
    # what is read; the caller keeps it alive
    cdef bytes _body
    cdef const char* _base
    cdef Py_ssize_t _pos
    cdef Py_ssize_t _end
    # what is written
    cdef char* _out
    cdef Py_ssize_t _size
    cdef Py_ssize_t _room
    cdef char* _spare
    cdef Py_ssize_t _spare_room
    # the members of the objects that are open
    cdef Member* _members
    cdef Py_ssize_t _count
    cdef Py_ssize_t _member_room

    cpdef bytes canonical(self, bytes body)
    cpdef bytes digest(self, bytes body, tuple parts)
    cpdef bytes raw_digest(self, bytes body, tuple parts)
    cdef int _begin(self, bytes kind, tuple parts) except -1
    cdef bytes _hash(self)
    cdef _rest(self)
    cdef int _write(self, bytes body) except -1
    cdef int _reserve(self, Py_ssize_t size) except -1
    cdef int _put(self, const char* data, Py_ssize_t size) except -1
    cdef inline void _skip_space(self) noexcept
    cdef int _fail(self, Py_ssize_t at, str what) except -1
    cdef int _value(self, int depth) except -1
    cdef int _word(self, const char* word, Py_ssize_t size) except -1
    cdef int _array(self, int depth) except -1
    cdef int _object(self, int depth) except -1
    cdef int _add_member(self, Py_ssize_t lo) except -1
    cdef int _sort(self, Py_ssize_t first, Py_ssize_t base) except -1
    cdef bint _order(self, Py_ssize_t first) except -1
    cdef bint _order_many(self, Py_ssize_t first) except -1
    cdef int _compare(self, Member* a, Member* b) except -2
    cdef bytes _key_units(self, Member* m)
    cdef bint _string(self) except -1
    cdef bint _is_ascii(self, Py_ssize_t lo) noexcept
    cdef inline bint _is_short(self, char kind) noexcept
    cdef bint _escape(self) except -1
    cdef int _hex4(self, Py_ssize_t at) except -2
    cdef int _code_point(self, int point) except -1
    cdef int _number(self) except -1
    cdef int _decimal(self, Py_ssize_t whole, Py_ssize_t whole_end, Py_ssize_t part, Py_ssize_t part_end, long long exponent,
                  bint negative) except -1


cdef class DigestRequest(Hook):
    cdef Canon _canon
    cdef object _parts_of
    cdef object _plain_of
    cdef object _refuse
    # of the last request: mostly the next one has the same
    cdef object _principal
    cdef str _model
    cdef bytes _target
    cdef tuple _parts
