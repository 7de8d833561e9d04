# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Server-sent events: where events end in bytes however cut, and what one event says.

Rules kept (WHATWG HTML, 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream"):
1. LF, CR and CRLF all end a line; a LF that follows a CR, in the same feed or the next, belongs to that CR.
2. An event is a block with at least one field line that a blank line ends. Comment lines (":...") and blank lines
   outside a block are not events and need not wait for one.
3. One byte order mark at the start of the stream is not part of the first line. Nowhere else does it mean anything.

The plan: `SseSplitter` sees each byte once, keeps no bytes and only says how far whole events reach, so that an
unchanged event leaves as a slice of what arrived. Lines are found with memchr; CR is looked for once per run of bytes
that has none, so streams with LF and with CRLF both cost about a memchr. The other functions read whole events.
The compiled build has its types in sse.pxd; indices are checked at the public entrances, not below.

Does not know: JSON, providers, sockets, character sets (values stay bytes).
"""

import cython  # type: ignore[import-untyped,unused-ignore]

__all__ = ["SseError", "SseEvent", "SseReader", "SseSplitter", "event_data", "event_name", "event_spans"]

_BOM = b"\xef\xbb\xbf"
_BOM_DONE = 3  # also its length: a match of all three bytes is the end of the question

if not cython.compiled:

    def find_byte(data: bytes, byte: int, start: int, end: int) -> int:
        """Index of `byte` in data[start:end], or -1 (compiled: memchr, inline in sse.pxd)."""
        return data.find(byte, start, end)


class SseError(Exception):
    """The stream broke a limit; the message is safe to show.

    events: whole events of the same chunk, before the break, so that the cut decides nothing.
    """

    def __init__(self, message: str, events: "list[SseEvent] | None" = None) -> None:
        super().__init__(message)
        self.events = events or []


class SseSplitter:
    """Finds where events end; holds no bytes.

    feed(data, start, end) -> cut: data[start:cut] completes everything so far (whole events, and the comment and blank
    lines between them); data[cut:end] is the open tail, which the caller holds and does not feed again.

    events           events that the last feed completed (overlong ones included)
    total_events     the same over all feeds
    open_bytes       bytes since the last boundary, over all feeds: what the caller holds, unless `overlong`
    overlong         the open event, or the comment line between events, has more than `max_event_bytes`: the caller
                     passes on what it holds, and until the end of it cut == end, so that nothing is held
    overlong_events  events that had more than `max_event_bytes` before the byte that completed them, however cut
    read_from,       data[read_from:read_to] of the last feed are the bytes that belong to whole events not passed on
    read_to          in part before (the first one begins in what the caller holds): what a reader may read. The rest
                     of data[start:cut] belongs to an overlong event.

    Memory: constant. Cost: linear in bytes fed.
    """

    def __init__(self, max_event_bytes: int = 1 << 20) -> None:
        if max_event_bytes < 1:
            raise ValueError("max_event_bytes must be at least 1.")
        self.max_event_bytes = max_event_bytes
        self.reset()

    def reset(self) -> None:
        """Ready for a new stream."""
        self.events = self.read_from = self.read_to = 0
        self.total_events = self.overlong_events = self.open_bytes = 0
        self.overlong = self._line_open = self._has_field = self._after_cr = False
        self._bom = 0

    def feed(self, data: bytes, start: int, end: int) -> int:
        """Take data[start:end]; return `cut`, start <= cut <= end. Raises IndexError for a range outside `data`."""
        if start < 0 or end > len(data) or start > end:
            raise IndexError("The range to feed does not lie in the data.")
        self.events = 0
        if start == end:
            self.read_from = self.read_to = start
            return start
        pos = start
        boundary = -1  # no line between events ended yet
        if self._after_cr:
            self._after_cr = False
            if data[pos] == 10:  # the other half of a CRLF
                pos += 1
                if not self._has_field:
                    boundary = pos
        if self._bom != _BOM_DONE:
            pos = self._skip_bom(data, pos, end)
        boundary = self._lines(data, pos, end, boundary, start)
        self.total_events += self.events
        return self._account(start, end, boundary)

    def _lines(self, data: bytes, pos: int, end: int, boundary: int, origin: int) -> int:
        """Walk the lines of data[pos:end]; return the last boundary between events, or -1. `origin`: the feed."""
        next_cr = _seek(data, 13, pos, end)  # kept over lines: looking anew for each would be quadratic
        while pos < end:
            lf = find_byte(data, 10, pos, next_cr)
            is_cr = lf < 0
            eol = next_cr if is_cr else lf
            blank = eol == pos and not self._line_open
            # A comment line changes nothing inside a block and is a boundary outside one.
            if not self._line_open and not blank and data[pos] != 58:
                self._has_field = True
            if eol == end:
                self._line_open = True
                return boundary
            self._line_open = False
            pos = eol + 1
            if is_cr:
                if pos == end:
                    self._after_cr = True
                elif data[pos] == 10:
                    pos += 1
                next_cr = _seek(data, 13, pos, end)
            if blank and self._has_field:
                self._close_event(eol, boundary, origin)
            if not self._has_field:
                if boundary < 0:
                    self.read_from = pos
                boundary = pos
        return boundary

    def _close_event(self, eol: int, boundary: int, origin: int) -> None:
        self.events += 1
        self._has_field = False
        before = eol - boundary if boundary >= 0 else self.open_bytes + eol - origin
        if before > self.max_event_bytes:
            self.overlong_events += 1

    def _account(self, start: int, end: int, boundary: int) -> int:
        """Settle what is open and what may be read after a feed whose last boundary was `boundary`; return the cut."""
        if boundary < 0:
            open_bytes = self.open_bytes + end - start
            self.read_from = self.read_to = end if self.overlong else start
        else:
            open_bytes = end - boundary
            self.read_to = boundary
            if not self.overlong:  # else the walk has put it behind the overlong event
                self.read_from = start
        self.open_bytes = open_bytes
        self.overlong = open_bytes > self.max_event_bytes
        if self.overlong:
            return end
        return boundary if boundary >= 0 else start

    def _skip_bom(self, data: bytes, pos: int, end: int) -> int:
        """Match the mark byte by byte, since a cut may fall inside it; return the index behind what matched."""
        while pos < end and self._bom < _BOM_DONE:
            if data[pos] != _BOM[self._bom]:
                if self._bom > 0:  # a part of the mark, then something else: it was the start of a field line
                    self._line_open = self._has_field = True
                self._bom = _BOM_DONE
                break
            self._bom += 1
            pos += 1
        return pos


class SseEvent:
    """One event. data: the data lines joined by LF. name: the event's type. id: the last event ID as of this event,
    None while the stream has set none. Values compare equal field by field.
    """

    def __init__(self, data: bytes, name: bytes = b"message", id: bytes | None = None) -> None:
        self.data = data
        self.name = name
        self.id = id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SseEvent):
            return NotImplemented
        return self.data == other.data and self.name == other.name and self.id == other.id

    def __hash__(self) -> int:
        return hash((self.data, self.name, self.id))

    def __repr__(self) -> str:
        return f"SseEvent(data={self.data!r}, name={self.name!r}, id={self.id!r})"


class SseReader:
    """Events from bytes, however the bytes were cut.

    receive_data(chunk: bytes) -> list[SseEvent]   0..n whole events, in order
    A block without a data line gives no event, but its id counts. A cut event at the end of the stream gives none.
    Memory: at most `max_event_bytes` and one chunk. Cost: linear in bytes received.
    Raises: SseError when one event exceeds `max_event_bytes` (`events` of the error holds what was whole before), and
    at every call after that. Never any other error.
    """

    def __init__(self, max_event_bytes: int = 1 << 20) -> None:
        self._splitter = SseSplitter(max_event_bytes)
        self._held = bytearray()
        self._last_id: bytes | None = None
        self._first_run = True
        self._failed = False

    def receive_data(self, chunk: bytes) -> list[SseEvent]:
        splitter = self._splitter
        if self._failed:
            raise SseError(self._too_long())
        cut = splitter.feed(chunk, 0, len(chunk))
        # A comment between events may be of any length: nothing of it is kept.
        self._failed = splitter.overlong_events > 0 or (splitter.overlong and splitter._has_field)
        if cut == 0 and not splitter.overlong:
            self._held += chunk
            return []
        run = chunk[splitter.read_from : splitter.read_to]
        if run and splitter.read_from == 0 and self._held:
            self._held += run
            run = bytes(self._held)
        self._held.clear()
        events = self._decode(run)
        if self._failed:
            raise SseError(self._too_long(), events)
        self._held += chunk[cut:]
        return events

    def _too_long(self) -> str:
        return f"A stream event exceeds {self._splitter.max_event_bytes} bytes."

    def _decode(self, run: bytes) -> list[SseEvent]:
        """The events of a run of whole ones, up to one that is too long."""
        events = []
        skipped = 3 if self._first_run and _starts_with_bom(run) else 0
        for start, end in _spans(run, self._first_run):
            before = end - start - (2 if run[end - 1] == 10 and run[end - 2] == 13 else 1)
            if start == skipped:  # the splitter counts the mark to the line behind it
                before += skipped
            if before > self._splitter.max_event_bytes:
                break
            event = run[start:end]
            self._last_id = _event_id(event, self._last_id)
            data = _joined_data(event)
            if data is not None:
                events.append(SseEvent(data, event_name(event), self._last_id))
        self._first_run = False
        return events


def event_spans(data: bytes) -> list[tuple[int, int]]:
    """(start, end) of each whole event in a run of whole events, line ends included.

    Comment and blank lines between events, and an open tail, are in no span. A byte order mark that begins the run is
    skipped.
    """
    return _spans(data, True)


def _spans(data: bytes, strip_bom: bool) -> list[tuple[int, int]]:
    spans = []
    length = len(data)
    pos = 3 if strip_bom and _starts_with_bom(data) else 0
    begin = -1  # of the open block
    next_cr = _seek(data, 13, pos, length)
    while pos < length:
        eol = _seek(data, 10, pos, next_cr)
        if eol == length:
            break
        after = _after_line(data, eol, length)
        if eol == pos:
            if begin >= 0:
                spans.append((begin, after))
            begin = -1
        elif begin < 0 and data[pos] != 58:
            begin = pos
        pos = after
        if next_cr < pos < length:
            next_cr = _seek(data, 13, pos, length)
    return spans


def event_data(event: bytes) -> bytes:
    """The data lines of one event joined by LF; b"" when there is none. Stops at the event's blank line.

    `event`: one event, with or without its blank line; a byte order mark before it is skipped.
    """
    data = _joined_data(event)
    return b"" if data is None else data


def _joined_data(event: bytes) -> bytes | None:
    end = len(event)
    pos = 3 if _starts_with_bom(event) else 0
    found = None
    pieces = None  # most events have one data line: no list for them
    next_cr = _seek(event, 13, pos, end)
    while pos < end:
        eol = _seek(event, 10, pos, next_cr)
        if eol == pos:
            break
        value = _field_value(event, pos, eol, b"data")
        if value >= 0:
            if pieces is not None:
                pieces.append(event[value:eol])
            elif found is not None:
                pieces = [found, event[value:eol]]
            else:
                found = event[value:eol]
        pos = _after_line(event, eol, end)
        if next_cr < pos < end:
            next_cr = _seek(event, 13, pos, end)
    return found if pieces is None else b"\n".join(pieces)


def event_name(event: bytes) -> bytes:
    """The event's type: its last `event` line, b"message" when that is absent or empty. `event` as in event_data."""
    end = len(event)
    pos = 3 if _starts_with_bom(event) else 0
    name = b""
    next_cr = _seek(event, 13, pos, end)
    while pos < end:
        eol = _seek(event, 10, pos, next_cr)
        if eol == pos:
            break
        value = _field_value(event, pos, eol, b"event")
        if value >= 0:
            name = event[value:eol]
        pos = _after_line(event, eol, end)
        if next_cr < pos < end:
            next_cr = _seek(event, 13, pos, end)
    return name or b"message"


def _event_id(event: bytes, last_id: bytes | None) -> bytes | None:
    """The last event ID after this event. "If the field value does not contain U+0000 NULL" it is taken (9.2.6)."""
    end = len(event)
    pos = 0
    next_cr = _seek(event, 13, pos, end)
    while pos < end:
        eol = _seek(event, 10, pos, next_cr)
        value = _field_value(event, pos, eol, b"id")
        if value >= 0 and find_byte(event, 0, value, eol) < 0:
            last_id = event[value:eol]
        pos = _after_line(event, eol, end)
        if next_cr < pos < end:
            next_cr = _seek(event, 13, pos, end)
    return last_id


def _field_value(data: bytes, pos: int, eol: int, field: bytes) -> int:
    """Where the value begins when the line data[pos:eol] is of this field, else -1. One space after the colon is not
    part of the value; a line without a colon has an empty value.
    """
    length = len(field)
    if eol - pos < length:
        return -1
    for i in range(length):
        if data[pos + i] != field[i]:
            return -1
    pos += length
    if pos == eol:
        return eol
    if data[pos] != 58:
        return -1
    pos += 1
    if pos < eol and data[pos] == 32:
        pos += 1
    return pos


def _seek(data: bytes, byte: int, pos: int, end: int) -> int:
    """Index of the first `byte` in data[pos:end], else `end`."""
    found = find_byte(data, byte, pos, end)
    return end if found < 0 else found


def _after_line(data: bytes, eol: int, end: int) -> int:
    """Index behind the line end at `eol`; CRLF is one."""
    if eol + 1 < end and data[eol] == 13 and data[eol + 1] == 10:
        return eol + 2
    return eol + 1


def _starts_with_bom(data: bytes) -> bool:
    return len(data) >= 3 and data[0] == 0xEF and data[1] == 0xBB and data[2] == 0xBF
