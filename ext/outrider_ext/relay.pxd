from outrider_ext.http1 cimport Body, Head
from outrider_ext.sse cimport SseSplitter


cdef struct Run:
    Py_ssize_t lo
    Py_ssize_t hi


cdef enum:
    ANSWERED_OUTCOME = 1

cpdef enum:             # Exchange.units
    NO_UNITS = 0
    LINES = 1           # newline-delimited JSON
    FRAMES = 2          # application/vnd.amazon.eventstream
    ARRAY = 3           # the elements of one JSON array

cdef const char* outcome_name(int outcome) noexcept


cdef class Owner:
    cpdef on_request(self, Exchange x)
    cpdef on_body(self, Exchange x)
    cpdef bytes on_answer(self, Exchange x)
    cpdef on_failed(self, Exchange x, str kind, str detail)
    cpdef bint on_race(self, Exchange x, Upstream connection) except -1
    cpdef on_race_lost(self, Exchange x, Upstream connection, str kind, str detail)
    cpdef bytes on_cut(self, Exchange x, str kind, str detail)
    cpdef on_end(self, Exchange x)
    cpdef bytes on_bad_request(self, Downstream client, int status, str message)
    cpdef on_client_closed(self, Downstream client)
    cpdef bint is_gone(self, Downstream client) except -1


cdef class Idle:
    cdef readonly Hub hub
    cdef readonly list idle          # the newest last
    cdef public Py_ssize_t max_idle
    cdef public bint handing_on      # somebody waits, or nothing is kept any more: `release` decides

    cpdef Upstream take(self)
    cdef _give_back(self, Upstream connection)


cdef class Hub:
    cdef public Owner owner
    cdef public object loop
    cdef public set clients          # every open Downstream
    cdef public set upstreams        # every open Upstream, idle or in use
    cdef public bint draining
    cdef public list waiting         # exchanges that ended and whose last bytes wait for `let_go`
    cdef public object on_waiting    # called when the first of them waits
    cdef public Py_ssize_t max_open  # connections to providers, beyond which a free one is closed and not kept
    cdef public Py_ssize_t head_bytes
    cdef public Py_ssize_t event_bytes
    cdef public Py_ssize_t usage_bytes
    cdef public Py_ssize_t buffer_bytes
    cdef public long long client_head_ns
    cdef public long long client_idle_ns
    cdef public long long body_idle_ns
    cdef public long long first_byte_ns
    cdef public long long stream_idle_ns
    cdef public long long pool_idle_ns
    cdef public Py_ssize_t exchanges # in flight now

    cpdef list take_waiting(self)
    cpdef let_go(self, list exchanges, bint is_cut=*)


cdef class Units:
    cdef readonly int kind
    cdef readonly Py_ssize_t max_bytes
    cdef readonly Py_ssize_t open_bytes
    cdef readonly unsigned long long total_events
    cdef readonly unsigned long long events
    cdef readonly bint overlong
    cdef Py_ssize_t _left
    cdef unsigned int _length
    cdef int _length_bytes
    cdef long long _depth
    cdef bint _in_string
    cdef bint _escaped

    cpdef Py_ssize_t feed(self, bytes data, Py_ssize_t start, Py_ssize_t end) except -1
    cdef Py_ssize_t _lines(self, const char* base, Py_ssize_t pos, Py_ssize_t end) noexcept
    cdef Py_ssize_t _frames(self, const unsigned char* base, Py_ssize_t pos, Py_ssize_t end) noexcept
    cdef Py_ssize_t _array(self, const char* base, Py_ssize_t pos, Py_ssize_t end) noexcept


