# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The layers that every exchange passes, for the case that is usual; what is not usual is asked of the layer itself.

Rules
- A hook here is configured once per route by its layer (proxy/outrider/stack), which keeps the meaning: the tables, the
  sentences, the decisions that are rare. Here stands only what happens on every exchange.
- A guess is never made: what does not have the usual shape goes to the layer's own function.
- The last answer to a question about labels is kept beside the question, and the question is asked anew when it differs.

Does not know: configuration, providers' names, what a sentence says.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp

from outrider_ext.chatusage cimport ChatUsage
from outrider_ext.http1 cimport Head, cut
from outrider_ext.jsonscan cimport FieldScan
from outrider_ext.lane cimport Call, Hook, Sender
from outrider_ext.lines cimport (
    NUMBER_BYTES, STAMP_BYTES, LineBuffer, put_bytes, put_number, put_stamp, put_text,
)
from outrider_ext.relay cimport ANSWERED_OUTCOME, Exchange, outcome_name
from outrider_ext.series cimport Series
from outrider_ext.tokens cimport Usage

import cython

from outrider_ext.http1 import header_id, mask_of
from outrider_ext.jsonscan import JsonScanError

ctypedef unsigned long long u64

cdef int H_CONTENT_TYPE = header_id(b"content-type")
cdef int H_CONTENT_ENCODING = header_id(b"content-encoding")
cdef int H_ACCEPT_ENCODING = header_id(b"accept-encoding")
cdef u64 CONTENT_ENCODING = mask_of(b"content-encoding")
cdef u64 LENGTHS = mask_of(b"content-length", b"transfer-encoding")
cdef u64 ACCEPT_ENCODING = mask_of(b"accept-encoding")
cdef u64 EXPECT = mask_of(b"expect")

cdef enum:
    MODEL = 0                           # fields of the request that ReadFields looks for
    STREAM = 1
    STREAM_OPTIONS = 2
    INCLUDE_USAGE = 0                   # the field of those options
    MAX_FIRST = 3                       # three spellings of how many tokens may be answered
    MAX_LAST = 5
    CHOICES = 6
    INNER = 7                           # an object that holds such fields
    MOST_TOKENS = 10_000_000
    REMEMBERED_MODEL_CHARS = 120        # the app chooses the name: a longer one is not kept beside each route
    LINE_TEXT_BYTES = 400               # names, braces and punctuation of a log line
    LINE_NUMBERS = 17                   # numbers in it, at most


cdef object MOST_NUSD = (1 << 62)


cdef inline bint is_long(str model):
    return model is not None and len(model) > REMEMBERED_MODEL_CHARS


cdef inline bint starts_with(bytes value, const char* text, Py_ssize_t size) noexcept:
    return PyBytes_GET_SIZE(value) >= size and memcmp(PyBytes_AS_STRING(value), text, size) == 0


@cython.final
cdef class ReadFields(Hook):
    """Finds `model`, `stream` and how much may be answered in the request's body, and makes a stream ask for its usage.

    scan: a FieldScan whose first names these are, in the order of the indices above; options: for `include_usage`.
    request: the member that asks, put first where there is no `stream_options`; None where nothing is to be asked for.
    ask(x, call, body): for any other spelling of not asking. misread(error): the body is no JSON object, or names a
    field twice; may raise. inner: a FieldScan for what stands one level down, in the field INNER: (max tokens, choices);
    None where nothing does.
    """

    def __init__(self, FieldScan scan, FieldScan options, bint reads_model, bytes request, ask, misread,
                 FieldScan inner=None):
        self._scan = scan
        self._options = options
        self._reads_model = reads_model
        self._request = request
        self._ask = ask
        self._misread = misread
        self._inner = inner

    cdef run(self, Exchange x, Call call):
        cdef bytes body = x.body
        if body is None or PyBytes_GET_SIZE(body) == 0 or x.head.mask & CONTENT_ENCODING:
            return None
        try:
            self._scan.scan(body)
            call.max_tokens = self._most(body)
        except JsonScanError as error:
            self._misread(error)
            return None
        if self._reads_model:
            call.model = self._scan.text(MODEL)
        call.stream = self._scan.flag(STREAM)
        if call.stream and self._request is not None:
            self._ask_for_usage(x, call, body)
        return None

    cdef _ask_for_usage(self, Exchange x, Call call, bytes body):
        cdef FieldScan scan = self._scan
        cdef Py_ssize_t start = scan.starts(STREAM_OPTIONS)
        if start < 0:
            x.body = b"%b%b%b%b" % (cut(body, 0, scan.inside), self._request, b"" if scan.empty else b",",
                                    cut(body, scan.inside, PyBytes_GET_SIZE(body)))
            call.strip_usage = True
        elif not self._asks(body, start, scan.ends(STREAM_OPTIONS)):
            self._ask(x, call, body)

    cdef bint _asks(self, bytes body, Py_ssize_t start, Py_ssize_t end) except -1:
        try:
            self._options.scan(body, start, end)
        except JsonScanError:
            return False
        return self._options.flag(INCLUDE_USAGE)

    cdef long long _most(self, bytes body) except -2:
        """Tokens that the answer may have in all, -1 where the request does not say."""
        cdef FieldScan scan = self._scan
        cdef long long most = -1, found, choices
        cdef int i
        for i in range(MAX_FIRST, MAX_LAST + 1):
            found = scan.count(i)
            if found > most:
                most = found
        choices = scan.count(CHOICES)
        if self._inner is not None and scan.starts(INNER) >= 0 and body[scan.starts(INNER)] == 0x7B:
            self._inner.scan(body, scan.starts(INNER), scan.ends(INNER))
            found = self._inner.count(0)
            if found > most:
                most = found
            if self._inner._count > 1 and self._inner.count(1) > choices:
                choices = self._inner.count(1)
        if most > MOST_TOKENS:
            most = MOST_TOKENS
        return most * (choices if choices < 128 else 128) if most > 0 and choices > 1 else most


