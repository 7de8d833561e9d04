"""What a call is about and what it used: the model, the injected wish for usage, its removal, and the count itself."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from outrider.errors import BadRequestError
from outrider.stack.call import Call
from outrider.stack.meter import without_extra_chunk
from outrider_ext.layers import CountTokens
from support.exchanges import answered, call, exchange, snapshot


def seen(
    folder: Path, body: bytes, *, path: bytes = b"/openai/v1/chat/completions", more: bytes = b"", **usage: Any
) -> Any:
    """(exchange, call) after the body's hooks."""
    request = b"POST " + path + b" HTTP/1.1\r\nhost: 127.0.0.1:8484\r\n" + more + b"\r\n"
    x = exchange(request, body=body)
    providers = {"bedrock": {"region": "us-east-1"}}
    route = snapshot(folder, providers, **({"usage": usage} if usage else {})).router.find(x)
    one = call(route)
    for hook in route.body_hooks:
        assert hook(x, one) is None
    return x, one


def test_model_and_stream_are_read_from_the_body(tmp_path: Path) -> None:
    _, one = seen(tmp_path, b'{"messages":[{"model":"no"}],"model":"gpt-\\u0035","stream":true}')
    assert (one.model, one.stream) == ("gpt-5", True)
    _, one = seen(tmp_path, b'{"model":"m"}')
    assert (one.model, one.stream) == ("m", False)


@pytest.mark.parametrize("body", [b"", b"not json", b"[1]", b'{"model"', b'{"model": 7}', b"\xff\xfe"])
def test_a_body_that_is_no_object_is_the_providers_to_refuse(tmp_path: Path, body: bytes) -> None:
    x, one = seen(tmp_path, body)
    assert (x.body, one.model) == (body, None)


@pytest.mark.parametrize(
    ("path", "body", "most"),
    [
        (b"/bedrock/model/m/converse-stream", b'{"inferenceConfig":{"maxTokens":7}}', 7),
        (b"/gemini/v1beta/models/m:streamGenerateContent", b'{"generationConfig":{"maxOutputTokens":9}}', 9),
        (b"/gemini/v1beta/models/m:streamGenerateContent", b'{"generationConfig":{"candidateCount":2}}', -1),
    ],
)
def test_the_longest_answer_is_read_one_level_down_where_it_is_said_there(
    tmp_path: Path, path: bytes, body: bytes, most: int
) -> None:
    assert seen(tmp_path, body, path=path)[1].max_tokens == most


def test_a_model_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequestError):
        seen(tmp_path, b'{"model":"a","model":"b"}')


def test_an_encoded_body_is_passed_on_unread(tmp_path: Path) -> None:
    packed = gzip.compress(b'{"model":"m","stream":true}')
    x, one = seen(tmp_path, packed, more=b"content-encoding: gzip\r\n")
    assert (x.body, one.model) == (packed, None)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", {"include_usage": True}),
        (',"stream_options":null', {"include_usage": True}),
        (',"stream_options":{}', {"include_usage": True}),
        (',"stream_options":{"include_usage":false}', {"include_usage": True}),
        (',"stream_options":{"include_obfuscation":false}', {"include_obfuscation": False, "include_usage": True}),
        (',"stream_options":{"a":{"include_usage":true}}', {"a": {"include_usage": True}, "include_usage": True}),
    ],
)
def test_a_stream_that_did_not_ask_for_usage_is_made_to(tmp_path: Path, options: str, wanted: dict[str, Any]) -> None:
    text = '{"model":"m","stream":true%s,"messages":[]}' % options  # noqa: UP031 - braces
    x, one = seen(tmp_path, text.encode())
    assert json.loads(x.body) == {"model": "m", "stream": True, "messages": [], "stream_options": wanted}
    assert one.strip_usage


def test_the_wish_fits_into_any_object(tmp_path: Path) -> None:
    x, _ = seen(tmp_path, b' { "stream" : true } ')
    assert json.loads(x.body) == {"stream": True, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    "body", [b'{"model":"m"}', b'{"stream":false}', b'{"stream":true,"stream_options":{"include_usage":true}}']
)
def test_who_asked_or_does_not_stream_is_left_alone(tmp_path: Path, body: bytes) -> None:
    x, one = seen(tmp_path, body)
    assert x.body == body
    assert not one.strip_usage


def test_config_can_turn_it_off(tmp_path: Path) -> None:
    x, one = seen(tmp_path, b'{"stream":true}', inject_stream_usage=False)
    assert (x.body, one.strip_usage) == (b'{"stream":true}', False)


def test_providers_that_send_usage_unasked_are_not_asked(tmp_path: Path) -> None:
    x, one = seen(tmp_path, b'{"model":"c","stream":true}', path=b"/anthropic/v1/messages")
    assert (x.body, one.strip_usage) == (b'{"model":"c","stream":true}', False)


# -- the extra chunk