cdef class Exchange:
    # -- who and what (set by the relay) --
    cdef readonly Downstream client
    cdef readonly Upstream upstream
    cdef readonly Upstream rival     # a second connection, while it is open which of them answers first
    cdef readonly Head head
    cdef readonly bytes method
    cdef readonly bytes target
    # -- what the owner hangs on it --
    cdef public object state
    cdef public object waiter        # has .cancel(): a task or a pool ticket that waits for this exchange
    cdef public bint goes_on         # the provider's answer is read to its end although the client left
    cdef readonly bint orphaned      # the client left, and it goes on
    # -- request body --
    cdef public bytes body           # the held body, once it is complete
    cdef readonly bint body_complete
    cdef readonly bint request_complete
    cdef readonly bint holding
    cdef Py_ssize_t hold_cap
    cdef list pending                # body bytes that arrived before an upstream was attached
    cdef Py_ssize_t pending_bytes
    cdef public long long request_bytes
    # -- replay --
    cdef readonly bint replayable
    # -- what is asked of an answer before a byte of it goes on --
    cdef public object judge         # callable(exchange, bytes, is_last) -> True: pass it on; None: not known yet
    cdef public bint waits_first     # its head is not looked at before a byte of its body is there
    cdef public long long idle_ns    # longest silence of the provider within an answer; 0: the hub's
    cdef public object watch         # callable(exchange, bytes) over what came; b"" where the connection ended it -> whether whole
    cdef bint mended                 # a broken stream that was ended with an error event
    # -- answer --
    cdef public int status           # of the answer; what its hooks set is what the client is told
    cdef readonly Head answer_head
    cdef public long long answer_bytes
    cdef readonly bint answer_started
    cdef public bint allow_upgrade
    cdef public bint wants_continue
    cdef public unsigned long long drop_mask   # fields of the answer that are not passed on
    cdef public bint sse
    cdef public int units            # what a stream that is not SSE is made of
    cdef public bint tap_body
    cdef public bytes tap_needle
    cdef public object rewrite       # callable(exchange, bytes) -> bytes over runs of whole events
    cdef public bint rewrite_all     # every run; else only runs in which the needle was found
    cdef public object rewrite_end   # callable(exchange, unfinished event) -> bytes: nothing goes on that `rewrite` has not seen
    cdef public object pipe          # callable(exchange, bytes, is_last) -> bytes over an answer that is not of events
    cdef public object whole         # callable(exchange, bytes) -> bytes over a whole answer, up to whole_cap bytes
    cdef public Py_ssize_t whole_cap
    cdef public bytes late_lines     # header lines that only the whole answer tells, CRLF after each; of `whole` alone
    cdef public object last_words    # callable(exchange, failure) -> bytes that end an answer which failed in one of these
    cdef readonly object failure     # what one of these raised
    cdef public object decoder       # a zlib decompressor for the tap's copy
    cdef public object sink          # callable(exchange, bytes) over what the provider sent, before any change; b"" at its end
    cdef readonly bytes first_hit
    cdef readonly bytes last_hit
    cdef list tapped
    cdef Py_ssize_t tapped_bytes
    cdef long long inflated_bytes
    cdef readonly bint tap_truncated
    cdef readonly unsigned long long events
    # -- outcome --
    cdef readonly int outcome
    cdef readonly str detail
    cdef readonly bint ended
    # -- the last bytes --
    cdef public bint holds_end       # they leave when the owner says so (Hub.let_go), after `on_end`
    cdef list tail
    # -- times, CLOCK_MONOTONIC ns --
    cdef readonly long long started_ns
    cdef readonly long long sent_ns
    cdef readonly long long head_ns
    cdef readonly long long first_event_ns
    cdef readonly long long ended_ns
    cdef readonly long long inside_ns

    cpdef tuple take_tapped(self)
    cdef void _request_run(self, bytes data, Py_ssize_t lo, Py_ssize_t hi)
    cdef _request_done(self)
    cdef _send_body(self, bytes piece)
    cdef _send_body_end(self)
    cdef _drop_upstream(self)
    cdef _leave(self, Upstream upstream)
    cdef _forget_answer(self)
    cdef _overflow(self)
    cdef _finish(self, int outcome, str detail)
    cdef _keep_tail(self, bytes wire)
    cdef void _tap_keep(self, bytes data, Py_ssize_t lo, Py_ssize_t hi)
    cdef bytes _inflate(self, bytes piece)
    cdef bint _tap_find(self, bytes data, Py_ssize_t lo, Py_ssize_t hi)


cdef class Downstream:
    cdef readonly Hub hub
    cdef readonly object origin
    cdef public object transport
    cdef public object state         # what the owner hangs on it
    cdef Head head
    cdef Body body
    cdef Exchange exchange
    cdef int stage
    cdef bytes stash                 # bytes after the message in hand
    cdef bint keep_alive
    cdef bint processing
    cdef bint closed
    cdef readonly bint half_closed
    cdef bint write_paused
    cdef bint read_paused
    cdef long long last_ns
    cdef long long head_since_ns
    cdef long long paused_ns
    cdef bint out_chunked            # framing of the answer in hand
    cdef bint out_close
    cdef readonly unsigned long long served

    cdef _requests(self, bytes data, Py_ssize_t pos)
    cdef _run_requests(self, bytes data, Py_ssize_t pos)
    cdef _go_on(self)
    cdef _close_if_unfinished(self)
    cdef Py_ssize_t _request_body(self, bytes data, Py_ssize_t pos)
    cdef _refuse(self, object error)
    cdef bint _can_drain(self)
    cdef _close_if_idle(self)
    cdef _let_go(self, Exchange x, bint is_cut)
    cdef _keep(self, bytes data, Py_ssize_t pos)
    cdef _next(self)
    cdef _write(self, bytes data)
    cdef _discard_then_close(self)
    cdef _close(self)
    cdef _reset(self)
    cdef void _pause(self)
    cdef void _resume(self)