@cython.final
cdef class TapAnswer(Hook):
    """Says what of the answer is to be kept for reading: events with the needle, or a copy of the body.

    array: an answer of JSON is a stream of an array's elements. reader: what will read it, None where nobody does.
    strip(x, run): takes out what the app did not ask for. decoder() -> a decompressor for gzip. units_of(content type)
    -> Exchange.units of an answer that is neither JSON nor SSE.
    """

    def __init__(self, reader, strip, decoder, units_of, bint array=False):
        self._reader = reader
        self._array = array
        self._needle = None if reader is None else reader.needle
        self._strip = strip
        self._decoder = decoder
        self._units_of = units_of

    cdef run(self, Exchange x, Call call):
        cdef Head head = x.answer_head
        cdef bytes kind = head.get(H_CONTENT_TYPE)
        cdef bytes coding = head.get(H_CONTENT_ENCODING) if head.mask & CONTENT_ENCODING else None
        if coding is not None:
            coding = coding.lower()
            if coding == b"identity":
                coding = None
        # JSON is what most answers are; everything else may be spelled in any case.
        x.sse = coding is None and kind is not None and not starts_with(kind, b"application/json", 16) and (
            kind[:17].lower() == b"text/event-stream")
        if coding is None and not x.sse and kind is not None:
            if self._array and x.status == 200 and starts_with(kind, b"application/json", 16):
                x.units = 3
            elif not starts_with(kind, b"application/json", 16) or starts_with(kind, b"application/jsonl", 17):
                x.units = self._units_of(kind)
        if self._reader is None or x.status != 200:
            return None
        call.reader = self._reader
        call.answer_kind = b"" if kind is None else kind
        if x.sse:
            x.tap_needle = self._needle
            if call.strip_usage:
                x.rewrite = self._strip
        elif coding is None:
            x.tap_body = True
        elif coding == b"gzip" or coding == b"x-gzip":
            x.decoder = self._decoder()
            x.tap_body = True
        return None


@cython.final
cdef class CountTokens(Hook):
    """Reads the usage from what was kept of a good answer.

    usual: reads a whole JSON answer, or a stream's last event with usage, from its bytes; None where the dialect has
    another shape. read(x, call) -> Usage or None, for everything else.
    """

    def __init__(self, ChatUsage usual, read):
        self._usual = usual
        self._read = read

    cdef run(self, Exchange x, Call call):
        if x.status != 200 or not x.answer_started or call.reader is None:
            return None
        usage = None
        if self._usual is not None:
            if x.sse:
                if x.last_hit is not None:
                    usage = self._usual.read_last_event(x.last_hit)
            elif starts_with(call.answer_kind, b"application/json", 16):
                usage = self._usual.read(x.take_tapped()[0])
        call.usage = usage if usage is not None else self._read(x, call)
        return None


# What the log's line and the audit log's say in the same words.

