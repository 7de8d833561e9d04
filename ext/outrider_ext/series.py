# cython: boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True, annotation_typing=False
"""What is counted about exchanges of one kind: plain integers and histogram cells, added to by one call each.

Rules: nothing is formatted here, and nothing is looked up by name: whoever reads (a scrape) takes the arrays and knows
what they mean. Counts never go down.
Does not know: labels, metric names, exchanges.

Source of the histogram's form: Prometheus (cells by upper bound, the last one is +Inf).
"""

from array import array


class Tally:
    """A count. Whoever counts holds on to it, and looks nothing up."""

    def __init__(self) -> None:
        self.n = 0


class Cells:
    """A histogram. bounds: ascending upper bounds, floats. counts: one more than bounds, not cumulative."""

    def __init__(self, bounds: tuple) -> None:  # type: ignore[type-arg]
        self.bounds = bounds
        self.total = 0.0
        self._upper = array("d", bounds)
        self._counts = array("q", [0] * (len(bounds) + 1))
        self._size = len(bounds)

    def observe(self, value: float) -> None:
        """Add one value. Linear over the bounds: there are about fifteen, and most values are small."""
        i = 0
        while i < self._size and value > self._upper[i]:
            i += 1
        self._counts[i] += 1
        self.total += value

    @property
    def counts(self) -> list[int]:
        return list(self._counts)


class Series:
    """Exchanges that share all labels.

    exchanges: how many. tokens: input, output, cache read, cache write, reasoning, summed. estimated: how many had
    usage that we guessed. The Cells may be shared between Series that differ only in labels which no histogram has.
    """

    def __init__(
        self, overhead: Cells, upstream: Cells, first_event: Cells, duration: Cells, given: Cells, made: Cells
    ) -> None:
        self.exchanges = 0
        self.input = self.output = self.cache_read = self.cache_write = self.reasoning = 0
        self.estimated = 0
        self._overhead = overhead
        self._upstream = upstream
        self._first_event = first_event
        self._duration = duration
        self._given = given
        self._made = made

    def exchange(self, inside_ns: int, upstream_ns: int, first_event_ns: int) -> None:
        """One exchange ended. upstream_ns, first_event_ns: -1 where there was none."""
        self.exchanges += 1
        self._overhead.observe(inside_ns * 1e-9)
        if upstream_ns >= 0:
            self._upstream.observe(upstream_ns * 1e-9)
            self._duration.observe(upstream_ns * 1e-9)
        if first_event_ns >= 0:
            self._first_event.observe(first_event_ns * 1e-9)

    def count_tokens(self, given: int, made: int, cache_read: int, cache_write: int, reasoning: int) -> None:
        """Tokens of one exchange; given and made are wholes, the others parts of them."""
        self.input += given
        self.output += made
        self.cache_read += cache_read
        self.cache_write += cache_write
        self.reasoning += reasoning
        self._given.observe(given)
        self._made.observe(made)