cdef class Upstream:
    cdef readonly Hub hub
    cdef public object pool
    cdef public object transport
    cdef readonly bint closed
    cdef readonly unsigned long long uses
    cdef Exchange exchange
    cdef Head head
    cdef Body body
    cdef SseSplitter splitter
    cdef Units units                 # in its place, of a stream that is not SSE
    cdef int state
    cdef bytes stash
    cdef bint keep_alive
    cdef bint got_bytes
    cdef bint eof
    cdef bint read_paused
    cdef bint write_paused
    cdef readonly long long last_ns
    cdef int interim
    cdef bytes lead                  # the answer's head, written with the first body bytes
    cdef list early                  # what follows it, as long as the exchange's judge has not decided
    cdef Py_ssize_t drain_bytes
    cdef list held                   # pieces of an unfinished event, or of an answer that is changed as a whole
    cdef Py_ssize_t held_bytes
    cdef bint in_chunked
    cdef bint end_sent               # the last chunk has left as it came
    cdef Py_ssize_t cut_run
    cdef bytes canary                # the injected secret: never lets it come back
    cdef bytes carry
    cdef bytes withheld              # the end of what came, while it could be the secret's beginning
    cdef bytes sunk                  # the same, of what goes to the sink
    cdef Run* runs
    cdef Py_ssize_t run_count
    cdef Py_ssize_t run_cap

    cdef _heads(self, bytes data)
    cdef _tunnel(self, Exchange x, bytes data, Py_ssize_t pos)
    cdef _close_gently(self)
    cdef _drain(self)
    cdef _drain_data(self, bytes data, Py_ssize_t pos)
    cdef _give_back(self)
    cdef bint _is_first_to_come(self, Exchange x, bint head_alone) except -1
    cdef _drained(self)
    cdef bint _judge(self, Exchange x, bytes data, bint has_more) except -1
    cdef bint _is_overlong(self)
    cdef bint _mend(self, Exchange x, str kind, str detail) except -1
    cdef bint _interim(self, bytes data) except -1
    cdef _answer(self, Exchange x)
    cdef _payload(self, bytes data, Py_ssize_t pos)
    cdef int _collect(self, bytes data, Py_ssize_t* pos, bint split, bint* raw, Py_ssize_t* cut) except -1
    cdef bint _watched(self, Exchange x, bytes piece) except -1
    cdef _emit_runs(self, Exchange x, bytes data, Py_ssize_t start, Py_ssize_t pos, bint raw)
    cdef _emit_events(self, Exchange x, bytes data, Py_ssize_t start, Py_ssize_t pos, bint raw, Py_ssize_t cut)
    cdef _attach(self, Exchange x, bytes canary)
    cdef _eof(self, exc)
    cdef _switch(self, Exchange x)
    cdef _add_run(self, Py_ssize_t lo, Py_ssize_t hi)
    cdef bytes _join_runs(self, bytes data, Py_ssize_t first, Py_ssize_t last)
    cdef _hold(self, bytes data, Py_ssize_t first)
    cdef bytes _split_held(self, bytes data, Py_ssize_t cut)
    cdef _emit_rewritten(self, Exchange x, bytes whole)
    cdef bytes _changed(self, Exchange x, tuple arguments, function)
    cdef _stop_changing(self, Exchange x, str detail)
    cdef bint _collect_whole(self, Exchange x, bytes data) except -1
    cdef bint _finish_changed(self, Exchange x) except -1
    cdef _push_raw(self, bytes data, Py_ssize_t start, Py_ssize_t pos)
    cdef _emit(self, bytes payload)
    cdef bint _is_suspect(self)
    cdef bytes _withhold(self, bytes payload, bint is_last)
    cdef _sink_when_judged(self, Exchange x, bytes piece)
    cdef _sink(self, Exchange x, bytes piece)
    cdef _push(self, bytes wire)
    cdef _done(self)
    cdef _broken(self, int outcome, str kind, str detail)
    cdef bint _echoes(self, bytes data, Py_ssize_t lo, Py_ssize_t hi) except -1
    cdef void _pause(self)
    cdef void _resume(self)
    cdef _detach(self)
