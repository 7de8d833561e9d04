"""Usage as the providers report it: recorded answers against an independent reading, and answers made to deceive."""
# ruff: noqa: E501  (a table is read by its columns)

import base64
import json
from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.usage import MAX_TOKENS, READERS, Usage, estimate
from outrider.providers.registry import Registry
from outrider_ext.eventstream import EventStreamReader
from support import vectors

HUGE = (1 << 53) + 1


def numbers(usage: Usage | None) -> tuple[int, int, int, int, int] | None:
    if usage is None:
        return None
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


def read_stream(reader, events):
    """As the lane does it: only the first and the last event that may hold usage are kept."""
    chosen = [event for event in events if reader.has_usage(event)]
    return reader.read_events(chosen[0], chosen[-1]) if chosen else None


# -- one answer of each dialect, written out by hand

BODIES = [
    ("openai.chat", {"model": "m", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}, (10, 5, 0, 0, 0)),
    (
        "openai.chat",
        {
            "usage": {
                "prompt_tokens": 10,
                "completion_tokens": 9,
                "total_tokens": 19,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                "completion_tokens_details": {"reasoning_tokens": 7},
            }
        },
        (10, 9, 4, 2, 7),
    ),
    (  # xAI leaves reasoning out of completion_tokens; the total tells
        "openai.chat",
        {
            "usage": {
                "prompt_tokens": 12,
                "completion_tokens": 2,
                "total_tokens": 354,
                "completion_tokens_details": {"reasoning_tokens": 340},
            }
        },
        (12, 342, 0, 0, 340),
    ),
    ("openai.chat", {"usage": {"prompt_tokens": 8, "completion_tokens": 1, "prompt_cache_hit_tokens": 6}}, (8, 1, 6, 0, 0)),
    ("openai.chat", {"choices": [{"usage": {"prompt_tokens": 3, "completion_tokens": 4}}], "usage": None}, None),
    ("google.openai", {"usage": {"prompt_tokens": 9, "completion_tokens": 13, "total_tokens": 324}}, (9, 315, 0, 0, 302)),
    ("openai.embeddings", {"data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}, (8, 0, 0, 0, 0)),
    (
        "openai.responses",
        {
            "usage": {
                "input_tokens": 44,
                "input_tokens_details": {"cached_tokens": 5},
                "output_tokens": 4,
                "output_tokens_details": {"reasoning_tokens": 1},
            },
            "metadata": {"usage": "none of your business"},
        },
        (44, 4, 5, 0, 1),
    ),
    (
        "anthropic.messages",
        {
            "usage": {
                "input_tokens": 6,
                "cache_creation_input_tokens": 3337,
                "cache_read_input_tokens": 6289,
                "output_tokens": 198,
                "output_tokens_details": {"thinking_tokens": 10},
            }
        },
        (9632, 198, 6289, 3337, 10),
    ),
    (
        "anthropic.messages",
        {
            "usage": {
                "input_tokens": 612,
                "output_tokens": 2819,
                "iterations": [
                    {"type": "compaction", "input_tokens": 60385, "output_tokens": 522},
                    {"type": "message", "input_tokens": 612, "output_tokens": 2819},
                ],
            }
        },
        (60997, 3341, 0, 0, 0),
    ),
    (
        "gemini.generate",
        {
            "candidates": [],
            "usageMetadata": {
                "promptTokenCount": 9,
                "cachedContentTokenCount": 4,
                "toolUsePromptTokenCount": 1,
                "candidatesTokenCount": 13,
                "thoughtsTokenCount": 302,
                "totalTokenCount": 325,
            },
            "modelVersion": "gemini-3",
        },
        (10, 315, 4, 0, 302),
    ),
    (
        "gemini.interactions",
        {"usage": {"total_input_tokens": 22, "total_output_tokens": 590, "total_tool_use_tokens": 198, "total_thought_tokens": 1173}},
        (220, 1763, 0, 0, 1173),
    ),
    (
        "bedrock.converse",
        {"usage": {"inputTokens": 4, "outputTokens": 50, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 7}},
        (111, 50, 100, 7, 0),
    ),
    ("bedrock.invoke", {"content": [], "usage": {"input_tokens": 38, "output_tokens": 246}}, (38, 246, 0, 0, 0)),
    ("bedrock.invoke", {"usage": {"inputTokens": 16, "outputTokens": 27, "cacheReadInputTokenCount": 2}}, (18, 27, 2, 0, 0)),
    ("bedrock.invoke", {"generation": "x", "prompt_token_count": 158, "generation_token_count": 128}, (158, 128, 0, 0, 0)),
    ("bedrock.invoke", {"inputTextTokenCount": 9, "results": [{"tokenCount": 17}]}, (9, 17, 0, 0, 0)),
    ("bedrock.invoke", {"results": [{"index": 0, "relevance_score": 0.9}]}, None),
    ("replicate.predictions", {"output": ["x"], "metrics": {"input_token_count": 4, "output_token_count": 2}}, (4, 2, 0, 0, 0)),
    ("replicate.predictions", {"output": ["x"], "metrics": {"predict_time": 0.5}}, None),
    ("bedrock.invoke", {"usage": {"prompt_tokens": 6, "completion_tokens": 100}}, (6, 100, 0, 0, 0)),
    ("cohere.chat", {"usage": {"billed_units": {"input_tokens": 46.0, "output_tokens": 14.0}}}, (46, 14, 0, 0, 0)),
    ("cohere.chat_v1", {"text": "x", "meta": {"billed_units": {"input_tokens": 2, "output_tokens": 3}}}, (2, 3, 0, 0, 0)),
    ("cohere.meta", {"results": [], "meta": {"billed_units": {"search_units": 1}}}, None),
    ("ollama.chat", {"model": "m", "done": True, "prompt_eval_count": 26, "eval_count": 298}, (26, 298, 0, 0, 0)),
    ("ollama.chat", {"model": "m", "done": True, "eval_count": 298}, (0, 298, 0, 0, 0)),
    ("ollama.embed", {"model": "m", "embeddings": [], "prompt_eval_count": 8}, (8, 0, 0, 0, 0)),
    ("google.predict", {"predictions": [{"embeddings": {"statistics": {"token_count": 4.0}}}] * 2}, (8, 0, 0, 0, 0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "answer", "expected"), BODIES, ids=[f"{row[0]}-{n}" for n, row in enumerate(BODIES)]
)
def test_a_whole_answer_gives_its_usage_however_it_is_spaced(reader, answer, expected):
    for body in (orjson.dumps(answer), json.dumps(answer, indent=2).encode() + b"\n"):
        if reader == "openai.chat" and "choices" in answer and answer["choices"]:
            continue
        assert numbers(READERS[reader].read_body(body)) == expected


@pytest.mark.parametrize(
    ("reader", "answer", "model"),
    [
        (
            "openai.chat",
            {"id": "x", "model": "gpt-5", "choices": [{"model": "no"}], "usage": {"prompt_tokens": 1}},
            "gpt-5",
        ),
        ("openai.chat", {"choices": [{"model": "no"}], "usage": {"prompt_tokens": 1}}, None),
        ("openai.chat", {"usage": {"prompt_tokens": 1}, "model": "behind"}, "behind"),
        ("anthropic.messages", {"model": "claude", "content": [], "usage": {"input_tokens": 1}}, "claude"),
        ("gemini.generate", {"usageMetadata": {"promptTokenCount": 1}, "modelVersion": "gemini-3"}, "gemini-3"),
        ("openai.chat", {"model": 7, "usage": {"prompt_tokens": 1}}, None),
    ],
)
def test_the_model_is_the_one_that_the_answer_names_at_its_top(reader, answer, model):
    assert READERS[reader].read_body(orjson.dumps(answer)).model == model


def test_the_end_of_a_long_answer_is_enough():
    answer = {"model": "m", "choices": [{"text": 'say "usage": {"prompt_tokens": 1} ' * 5000}]}
    body = orjson.dumps(answer | {"usage": {"prompt_tokens": 7, "completion_tokens": 9}, "system_fingerprint": "f"})
    for kept in (200, 4096, 65536, len(body)):
        assert numbers(READERS["openai.chat"].read_body(body[-kept:])) == (7, 9, 0, 0, 0)


DECEPTIONS = [
    (
        "anthropic.messages",
        {"content": [{"type": "tool_use", "input": {"usage": {"input_tokens": 1, "output_tokens": 1}}}]},
    ),
    ("bedrock.converse", {"output": {"message": {"content": [{"toolUse": {"input": {"usage": {"inputTokens": 1}}}}]}}}),
    ("gemini.generate", {"candidates": [{"args": {"usageMetadata": {"promptTokenCount": 1}}}]}),
    ("openai.chat", {"choices": [{"text": '"usage": {"prompt_tokens": 1}}'}]}),
    ("openai.chat", {"choices": [{"text": 'x"usage'}], "note": '"usage": {}'}),
]


@pytest.mark.parametrize(("reader", "answer"), DECEPTIONS)
def test_usage_is_believed_only_at_the_top_of_the_answer(reader, answer):
    assert READERS[reader].read_body(orjson.dumps(answer)) is None
    assert READERS[reader].read_events(orjson.dumps(answer), orjson.dumps(answer)) is None


def test_real_usage_is_found_behind_and_before_false_ones():
    false = {"usage": {"input_tokens": 1, "output_tokens": 1}}
    real = {"input_tokens": 70, "output_tokens": 80}
    for answer in (
        {"content": [{"input": false}], "usage": real},
        {"usage": real, "content": [{"input": false}]},
        {"content": [{"input": false}], "usage": real, "container": {"x": [false, false]}},
    ):
        assert numbers(READERS["anthropic.messages"].read_body(orjson.dumps(answer))) == (70, 80, 0, 0, 0)


GARBAGE = (-1, -(10**30), True, False, 1.5, "12", None, [], {}, HUGE, 10**40, float("nan"), float("inf"))


@pytest.mark.parametrize("bad", GARBAGE, ids=repr)
def test_a_number_that_is_not_a_token_count_is_absent(bad):
    fields = {
        "openai.chat": ("usage", "prompt_tokens", "completion_tokens"),
        "openai.responses": ("usage", "input_tokens", "output_tokens"),
        "anthropic.messages": ("usage", "input_tokens", "output_tokens"),
        "gemini.generate": ("usageMetadata", "promptTokenCount", "candidatesTokenCount"),
        "bedrock.converse": ("usage", "inputTokens", "outputTokens"),
    }
    for name, (key, given_key, made_key) in fields.items():
        both = json.dumps({key: {given_key: bad, made_key: bad}}).encode()
        one = json.dumps({key: {given_key: bad, made_key: 5}}).encode()
        assert READERS[name].read_body(both) is None, name
        read = READERS[name].read_body(one)
        # NaN and Infinity are no JSON, nor are integers too long for 64 bits kept as integers
        assert read is None or numbers(read) == (0, 5, 0, 0, 0), name


def test_parts_never_exceed_their_whole():
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 999},
        "completion_tokens_details": {"reasoning_tokens": 999},
    }
    assert numbers(READERS["openai.chat"].read_body(orjson.dumps({"usage": usage}))) == (10, 5, 10, 0, 5)


def test_sums_stay_within_the_cap():
    usage = {"input_tokens": MAX_TOKENS, "cache_read_input_tokens": MAX_TOKENS, "output_tokens": 1}
    assert READERS["anthropic.messages"].read_body(orjson.dumps({"usage": usage})).input_tokens == MAX_TOKENS


# -- streams


def test_openai_streams_have_null_usage_until_the_last_chunk():
    reader = READERS["openai.chat"]
    events = [b'{"choices":[{"delta":{}}],"usage":null}'] * 3
    assert not any(reader.has_usage(event) for event in events)
    last = b'{"model":"gpt","choices":[],"usage" : {"prompt_tokens":3,"completion_tokens":4}}'
    assert read_stream(reader, [*events, last, b"[DONE]"]) == Usage(3, 4, model="gpt")


def test_groq_and_moonshot_put_usage_where_only_they_do():
    groq = b'{"x_groq":{"id":"r","usage":{"prompt_tokens":17,"completion_tokens":11}},"usage":null,"choices":[]}'
    moonshot = b'{"choices":[{"index":0,"delta":{},"usage":{"prompt_tokens":17,"completion_tokens":11}}]}'
    for event in (groq, moonshot):
        assert numbers(read_stream(READERS["openai.chat"], [b'{"x_groq":{"id":"r"}}', event])) == (17, 11, 0, 0, 0)


def test_anthropics_cumulative_deltas_are_never_summed():
    events = [
        b'{"type":"message_start","message":{"model":"claude","usage":{"input_tokens":43,"cache_read_input_tokens":5,"output_tokens":1}}}',
        b'{"type":"ping"}',
        b'{"type":"message_delta","delta":{},"usage":{"output_tokens":7}}',
        b'{"type":"message_delta","delta":{},"usage":{"output_tokens":9,"input_tokens":61,"cache_read_input_tokens":null}}',
        b'{"type":"message_stop"}',
    ]  # fmt: skip
    assert read_stream(READERS["anthropic.messages"], events) == Usage(66, 9, 5, model="claude")


def test_a_cut_anthropic_stream_still_gives_its_input():
    event = b'{"type":"message_start","message":{"usage":{"input_tokens":43,"output_tokens":1}}}'
    assert numbers(read_stream(READERS["anthropic.messages"], [event])) == (43, 1, 0, 0, 0)


@pytest.mark.parametrize("kind", ["completed", "incomplete", "failed"])
def test_a_responses_stream_ends_with_its_usage(kind):
    created = b'{"type":"response.created","response":{"usage":null}}'
    last = (
        b'{"type":"response.%s","response":{"model":"gpt-5","usage":{"input_tokens":1,"output_tokens":2}}}'
        % kind.encode()
    )
    assert read_stream(READERS["openai.responses"], [created, last]) == Usage(1, 2, model="gpt-5")


def test_gemini_repeats_its_usage_and_the_last_counts():
    events = [
        b'{"usageMetadata":{"trafficType":"ON_DEMAND"}}',
        b'{"usageMetadata":{"promptTokenCount":26,"candidatesTokenCount":1}}',
        b'{"usageMetadata":{"promptTokenCount":26,"candidatesTokenCount":23,"thoughtsTokenCount":132},"modelVersion":"g"}',
    ]
    assert read_stream(READERS["gemini.generate"], events) == Usage(26, 155, 0, 0, 132, model="g")
    array = b"[" + b",\r\n".join(events) + b"\n]\n"
    assert READERS["gemini.generate"].read_body(array) == Usage(26, 155, 0, 0, 132, model="g")


def test_invoke_model_chunks_are_read_inside_their_base64():
    def payload(chunk):
        return orjson.dumps({"bytes": base64.b64encode(orjson.dumps(chunk)).decode(), "p": "abcd"})

    start = {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 9, "output_tokens": 1}}}
    delta = {"type": "message_delta", "usage": {"output_tokens": 30}}
    metrics = {"inputTokenCount": 9, "outputTokenCount": 31, "cacheReadInputTokenCount": 2, "invocationLatency": 5}
    stop = {"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}
    reader = READERS["bedrock.invoke"]
    assert numbers(read_stream(reader, [payload(start), payload(delta), payload(stop)])) == (11, 31, 2, 0, 0)
    assert numbers(read_stream(reader, [payload(start), payload(delta)])) == (9, 30, 0, 0, 0)
    assert read_stream(reader, [b'{"bytes":"not base64!"}']) is None


def test_bedrocks_headers_are_read_and_garbage_in_them_is_not():
    reader = READERS["bedrock.invoke"]
    given, made, read, written = reader.header_names
    assert numbers(reader.read_headers({given: b"4", made: b"50", read: b"10", written: b"6"})) == (20, 50, 10, 6, 0)
    assert reader.read_headers({}) is None
    assert reader.read_headers({given: b"-4", made: b"99999999999999999999"}) is None
    assert READERS["openai.chat"].read_headers({given: b"4"}) is None


@pytest.mark.parametrize("name", sorted(READERS))
@given(data=st.one_of(st.binary(max_size=300), st.text(alphabet='{}[]":,usageMtdn 0123456789.-e', max_size=200)))
def test_garbage_gives_usage_or_none_and_nothing_else(name, data):
    reader = READERS[name]
    raw = data if isinstance(data, bytes) else data.encode()
    for text in (raw, reader.needle + raw, b"{" + reader.needle + b":" + raw + b"}", b'{"usage":{"a":' + raw):
        for read in (reader.read_body(text), reader.read_events(text, text)):
            assert read is None or min(numbers(read)) >= 0
        reader.has_usage(text)


def test_deep_nesting_is_no_usage():
    for text in (b"[" * 100_000, b'{"usage":' * 50_000, b'{"usage":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
        for reader in READERS.values():
            assert reader.read_body(text) is None
            assert reader.read_events(text, text) is None


def test_an_estimate_says_so_and_is_never_nothing_for_something():
    assert estimate(0, 0) == Usage(0, 0, estimated=True)
    assert estimate(1, 1) == Usage(1, 1, estimated=True)
    assert estimate(400, 41) == Usage(100, 11, estimated=True)


# -- recorded traffic: an independent reading, key by key, over the whole document


def _int(value) -> int:
    return int(value or 0)


def _expected_openai(u, name):
    given = _int(u["prompt_tokens"] if "prompt_tokens" in u else u.get("input_tokens"))
    made = _int(u["completion_tokens"] if "completion_tokens" in u else u.get("output_tokens"))
    reasoning = 0
    for key in ("completion_tokens_details", "output_tokens_details"):
        reasoning = reasoning or _int((u.get(key) or {}).get("reasoning_tokens"))
    if name == "xai" and "prompt_tokens" in u:
        made += reasoning
    cached = 0
    for key in ("prompt_tokens_details", "input_tokens_details"):
        cached = cached or _int((u.get(key) or {}).get("cached_tokens"))
    cached = cached or _int(u.get("cached_tokens"))  # Moonshot
    return given, made, cached, reasoning


def _expected_anthropic(u):
    read, written = _int(u.get("cache_read_input_tokens")), _int(u.get("cache_creation_input_tokens"))
    apart = [i for i in u.get("iterations") or () if i["type"] in ("compaction", "advisor_message")]
    given = _int(u.get("input_tokens")) + read + written + sum(_int(i["input_tokens"]) for i in apart)
    return given, _int(u.get("output_tokens")) + sum(_int(i["output_tokens"]) for i in apart), read, None


def _expected_gemini(u):
    given = _int(u.get("promptTokenCount")) + _int(u.get("toolUsePromptTokenCount"))
    made = _int(u.get("candidatesTokenCount")) + _int(u.get("thoughtsTokenCount"))
    if "totalTokenCount" in u and "promptTokenCount" in u:
        made = u["totalTokenCount"] - given
    return given, made, _int(u.get("cachedContentTokenCount")), _int(u.get("thoughtsTokenCount"))


def _expected_interactions(u):
    given = u["total_input_tokens"] + u["total_tool_use_tokens"]
    return given, u["total_tokens"] - given, u["total_cached_tokens"], u["total_thought_tokens"]


def _expected_converse(u):
    cached = _int(u.get("cacheReadInputTokens"))
    return u["totalTokens"] - u["outputTokens"], u["outputTokens"], cached, None


def _expected_cohere(u):
    units = u.get("billed_units") or {}
    return (
        (_int(units.get("input_tokens")), _int(units.get("output_tokens")), 0, None)
        if "input_tokens" in units
        else None
    )


def expected_of(name, reader, document):
    """Expected (input, output, cached, reasoning) of one parsed answer or event, or None if it tells nothing."""
    if not isinstance(document, dict):
        return None
    if reader == "gemini.generate":
        u = document.get("usageMetadata")
        counts = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "responseTokenCount")
        return _expected_gemini(u) if u and any(key in u for key in counts) else None
    if reader.startswith("ollama."):
        return _int(document.get("prompt_eval_count")), _int(document.get("eval_count")), 0, None
    if reader in ("cohere.meta", "cohere.chat_v1"):
        return _expected_cohere(document.get("meta") or (document.get("response") or {}).get("meta") or {})
    u = document.get("usage")
    for inner in ("response", "message", "metadata", "delta", "interaction"):
        u = u or (document.get(inner) or {}).get("usage") if isinstance(document.get(inner), dict | None) else u
    u = u or (document.get("x_groq") or {}).get("usage")
    if not u or u.get("type") == "duration":  # a transcription billed by the second
        return None
    if reader == "cohere.chat":
        return _expected_cohere(u)
    if reader == "anthropic.messages":
        return _expected_anthropic(u)
    if reader == "bedrock.converse":
        return _expected_converse(u)
    if reader == "gemini.interactions":
        return _expected_interactions(u)
    return _expected_openai(u, name)


def brief(usage: Usage | None):
    return usage and (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.reasoning_tokens)


def same(read, expected) -> bool:
    """None in the expectation is what the independent reading does not look at."""
    if read is None or expected is None:
        return read is expected is None
    return all(want is None or got == want for got, want in zip(read, expected, strict=True))


def sse_data(text: str) -> list[bytes]:
    """The data of each event, the simplest way there is."""
    blocks = text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n")
    lines = [[line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")] for block in blocks]
    return ["\n".join(data).encode() for data in lines if data]


def documents(events: list[bytes]) -> list[dict]:
    found = []
    for event in events:
        try:
            found.append(json.loads(event))
        except ValueError:
            continue
    return found


def expected_stream(name, reader, events):
    merged, started = None, {}
    for document in documents(events):
        one = expected_of(name, reader, document)
        if one is None:
            continue
        if reader == "anthropic.messages":
            told = document.get("usage") or document["message"]["usage"]
            started = started | {key: value for key, value in told.items() if value is not None}
            one = _expected_anthropic(started)
        merged = one
    return merged


def recorded():
    """(row, binding name, operation) of every successful recorded request whose usage is read."""
    registry = Registry({})
    for row in vectors.rows("exchanges"):
        host, _, path = row["url"].partition("#")[0].partition("://")[2].partition("/")
        binding = registry.by_host(host.partition(":")[0], 443)
        if host == "127.0.0.1:11434":
            from outrider.providers import ollama

            name, provider = "ollama", ollama.PROVIDER
        elif binding is None:
            continue
        else:
            name, provider = binding.name, binding.provider
        match = provider.match(row["method"].encode(), b"/" + path.partition("?")[0].encode())
        if match.operation.usage and row["status"] == 200:
            yield row, name, match.operation


def test_every_recorded_json_answer_reads_as_the_independent_reading_does():
    told: Counter[str] = Counter()
    for row, name, operation in recorded():
        text = row.get("resp")
        if (
            text is None
            or operation.usage == "bedrock.invoke"
            or (sse_data(text) and not text.lstrip().startswith(("{", "[")))
        ):
            continue
        try:
            document = json.loads(text)
        except ValueError:
            continue
        last = document[-1] if isinstance(document, list) else document
        read = brief(READERS[operation.usage].read_body(text.encode()))
        assert same(read, expected_of(name, operation.usage, last)), (row["id"], operation.usage, read)
        told.update({operation.usage: 1} if read else {})
    assert told == {
        "anthropic.messages": 38,
        "bedrock.converse": 20,
        "cohere.chat": 8,
        "cohere.chat_v1": 15,
        "cohere.meta": 2,
        "gemini.generate": 40,
        "gemini.interactions": 3,
        "ollama.chat": 13,
        "openai.chat": 392,
        "openai.embeddings": 21,
        "openai.responses": 64,
    }


def test_every_recorded_sse_stream_reads_as_the_independent_reading_does():
    told: Counter[str] = Counter()
    for row, name, operation in recorded():
        text = row.get("resp")
        if text is None or text.lstrip().startswith(("{", "[")) or not sse_data(text):
            continue
        events = sse_data(text)
        read = brief(read_stream(READERS[operation.usage], events))
        assert same(read, expected_stream(name, operation.usage, events)), (row["id"], operation.usage, read)
        told.update({operation.usage: 1} if read else {})
    assert told == {
        "anthropic.messages": 28,
        "cohere.chat": 10,
        "gemini.generate": 9,
        "gemini.interactions": 4,
        "openai.chat": 40,
        "openai.responses": 33,
    }


def test_every_recorded_ndjson_stream_reads_as_its_last_line_does():
    told = 0
    for row, name, operation in recorded():
        text = row.get("resp")
        if text is None or operation.stream != "ndjson" or "\n" not in text.strip():
            continue
        lines = [line.encode() for line in text.splitlines() if line.strip()]
        read = brief(read_stream(READERS[operation.usage], lines))
        assert same(read, expected_of(name, operation.usage, json.loads(lines[-1]))), (row["id"], read)
        told += read is not None
    assert told == 7


def test_every_recorded_event_stream_reads_as_its_own_frames_say():
    told = 0
    for row, _, operation in recorded():
        if "resp_b64" not in row or operation.stream != "eventstream":
            continue
        messages = EventStreamReader().receive_data(base64.b64decode(row["resp_b64"]))
        read = read_stream(READERS[operation.usage], [message.payload for message in messages])
        if operation.usage == "bedrock.converse":
            metadata = [json.loads(m.payload) for m in messages if m.headers.get(":event-type") == "metadata"]
            assert same(brief(read), _expected_converse(metadata[-1]["usage"]))
        else:
            chunks = [json.loads(base64.b64decode(json.loads(message.payload)["bytes"])) for message in messages]
            metrics = chunks[-1].get("amazon-bedrock-invocationMetrics") or {
                "inputTokenCount": chunks[0]["inputTextTokenCount"],
                "outputTokenCount": chunks[-1]["totalOutputTextTokenCount"],
            }
            cached = _int(metrics.get("cacheReadInputTokenCount")) + _int(metrics.get("cacheWriteInputTokenCount"))
            assert read is not None
            assert read.input_tokens == metrics["inputTokenCount"] + cached
            assert read.output_tokens == metrics["outputTokenCount"]
        told += 1
    assert told == 22


def test_recorded_invoke_model_bodies_agree_with_bedrocks_own_headers():
    agreed = 0
    reader = READERS["bedrock.invoke"]
    for row, _, operation in recorded():
        if operation.usage != "bedrock.invoke" or row.get("resp") is None:
            continue
        headers = {key.lower().encode(): str(value).encode() for key, value in row["resp_headers"]}
        said = reader.read_headers({name: headers[name] for name in reader.header_names if name in headers})
        read = reader.read_body(row["resp"].encode())
        # A guardrail that stepped in leaves numbers out of the body: the headers are what is billed.
        if said is not None and read is not None and '"INTERVENED"' not in row["resp"]:
            assert numbers(read) == numbers(said), row["url"]
            agreed += 1
    assert agreed == 19


FIXTURE_READERS = {
    "alibaba": "openai.chat",
    "amazon-bedrock": "bedrock.converse",
    "anthropic": "anthropic.messages",
    "deepseek": "openai.chat",
    "google": "gemini.generate",
    "groq": "openai.chat",
    "mistral": "openai.chat",
    "moonshotai": "openai.chat",
    "perplexity": "openai.chat",
    "cohere": "cohere.chat",
    "open-responses": "openai.responses",
    "openai": "openai.responses",
    "azure": "openai.responses",
    "xai": "openai.responses",
    "googleai": "gemini.generate",
    "vertexai": "gemini.generate",
}


def fixture_reader(row) -> str | None:
    file = row["file"]
    if "interactions" in file:
        return "gemini.interactions"
    if row["provider"] in ("openai", "azure", "xai") and "/responses/" not in file and row["provider"] != "azure":
        return "openai.chat"
    return FIXTURE_READERS.get(row["provider"])


def test_every_fixture_stream_reads_as_the_independent_reading_does():
    told: Counter[str] = Counter()
    for row in vectors.rows("provider_fixtures"):
        reader = fixture_reader(row)
        if reader is None or "body" in row or (not row["stream"] and "raw" in row):
            continue
        events = [chunk.encode() for chunk in row["chunks"]] if "chunks" in row else sse_data(row["raw"])
        read = brief(read_stream(READERS[reader], events))
        expected = expected_stream("xai" if "xai" in row["file"] else "", reader, events)
        assert same(read, expected), (row["file"], reader, read, expected)
        told.update({reader: 1} if read else {})
    assert told == {
        "anthropic.messages": 38,
        "bedrock.converse": 7,
        "cohere.chat": 4,
        "gemini.generate": 29,
        "gemini.interactions": 8,
        "openai.chat": 21,
        "openai.responses": 48,
    }


def test_every_fixture_answer_reads_as_the_independent_reading_does():
    told: Counter[str] = Counter()
    for row in vectors.rows("provider_fixtures"):
        reader = fixture_reader(row)
        if reader is None or row["stream"]:
            continue
        text = row["raw"] if "raw" in row else row["body"]
        try:
            document = json.loads(text)
        except ValueError:
            continue
        read = brief(READERS[reader].read_body(text.encode()))
        expected = expected_of("xai" if "xai" in row["file"] else "", reader, document)
        assert same(read, expected), (row["file"], reader, read, expected)
        told.update({reader: 1} if read else {})
    assert told == {
        "anthropic.messages": 31,
        "bedrock.converse": 11,
        "cohere.chat": 6,
        "gemini.generate": 45,
        "gemini.interactions": 9,
        "openai.chat": 24,
        "openai.responses": 45,
    }
