# cython: annotation_typing=False, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What one model costs in one tier, and what a usage costs by it: exact, in nano-dollars.

Rules kept
1. Prices are integers over one denominator (nano-dollars a token); all is summed exactly and rounded once, half up.
2. Every token is priced once, by the most special price that there is for it: what was read from the cache, written to
   it (for an hour apart), heard, spoken or thought is taken out of its whole first. Parts that
   together are more than their whole are cut to it.
3. Where the price depends on the length of the input, all of the call is priced by the step that the input reached.

Does not know: models, price lists, tiers.
"""

from outrider_ext.tokens import Usage

__all__ = ["PARTS", "Tariff"]

# What a price row holds, in this order; `request` is charged once per call.
PARTS = (
    "input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning", "input_audio", "output_audio",
    "cache_audio", "request",
)  # fmt: skip
_FAST_TOKENS = 100_000_000  # up to here, and prices up to 31 bits, sums fit 64 bits
_FAST_PRICE = 2147483647


class Tariff:
    """rows: ((over, prices in the order of PARTS), ...): a row holds when more than `over` tokens were given; the first
    row's `over` is -1, and they ascend. Raises: ValueError.
    """

    def __init__(self, rows: tuple, denominator: int) -> None:  # type: ignore[type-arg]
        overs = [over for over, _ in rows]
        if not rows or overs[0] != -1 or overs != sorted(set(overs)) or denominator < 1:
            raise ValueError("A tariff's rows must ascend from -1, over a positive denominator.")
        if any(len(prices) != len(PARTS) or min(prices) < 0 for _, prices in rows):
            raise ValueError("A tariff's row has a price for each part, 0 or more.")
        self.rows = rows
        self.denominator = denominator
        self._small = denominator if denominator <= _FAST_PRICE else 1
        self._fast = denominator <= _FAST_PRICE and all(max(prices) <= _FAST_PRICE for _, prices in rows)
        if self._fast:
            (self._input, self._cache_read, self._cache_write, self._cache_write_1h, self._output, self._reasoning,
             self._input_audio, self._output_audio, self._cache_audio, self._request) = rows[0][1]  # fmt: skip
        self._next_over = overs[1] if len(overs) > 1 else -1

    def cost(self, usage: Usage) -> int:
        """Nano-dollars."""
        if (
            not self._fast
            or usage.input_tokens > _FAST_TOKENS
            or usage.output_tokens > _FAST_TOKENS
            or (self._next_over >= 0 and usage.input_tokens > self._next_over)
        ):
            return self._cost_far(usage)
        return self._cost(usage)

    def _cost(self, usage: Usage) -> int:
        read = min(usage.cache_read_tokens, usage.input_tokens)
        written = min(usage.cache_write_tokens, usage.input_tokens - read)
        read_audio = min(usage.cache_audio_tokens, read)
        written_1h = min(usage.cache_write_1h_tokens, written)
        heard = min(max(usage.audio_input_tokens - read_audio, 0), usage.input_tokens - read - written)
        spoken = min(usage.audio_output_tokens, usage.output_tokens)
        thought = min(usage.reasoning_tokens, usage.output_tokens - spoken)
        total = (
            (usage.input_tokens - read - written - heard) * self._input
            + (read - read_audio) * self._cache_read
            + read_audio * self._cache_audio
            + (written - written_1h) * self._cache_write
            + written_1h * self._cache_write_1h
            + heard * self._input_audio
            + (usage.output_tokens - spoken - thought) * self._output
            + thought * self._reasoning
            + spoken * self._output_audio
            + self._request
        )
        cost: int = (total + self._small // 2) // self._small
        return cost

    def _cost_far(self, usage: Usage) -> int:
        """The same in unbounded integers, and for the steps of long inputs."""
        prices = self._row(usage.input_tokens)
        given, made = int(usage.input_tokens), int(usage.output_tokens)
        read = min(int(usage.cache_read_tokens), given)
        written = min(int(usage.cache_write_tokens), given - read)
        read_audio = min(int(usage.cache_audio_tokens), read)
        written_1h = min(int(usage.cache_write_1h_tokens), written)
        heard = min(max(int(usage.audio_input_tokens) - read_audio, 0), given - read - written)
        spoken = min(int(usage.audio_output_tokens), made)
        thought = min(int(usage.reasoning_tokens), made - spoken)
        counts = (
            given - read - written - heard,
            read - read_audio,
            written - written_1h,
            written_1h,
            made - spoken - thought,
            thought,
            heard,
            spoken,
            read_audio,
            1,
        )
        total = sum([count * int(price) for count, price in zip(counts, prices, strict=True)])
        denominator: int = self.denominator
        return (total + denominator // 2) // denominator

    def _row(self, given: int) -> tuple:  # type: ignore[type-arg]
        found: tuple = self.rows[0][1]  # type: ignore[type-arg]
        for over, prices in self.rows:
            if given > over:
                found = prices
        return found

    def estimate(self, given: int, made: int) -> int:
        """What a call of so many plain tokens would cost."""
        if not self._fast or given > _FAST_TOKENS or made > _FAST_TOKENS or 0 <= self._next_over < given:
            return self._cost_far(Usage(given, made))
        denominator: int = self.denominator
        cost: int = (given * self._input + made * self._output + self._request + denominator // 2) // denominator
        return cost
