cpdef bytes body_text(bytes body)
