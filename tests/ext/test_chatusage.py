"""The compiled reader of OpenAI-shaped usage: right on the usual shape, silent on every other."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext.builds import both
from outrider.dialects.usage import READERS, openai_usage
from outrider_ext.sse import event_data, event_spans
from outrider_ext.tokens import Usage

COUNTS = st.integers(min_value=-3, max_value=1 << 54)


def answer(usage: Any, **more: Any) -> bytes:
    return orjson.dumps(
        {"id": "x", "model": "gpt-4o", "choices": [{"usage": {"prompt_tokens": 9}}], "usage": usage, **more}
    )


def chunk(usage: Any) -> bytes:
    return orjson.dumps({"id": "x", "model": "gpt-4o", "choices": [], "usage": usage})


USUAL = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "total_tokens": 42,
    "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 5},
}

EVENT_PARTS = (
    b"data: ", b"data:", b"event: x\n", b"\n", b"\n\n", b"\r\n", b"\r", b": said\n\n",
    answer(USUAL), answer(None), b'"usage"',
)  # fmt: skip


@pytest.mark.parametrize("module", both("chatusage"), ids=("compiled", "interpreted"))
class TestChatUsage:
    def test_the_usual_shape_is_read(self, module: Any) -> None:
        assert module.ChatUsage().read(answer(USUAL)) == Usage(30, 12, 8, 0, 5, False, "gpt-4o")

    @pytest.mark.parametrize(
        "change",
        [
            {"total_tokens": 43},
            {"total_tokens": None},
            {"prompt_tokens": -1},
            {"prompt_tokens": 1.5},
            {"prompt_tokens": "30"},
            {"prompt_tokens": 1 << 54},
            {"reasoning_tokens": 1},
            {"cached_tokens": 3},
            {"prompt_cache_hit_tokens": 3},
            {"prompt_tokens_details": {"cached_tokens": 31}},
            {"completion_tokens_details": {"reasoning_tokens": 13}},
        ],
    )
    def test_what_is_unusual_is_left_to_the_careful_reader(self, module: Any, change: dict[str, Any]) -> None:
        assert module.ChatUsage().read(answer(USUAL | change)) is None

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"usage":null}', b'{"usage":[1]}', b'{"usage":{}}x'])
    def test_garbage_is_none(self, module: Any, body: bytes) -> None:
        assert module.ChatUsage().read(body) is None

    @given(body=st.binary(max_size=80))
    def test_any_bytes_give_a_result_or_none(self, module: Any, body: bytes) -> None:
        assert module.ChatUsage().read(b'{"usage":' + body + b"}") is None

    @given(prompt=COUNTS, completion=COUNTS, total=COUNTS, cached=COUNTS, reasoning=COUNTS, fits=st.booleans())
    def test_what_it_reads_is_what_the_careful_reader_reads(
        self, module: Any, prompt: int, completion: int, total: int, cached: int, reasoning: int, fits: bool
    ) -> None:
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion if fits else total,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }
        read = module.ChatUsage().read(answer(usage))
        if read is not None:
            careful = openai_usage(usage, "gpt-4o")
            assert careful is not None
            assert read == careful

    @pytest.mark.parametrize("end", [b"\n", b"\r\n"])
    def test_the_last_event_with_usage_is_read(self, module: Any, end: bytes) -> None:
        null, first, last = (b"data: " + chunk(usage) + end * 2 for usage in (None, USUAL | {"total_tokens": 1}, USUAL))
        done = b"data: [DONE]" + end * 2
        reader = module.ChatUsage()
        for run in (last, last + done, first + last + null + done, b": hello" + end * 2 + last, last[: -len(end)]):
            assert reader.read_last_event(run) == Usage(30, 12, 8, 0, 5, False, "gpt-4o"), run

    @pytest.mark.parametrize(
        "run",
        [
            b"",
            b"data: %b\n\n" % answer(None),
            b"data: [DONE]\n\n",
            b"event: x\ndata: %b\n\n" % answer(USUAL),
            b"data: %b\nid: 1\n\n" % answer(USUAL),
            b"data: 1\ndata: %b\n\n" % answer(USUAL),
            b"data: %b\ndata: 1\n\n" % answer(USUAL),
            b"data: %b\r\r" % answer(USUAL),
            b"datum: %b\n\n" % answer(USUAL),
            b"data: %b\n\n" % answer(USUAL)[:-1],
        ],
    )
    def test_any_other_event_is_left_to_the_careful_reader(self, module: Any, run: bytes) -> None:
        assert module.ChatUsage().read_last_event(run) is None

    @given(run=st.lists(st.sampled_from(EVENT_PARTS), max_size=9).map(b"".join))
    def test_a_run_is_read_as_the_careful_reader_reads_it(self, module: Any, run: bytes) -> None:
        read = module.ChatUsage().read_last_event(run)
        if read is not None:
            events = [
                event_data(run[start:end])
                for start, end in event_spans(run if run.endswith(b"\n\n") else run + b"\n\n")
            ]
            told = [event for event in events if READERS["openai.chat"].has_usage(event)]
            assert read == READERS["openai.chat"].read_events(told[0], told[-1])