CHUNK = b'data: {"choices":[{"delta":{}}],"usage":null}\n\n'
EXTRA = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("run", "left"),
    [
        (CHUNK + EXTRA + DONE, CHUNK + DONE),
        (EXTRA, b""),
        (CHUNK, CHUNK),
        (b'data: {"choices": [ ],"usage": {"a":1}}\r\n\r\n' + DONE, DONE),
    ],
)  # fmt: skip
def test_only_the_chunk_that_was_asked_for_in_secret_is_taken_out(run: bytes, left: bytes) -> None:
    assert without_extra_chunk(None, run) == left  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"delta":{"content":"\\"usage\\":{}"}}]}\n\n',
        b'data: {"choices":[],"usage":null}\n\n',
        b'data: {"choices":[],"prompt_filter_results":[]}\n\n',
        b'data: not json "usage"\n\n',
    ],
)
def test_what_only_resembles_it_stays(event: bytes) -> None:
    assert without_extra_chunk(None, CHUNK + event) == CHUNK + event  # type: ignore[arg-type]


def test_comments_beside_the_extra_chunk_stay() -> None:
    assert (
        without_extra_chunk(None, b": ping\n\n" + CHUNK + EXTRA + b": pong\n\n")
        == b": ping\n\n" + CHUNK + b": pong\n\n"
    )  # type: ignore[arg-type]


# -- the answer

USAGE = b'{"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}'


def used(folder: Path, head: bytes, body: bytes) -> Any:
    """(exchange, call) after this answer."""
    x, one = seen(folder, b'{"model":"m","stream":true}')
    route = one.route

    def run(hooks: Any) -> None:
        for hook in hooks:
            hook(x, one)

    meters = [hook for hook in route.end_hooks if isinstance(hook, CountTokens)]
    answered(x, head + body, on_answer=lambda _: run(route.answer_hooks), on_end=lambda _: run(meters))
    return x, one


def head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


JSON, EVENTS = b"content-type: application/json", b"content-type: text/event-stream; charset=utf-8"


def tokens(one: Call) -> tuple[int, int, bool]:
    assert one.usage is not None
    return one.usage.input_tokens, one.usage.output_tokens, one.usage.estimated


def test_a_plain_answer_is_kept_and_read_at_the_end(tmp_path: Path) -> None:
    x, one = used(tmp_path, head(JSON), USAGE)
    assert (x.sse, x.tap_body) == (False, True)
    assert tokens(one) == (3, 5, False)


@pytest.mark.parametrize("coding", [b"gzip", b"GZIP", b"x-gzip"])
def test_an_encoded_answer_is_decoded_for_reading(tmp_path: Path, coding: bytes) -> None:
    _, one = used(tmp_path, head(JSON, b"content-encoding: " + coding), gzip.compress(USAGE))
    assert tokens(one) == (3, 5, False)


def test_one_that_cannot_be_decoded_is_estimated(tmp_path: Path) -> None:
    x, one = used(tmp_path, head(JSON, b"content-encoding: br"), USAGE)
    assert not x.tap_body
    assert tokens(one)[2]


def test_identity_is_no_encoding(tmp_path: Path) -> None:
    _, one = used(tmp_path, head(JSON, b"content-encoding: Identity"), USAGE)
    assert tokens(one) == (3, 5, False)


@pytest.mark.parametrize("usage", [b'"usage":null', b'"usage":{"prompt_tokens":3}'], ids=["none", "unusual"])
def test_what_the_compiled_reader_leaves_is_read_with_care_or_estimated(tmp_path: Path, usage: bytes) -> None:
    _, one = used(tmp_path, head(JSON), b'{"choices":[],' + usage + b"}")
    assert tokens(one)[2] == (usage == b'"usage":null')


@pytest.mark.parametrize("kind", [EVENTS, b"content-type: TEXT/Event-Stream"])
def test_a_stream_is_reframed_and_its_usage_read_from_the_events_kept(tmp_path: Path, kind: bytes) -> None:
    x, one = used(tmp_path, head(kind), CHUNK + EXTRA + DONE)
    assert x.sse
    assert x.tap_needle == b'"usage"'
    assert x.rewrite is without_extra_chunk
    assert tokens(one)[0] == 1


def test_an_encoded_stream_is_not_reframed(tmp_path: Path) -> None:
    x, one = used(tmp_path, head(EVENTS, b"content-encoding: gzip"), gzip.compress(CHUNK + EXTRA))
    assert not x.sse
    assert tokens(one)[0] == 1


def test_without_a_count_it_is_estimated_and_says_so(tmp_path: Path) -> None:
    _, one = used(tmp_path, head(EVENTS), CHUNK + DONE)
    used_in, used_out, estimated = tokens(one)
    assert estimated
    assert used_in > 0
    assert used_out > 0


def test_errors_use_nothing(tmp_path: Path) -> None:
    x, one = used(tmp_path, head(JSON, status=b"429 Slow"), USAGE)
    assert one.usage is None
    assert not x.tap_body
