# Part of relay.pyx: where the parts of a stream end that is not of server-sent events.

cdef class Units:
    """Finds where lines, frames or array elements end; holds no bytes. As sse.SseSplitter, with the same names.

    feed(data, start, end) -> cut: data[start:cut] completes everything so far; data[cut:end] is the open tail, which the
    caller holds and does not feed again. overlong: the open part has more than `max_bytes`, and until its end cut == end.
    Nothing is checked: what is no frame or no array is passed on like the rest, at the latest when it is overlong.
    """

    def __init__(self, int kind, Py_ssize_t max_bytes):
        self.kind = kind
        self.max_bytes = max_bytes

    cpdef Py_ssize_t feed(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1:
        cdef Py_ssize_t boundary
        cdef unsigned long long before = self.total_events
        if start < 0 or end > PyBytes_GET_SIZE(data) or start > end:
            raise IndexError("The range to feed does not lie in the data.")
        if self.kind == LINES:
            boundary = self._lines(PyBytes_AS_STRING(data), start, end)
        elif self.kind == FRAMES:
            boundary = self._frames(<const unsigned char*>PyBytes_AS_STRING(data), start, end)
        else:
            boundary = self._array(PyBytes_AS_STRING(data), start, end)
        self.events = self.total_events - before
        self.open_bytes = end - boundary if boundary >= 0 else self.open_bytes + end - start
        self.overlong = self.open_bytes > self.max_bytes
        if self.overlong:
            return end
        return boundary if boundary >= 0 else start

    cdef Py_ssize_t _lines(self, const char* base, Py_ssize_t pos, Py_ssize_t end) noexcept:
        cdef Py_ssize_t boundary = -1
        cdef const char* found
        while pos < end:
            found = <const char*>memchr(base + pos, c"\n", end - pos)
            if found == NULL:
                break
            pos = boundary = (found - base) + 1
            self.total_events += 1
        return boundary

    cdef Py_ssize_t _frames(self, const unsigned char* base, Py_ssize_t pos, Py_ssize_t end) noexcept:
        cdef Py_ssize_t boundary = -1, step
        while pos < end:
            if self._length_bytes < 4:
                self._length = (self._length << 8) | base[pos]
                self._length_bytes += 1
                pos += 1
                if self._length_bytes == 4:
                    self._left = <Py_ssize_t>self._length - 4
                continue
            step = min(self._left, end - pos)
            if step > 0:
                pos += step
                self._left -= step
            if self._left <= 0:
                boundary = pos
                self.total_events += 1
                self._length = 0
                self._length_bytes = 0
        if self._length_bytes == 4 and self._left <= 0:
            self._length = 0
            self._length_bytes = 0
        return boundary

    cdef Py_ssize_t _array(self, const char* base, Py_ssize_t pos, Py_ssize_t end) noexcept:
        cdef Py_ssize_t boundary = -1
        cdef char c
        while pos < end:
            c = base[pos]
            pos += 1
            if self._in_string:
                if self._escaped:
                    self._escaped = False
                elif c == c"\\":
                    self._escaped = True
                elif c == c'"':
                    self._in_string = False
            elif c == c'"':
                self._in_string = True
            elif c == c"{" or c == c"[":
                self._depth += 1
            elif c == c"}" or c == c"]":
                self._depth -= 1
                if self._depth <= 1:
                    boundary = pos
                    if c == c"}":
                        self.total_events += 1
        return boundary
