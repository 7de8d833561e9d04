cimport cython


@cython.final
@cython.freelist(32)
cdef class Usage:
    cdef readonly long long input_tokens
    cdef readonly long long output_tokens
    cdef readonly long long cache_read_tokens
    cdef readonly long long cache_write_tokens
    cdef readonly long long reasoning_tokens
    cdef readonly bint estimated
    cdef readonly object model
    # -- what only prices ask for --
    cdef readonly long long cache_write_1h_tokens
    cdef readonly long long audio_input_tokens
    cdef readonly long long audio_output_tokens
    cdef readonly long long cache_audio_tokens
    cdef readonly object tier

    cpdef tuple row(self)
