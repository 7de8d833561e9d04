# cython: annotation_typing=False
"""The tokens of one exchange, in numbers that compiled code reads without making objects.

Does not know: how providers report them.
"""


class Usage:
    """Tokens of one exchange. input_tokens includes both cache parts, output_tokens includes reasoning_tokens.

    model: as the answer names it, None where it does not. estimated: counted by us from bytes, not by the provider.
    Parts that are priced apart: cache writes kept for an hour (inside cache_write_tokens), audio inside input and
    output, audio read from the cache (inside both), and the tier that was served, None for the standard one.
    """

    def __init__(
        self,
        input_tokens: int,
        output_tokens: int,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        estimated: bool = False,
        model: str | None = None,
        cache_write_1h_tokens: int = 0,
        audio_input_tokens: int = 0,
        audio_output_tokens: int = 0,
        cache_audio_tokens: int = 0,
        tier: str | None = None,
    ) -> None:
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cache_read_tokens = cache_read_tokens
        self.cache_write_tokens = cache_write_tokens
        self.reasoning_tokens = reasoning_tokens
        self.estimated = estimated
        self.model = model
        self.cache_write_1h_tokens = cache_write_1h_tokens
        self.audio_input_tokens = audio_input_tokens
        self.audio_output_tokens = audio_output_tokens
        self.cache_audio_tokens = cache_audio_tokens
        self.tier = tier

    def row(self) -> "tuple[int, int, int, int, int, bool, str | None, int, int, int, int, str | None]":
        """All of it, in the order of the constructor."""
        return (
            self.input_tokens,
            self.output_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
            self.estimated,
            self.model,
            self.cache_write_1h_tokens,
            self.audio_input_tokens,
            self.audio_output_tokens,
            self.cache_audio_tokens,
            self.tier,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and self.row() == other.row()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Usage{self.row()!r}"