cdef char* put_outcome(char* out, Exchange x):
    out = put_number(put_text(out, b',"status":'), x.status)
    out = put_text(put_text(out, b',"outcome":"'), outcome_name(x.outcome))
    out = put_number(put_text(out, b'","request_bytes":'), x.request_bytes)
    out = put_number(put_text(out, b',"answer_bytes":'), x.answer_bytes)
    out = put_number(put_text(out, b',"us":'), (x.ended_ns - x.started_ns) // 1000)
    out = put_number(put_text(out, b',"overhead_us":'), x.inside_ns // 1000)
    return out


cdef char* put_usage(char* out, Call call):
    """Tokens and cost, as far as they are known."""
    cdef Usage usage = call.usage
    if usage is not None:
        out = put_number(put_text(out, b',"tokens":{"input":'), usage.input_tokens)
        out = put_number(put_text(out, b',"output":'), usage.output_tokens)
        out = put_number(put_text(out, b',"cache_read":'), usage.cache_read_tokens)
        out = put_number(put_text(out, b',"cache_write":'), usage.cache_write_tokens)
        out = put_number(put_text(out, b',"reasoning":'), usage.reasoning_tokens)
        out = put_text(out, b',"estimated":true}' if usage.estimated else b',"estimated":false}')
    if call.cost_nusd is not None:
        out = put_number(put_text(out, b',"cost_nusd":'), <long long>min(call.cost_nusd, MOST_NUSD))
    return out


@cython.final
cdef class RecordExchange(Hook):
    """Counts the exchange and writes its line.

    series_of(model, status, decision) -> Series. opening_of(x, call) -> the JSON members that are the same for many
    exchanges. rest_of(x, call) -> what only refusals, failures, retries and shadow rules have to say. on_estimate(): usage was guessed.
    """

    def __init__(self, LineBuffer lines, series_of, opening_of, rest_of, on_estimate):
        self._lines = lines
        self._series_of = series_of
        self._opening_of = opening_of
        self._rest_of = rest_of
        self._on_estimate = on_estimate

    cdef run(self, Exchange x, Call call):
        cdef str decision = "allow"
        cdef Series series
        cdef Usage usage = call.usage
        cdef long long sent = x.sent_ns
        if call.error is not None:
            decision = call.error.code
        elif x.outcome == ANSWERED_OUTCOME:     # by the relay itself: the request's framing broke on the way
            decision = "bad_request"
        series = self._find_series(call.model, x.status, decision)
        series.exchange(
            x.inside_ns, x.ended_ns - sent if sent else -1,
            x.first_event_ns - sent if sent and x.sse and x.first_event_ns else -1)
        if usage is not None:
            series.count_tokens(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens,
                                usage.cache_write_tokens, usage.reasoning_tokens)
            if usage.estimated:
                series.estimated += 1
                self._on_estimate()
        if self._lines.wants_info:
            self._write(x, call)
        return None

    cdef Series _find_series(self, str model, int status, str decision):
        cdef Series found
        if self._series is None or status != self._status or decision != self._decision or model != self._model:
            found = self._series_of(model, status, decision)
            if is_long(model):
                return found
            self._series = found
            self._model, self._status, self._decision = model, status, decision
        return self._series

    cdef bytes _find_opening(self, Exchange x, Call call):
        cdef str via = x.client.origin.kind
        cdef bytes found
        if (self._opening is None or via != self._via or x.method != self._method or call.model != self._line_model
                or call.stream != self._line_stream or call.principal is not self._line_principal):
            found = self._opening_of(x, call)
            if is_long(call.model):
                return found
            self._opening, self._via, self._method = found, via, x.method
            self._line_model, self._line_stream, self._line_principal = call.model, call.stream, call.principal
        return self._opening

    cdef _write(self, Exchange x, Call call):
        cdef bytes opening = self._find_opening(x, call)
        cdef bytes rest = b""
        cdef char* out
        if call.error is not None or x.detail is not None or call.attempts > 1 or call.shadow_rules or (
                call.dispatch is not None):
            rest = self._rest_of(x, call)
        out = self._lines.reserve(
            LINE_TEXT_BYTES + LINE_NUMBERS * NUMBER_BYTES + STAMP_BYTES + PyBytes_GET_SIZE(call.request_id)
            + PyBytes_GET_SIZE(opening) + PyBytes_GET_SIZE(rest))
        out = put_stamp(put_text(out, b'{"time":"'))
        out = put_bytes(put_text(out, b'","id":"'), call.request_id)
        out = put_bytes(put_text(out, b'",'), opening)
        out = put_outcome(out, x)
        if x.sse:
            out = put_number(put_text(out, b',"events":'), <long long>x.events)
            out = put_number(put_text(out, b',"first_event_us":'),
                             (x.first_event_ns - x.sent_ns) // 1000 if x.sent_ns and x.first_event_ns else -1)
        out = put_usage(out, call)
        self._lines.commit(put_text(put_bytes(out, rest), b"}\n"))


@cython.final
cdef class Held:
    """`value`: the credential that a source has now, None as long as there is none."""


@cython.final
cdef class HeadEdits:
    """What rules change in a head: fields in the mask `drop` and those in `drop_names` go, `lines` come.

    Whoever makes one vouches for it: no auth slot, no framing, whole lines.
    """

    def __init__(self, *, u64 drop, frozenset drop_names, bytes lines):
        self.drop, self.drop_names, self.lines = drop, drop_names, lines

    def canonical(self):
        """The same bytes for the same edits."""
        return b"%x %b\r\n%b" % (self.drop, b",".join(sorted(self.drop_names)), self.lines)


cdef class HeadWriter(Sender):
    """The head that goes out: the client's fields without what is dropped, our Host, lengths, and the credential last.

    source: its current() gives the credential, or raises; where it has `held`, a Held, that is looked at first.
    A subclass gives what is rare:
      upgrade_lines(x) -> (mask to drop, lines to add)         a WebSocket's handshake
      clean_target(target) -> target                           without the query parameters that carry keys
      credential_line(credential) -> (line, secret) or None    None: it depends on the request, so `finish` is asked
      finish(x, target, drop, extra, body, credential) -> (head, secret)
    """

    def __init__(self, *, bint injects, u64 drop, frozenset drop_names, frozenset query, bytes host,
                 Py_ssize_t prefix_bytes, source):
        self.injects = injects
        self._drop = drop
        self._drop_names = drop_names
        self._query = query
        self._host = host
        self._prefix_bytes = prefix_bytes
        self._source = source
        self._held = getattr(source, "held", None)
        self._fixed = host
        self._is_fixed = True

    cdef _take_credential(self):
        """The source hands out the same object until it changes: what follows from it is worked out once."""
        credential = self._held.value if self._held is not None else None
        if credential is None:
            credential = self._source.current()
        if credential is self._credential:
            return
        line = self.credential_line(credential)
        self._is_fixed = line is not None
        self._fixed, self._secret = (self._host + line[0], line[1]) if self._is_fixed else (self._host, None)
        self._credential = credential

    cdef bytes head_for(self, Exchange x, Call call, bytes body):
        cdef Head head = x.head
        cdef u64 drop = self._drop
        cdef bytes target = x.target
        cdef char added[128]
        cdef char* out = added
        cdef HeadEdits edits = None
        self.canary = None
        if call.path is not None:
            target = call.path
        elif self._prefix_bytes:
            target = cut(target, self._prefix_bytes, PyBytes_GET_SIZE(target))
        if body is not None:
            drop |= EXPECT
            if PyBytes_GET_SIZE(body) or head.chunked or head.content_length >= 0:
                drop |= LENGTHS
                out = put_number(put_text(out, b"content-length: "), PyBytes_GET_SIZE(body))
                out = put_text(out, b"\r\n")
            if head.mask & CONTENT_ENCODING and call.document is not None and call.document.written_plain:
                drop |= CONTENT_ENCODING
        if call.plain_answer:
            drop |= ACCEPT_ENCODING
            out = put_text(out, b"accept-encoding: identity\r\n")
        elif call.to.reads_answer and head.mask & ACCEPT_ENCODING:
            drop |= ACCEPT_ENCODING
            # A stream is re-framed by its events, so it has to come as it is; else gzip is all that we decode.
            if not call.stream and b"gzip" in <bytes>head.get(H_ACCEPT_ENCODING):
                out = put_text(out, b"accept-encoding: gzip\r\n")
            else:
                out = put_text(out, b"accept-encoding: identity\r\n")
        lines = PyBytes_FromStringAndSize(added, out - added)
        if call.lines is not None:
            lines += call.lines
        if call.head_edits is not None:
            edits = call.head_edits
            drop |= edits.drop
            lines += edits.lines
        if x.allow_upgrade:
            more, upgrade_lines = self.upgrade_lines(x)
            drop |= <u64>more
            lines += upgrade_lines
        if not self.injects:
            head.drop_names = self._drop_names if edits is None else self._drop_names | edits.drop_names
            return head.build_request(target, drop, self._host + lines)
        head.drop_names = self._drop_names if edits is None else self._drop_names | edits.drop_names
        if self._query and b"?" in target:
            target = self.clean_target(target)
        self._take_credential()
        if self._is_fixed:
            self.canary = self._secret
            return head.build_request(target, drop, self._fixed + lines)
        built, self.canary = self.finish(x, target, drop, self._host + lines, body, self._credential)
        return built
