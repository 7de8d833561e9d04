"""A call made in one dialect and served in another: facts that implementers get wrong, each as a test."""
# ruff: noqa: E501, SIM905  (tables are read by their columns, lists of words as words)

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects.base import UnreadableError
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.translate import MAX_STREAM_BYTES, Translation
from support.sdk_judges import ANSWERS, STREAMS, adapter

CHAT, RESPONSES, COMPLETIONS, ANTHROPIC = "openai.chat", "openai.responses", "openai.completions", "anthropic.messages"
NAMES = (CHAT, RESPONSES, COMPLETIONS, ANTHROPIC)
HELLO: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CLAUDE = "claude-opus-4-8"
OLD_CLAUDE = "claude-sonnet-4-5"


def to(
    target: str, body: dict[str, Any], source: str = CHAT, model: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """(the written body, the notes)."""
    translation = Translation(adapter(source), adapter(target))
    written, _ = translation.request(body, target_model=model)
    return written.body, translation.notes.phrases


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    body = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices} | more
    return b"data: " + orjson.dumps(body) + b"\n\n"


def call(index: Any, piece: str, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"index": index, "function": {"arguments": piece}}
    if call_id is not None:
        made |= {"id": call_id, "type": "function"}
        made["function"]["name"] = name
    return {"tool_calls": [made]}


DONE = b"data: [DONE]\n\n"


def stream(
    source: str, target: str, raw: bytes, ask: dict[str, Any] | None = None, asked_in: str = CHAT
) -> tuple[bytes, Translation]:
    translation = Translation(adapter(target), adapter(source))
    translation._request = adapter(asked_in).read_request(ask or HELLO | {"stream_options": {"include_usage": True}})
    made = translation.stream()
    return made.feed(raw) + made.end(), translation


def events(raw: bytes) -> list[dict[str, Any]]:
    lines = [line[6:] for line in raw.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# -- OpenAI Chat


def test_usage_is_a_last_chunk_without_choices_and_null_in_the_others() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    raw = chunk({"content": "a"}) + chunk({}, "stop") + chunk(None, usage=usage) + DONE
    out, _ = stream(CHAT, CHAT, raw)
    *others, last = events(out)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 7
    assert all(one["usage"] is None for one in others)
    assert out.endswith(DONE)


def test_usage_is_not_sent_to_who_did_not_ask() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    out, _ = stream(CHAT, CHAT, chunk({"content": "a"}, "stop") + chunk(None, usage=usage) + DONE, HELLO)
    assert all("usage" not in one for one in events(out))


def test_a_first_chunk_without_choices_begins_nothing() -> None:
    azure = b'data: {"id":"","model":"","choices":[],"prompt_filter_results":[{"prompt_index":0}]}\n\n'
    for target in NAMES[1:]:
        out, _ = stream(CHAT, target, azure + chunk({"role": "assistant", "content": "a"}) + chunk({}, "stop") + DONE)
        assert STREAMS[target](out).text == "a"
        assert b'"c1"' in out


def test_interleaved_tool_calls_keep_their_ids_indexes_and_order() -> None:
    raw = (
        chunk(call(0, "", "call_a", "first"))
        + chunk(call(0, '{"x"'))
        + chunk(call(1, "", "call_b", "second"))
        + chunk(call(1, '{"y":'))
        + chunk(call(0, ":1}"))
        + chunk(call(1, "2}"))
        + chunk({}, "tool_calls")
        + DONE
    )
    for target in (CHAT, RESPONSES, ANTHROPIC):
        out, _ = stream(CHAT, target, raw)
        assert STREAMS[target](out).calls == [("first", {"x": 1}), ("second", {"y": 2})]
        assert out.index(b"call_a") < out.index(b"call_b")


def test_anthropics_blocks_are_open_one_at_a_time() -> None:
    raw = (
        chunk(call(0, "", "a", "f"))
        + chunk(call(1, "{}", "b", "g"))
        + chunk(call(0, "{}"))
        + chunk({}, "tool_calls")
        + DONE
    )
    out, _ = stream(CHAT, ANTHROPIC, raw)
    open_at = None
    for event in events(out):
        if event["type"] == "content_block_start":
            assert open_at is None
            open_at = event["index"]
        elif event["type"] == "content_block_delta":
            assert event["index"] == open_at
        elif event["type"] == "content_block_stop":
            open_at = None


@pytest.mark.parametrize("index", [0, None])
def test_calls_that_share_an_index_or_have_none_are_told_by_their_ids(index: int | None) -> None:
    raw = chunk(call(index, '{"x":1}', "a", "f")) + chunk(call(index, '{"x":2}', "b", "f")) + chunk({}, "stop") + DONE
    out, _ = stream(CHAT, ANTHROPIC, raw)
    assert STREAMS[ANTHROPIC](out).calls == [("f", {"x": 1}), ("f", {"x": 2})]


def test_a_call_without_arguments_ends_in_an_empty_object() -> None:
    raw = chunk(call(0, "", "a", "f")) + chunk({}, "tool_calls") + DONE
    for target in (CHAT, RESPONSES):
        out, _ = stream(CHAT, target, raw)
        assert b'"{}"' in out
        assert STREAMS[target](out).calls == [("f", {})]


@pytest.mark.parametrize("target", NAMES)
def test_an_error_after_status_200_is_the_clients_own_error_event(target: str) -> None:
    raw = (
        chunk({"content": "a"})
        + b'data: {"error":{"message":"too much","type":"server_error","code":"overloaded"}}\n\n'
    )
    out, _ = stream(CHAT, target, raw)
    last = events(out)[-1]
    assert "too much" in json.dumps(last)
    assert (last.get("type") == "error") == (target in (RESPONSES, ANTHROPIC))
    assert DONE not in out
    with pytest.raises(Exception, match="too much"):
        STREAMS[target](out)


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("cut_at", [0, 20, 170, 400])
def test_a_stream_that_was_cut_ends_in_the_clients_own_error_event(target: str, cut_at: int) -> None:
    raw = (chunk({"content": "one"}) + chunk({"content": "two"}) + chunk({"content": "three"}) + DONE)[:cut_at]
    translation = Translation(adapter(target), adapter(CHAT))
    translation._request = adapter(CHAT).read_request(HELLO)
    made = translation.stream()
    out = made.feed(raw) + made.end()
    assert made.error is not None
    assert made.error.code == "stream_cut"
    assert "ended before it was complete" in json.dumps(events(out)[-1])
    assert made.feed(raw) + made.end() == b""


def test_a_finish_without_done_is_an_end() -> None:
    out, _ = stream(CHAT, ANTHROPIC, chunk({"content": "a"}) + chunk({}, "stop"))
    assert STREAMS[ANTHROPIC](out).finish == "stop"


def test_thoughts_come_before_the_text_whatever_the_field_is_called() -> None:
    for field in ("reasoning_content", "reasoning"):
        raw = chunk({field: "hm"}) + chunk({"content": "so"}) + chunk({}, "stop") + DONE
        kinds = [
            event["content_block"]["type"]
            for event in events(stream(CHAT, ANTHROPIC, raw)[0])
            if "content_block" in event
        ]
        assert kinds == ["thinking", "text"]


def test_functions_are_tools_and_their_answers_are_function_calls_again() -> None:
    body = HELLO | {
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"x":1}'}},
            {"role": "function", "name": "f", "content": "done"},
        ],
        "functions": [{"name": "f", "parameters": {"type": "object", "properties": {}}}],
        "function_call": {"name": "f"},
    }
    written, _ = to(ANTHROPIC, body, model=CLAUDE)
    assert written["tool_choice"] == {"type": "tool", "name": "f"}
    use, result = written["messages"][1]["content"][0], written["messages"][2]["content"][0]
    assert use["id"] == result["tool_use_id"] != ""

    translation = Translation(adapter(CHAT), adapter(ANTHROPIC))
    translation.read(body)
    answer = {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 2}}], "stop_reason": "tool_use"}
    choice = json.loads(translation.answer(orjson.dumps(answer)))["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"x":2}'}
    assert choice["finish_reason"] == "function_call"
    assert "tool_calls" not in choice["message"]


# -- Anthropic


def test_input_tokens_leave_both_cache_parts_out() -> None:
    usage = {"input_tokens": 10, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 3, "output_tokens": 2}
    body = {
        "id": "m",
        "model": "m",
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
        "usage": usage,
    }
    translation = Translation(adapter(CHAT), adapter(ANTHROPIC))
    translation.read(HELLO)
    told = json.loads(translation.answer(orjson.dumps(body)))["usage"]
    assert (told["prompt_tokens"], told["prompt_tokens_details"]["cached_tokens"]) == (18, 5)
    back = Translation(adapter(ANTHROPIC), adapter(CHAT))
    back.read({"model": "m", "max_tokens": 1, "messages": []})
    again = json.loads(back.answer(translation.answer(orjson.dumps(body))))["usage"]
    assert {key: again[key] for key in usage} == usage


def test_cumulative_usage_is_taken_last_and_not_added() -> None:
    raw = (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","model":"m",'
        b'"usage":{"input_tokens":10,"output_tokens":1}}}\n\n'
        b'event: ping\ndata: {"type":"ping"}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
        b'event: brand_new\ndata: {"type":"brand_new"}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"input_tokens":10,"output_tokens":7}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )
    for target in (CHAT, RESPONSES, COMPLETIONS):
        reading = STREAMS[target](stream(ANTHROPIC, target, raw)[0])
        assert (reading.text, reading.tokens) == ("a", (10, 7))


@pytest.mark.parametrize(
    ("native", "chat", "status"),
    [
        ("end_turn", "stop", "completed"),
        ("stop_sequence", "stop", "completed"),
        ("max_tokens", "length", "incomplete"),
        ("model_context_window_exceeded", "length", "incomplete"),
        ("tool_use", "tool_calls", "completed"),
        ("refusal", "content_filter", "incomplete"),
        ("pause_turn", "stop", "completed"),
        ("something_new", "stop", "completed"),
    ],
)
def test_every_stop_reason_has_its_word_elsewhere(native: str, chat: str, status: str) -> None:
    body = orjson.dumps({"id": "m", "model": "m", "content": [], "stop_reason": native})
    for target, read in ((CHAT, lambda a: a["choices"][0]["finish_reason"]), (RESPONSES, lambda a: a["status"])):
        translation = Translation(adapter(target), adapter(ANTHROPIC))
        translation._request = adapter(CHAT).read_request(HELLO)
        assert read(json.loads(translation.answer(body))) == (chat if target == CHAT else status)


def test_signatures_are_kept_for_their_own_provider_and_never_sent_to_another() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "SIGNED"}
    sealed = {"type": "redacted_thinking", "data": "SEALED"}
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [thinking, sealed, {"type": "text", "text": "so"}]},
        ],
    }
    written, _ = to(ANTHROPIC, body, ANTHROPIC)
    assert written["messages"][1]["content"][:2] == [thinking, sealed]
    for target in (CHAT, RESPONSES):
        written, notes = to(target, body, ANTHROPIC)
        assert "SIGNED" not in json.dumps(written)
        assert "SEALED" not in json.dumps(written)
        assert {"signatures left out", "sealed thoughts left out"} <= set(notes)


def test_sampling_goes_only_to_models_that_take_it_and_to_the_version_that_does() -> None:
    body = HELLO | {"temperature": 1.5, "top_p": 0.5}
    written, notes = to(ANTHROPIC, body, model=OLD_CLAUDE)
    assert (written["temperature"], written["top_p"]) == (1, 0.5)
    assert "temperature set to 1, the most there is" in notes
    translation = Translation(adapter(CHAT), adapter(ANTHROPIC))
    assert translation.request(body, target_model=OLD_CLAUDE)[0].headers == {"anthropic-version": "2023-06-01"}
    written, notes = to(ANTHROPIC, body, model=CLAUDE)
    assert "temperature" not in written
    assert f"temperature left out, since {CLAUDE} takes none" in notes


def test_thinking_clears_away_what_the_provider_refuses_beside_it() -> None:
    body = HELLO | {"reasoning_effort": "high", "temperature": 0, "top_p": 0.5, "max_completion_tokens": 4000}
    written, notes = to(ANTHROPIC, body, model=OLD_CLAUDE)
    assert written["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert written["thinking"]["budget_tokens"] < written["max_tokens"]
    assert not {"temperature", "top_p"} & written.keys()
    assert "temperature left out beside thinking" in notes
    written, notes = to(ANTHROPIC, body | {"max_completion_tokens": 500}, model=OLD_CLAUDE)
    assert "thinking" not in written
    assert written["temperature"] == 0
    written, _ = to(ANTHROPIC, body, model=CLAUDE)
    assert (written["thinking"], written["output_config"]) == ({"type": "adaptive"}, {"effort": "high"})


def test_a_turn_that_began_without_thoughts_goes_on_without_them() -> None:
    messages = [
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "done"},
    ]
    tools = [{"type": "function", "function": {"name": "f"}}]
    written, notes = to(
        ANTHROPIC, {"model": "m", "messages": messages, "tools": tools, "reasoning_effort": "low"}, model=OLD_CLAUDE
    )
    assert "thinking" not in written
    assert "thinking left out, since the turn began without its thoughts" in notes


def test_results_of_parallel_calls_stand_in_one_message_and_first() -> None:
    calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "ab"]
    messages = [
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
        {"role": "user", "content": "and?"},
    ]
    written, _ = to(
        ANTHROPIC, {"model": "m", "messages": messages, "tools": [{"type": "function", "function": {"name": "a"}}]}
    )
    kinds = [[part["type"] for part in message["content"]] for message in written["messages"][:2]]
    assert kinds == [["tool_use", "tool_use"], ["tool_result", "tool_result"]]


def test_a_result_with_a_picture_is_a_result_and_a_picture_for_chat() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    body = {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": [image]}]},
        ],
    }
    written, notes = to(CHAT, body, ANTHROPIC)
    _, result, picture = written["messages"]
    assert (result["role"], result["content"]) == ("tool", "")
    assert picture["content"][0]["image_url"]["url"] == "data:image/png;base64,aGk="
    assert "media in a tool's result given in a user message behind the results" in notes


def test_arguments_that_are_no_object_are_put_into_one() -> None:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": '}}]
    written, notes = to(ANTHROPIC, {"model": "m", "messages": [{"role": "assistant", "tool_calls": calls}]})
    assert written["messages"][0]["content"][0]["input"] == {"arguments": '{"x": '}
    assert "arguments that are not a JSON object put into one" in notes


def test_max_tokens_is_named_where_it_has_to_be() -> None:
    written, notes = to(ANTHROPIC, HELLO)
    assert written["max_tokens"] == 4096
    assert "max_tokens set to 4096" in notes


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("auto", {"type": "auto"}),
        ("required", {"type": "any"}),
        ("none", {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_every_tool_choice_has_its_word(given: Any, written: Any) -> None:
    tools = [{"type": "function", "function": {"name": name}} for name in "fg"]
    assert to(ANTHROPIC, HELLO | {"tools": tools, "tool_choice": given})[0]["tool_choice"] == written
    back, _ = to(CHAT, to(ANTHROPIC, HELLO | {"tools": tools, "tool_choice": given})[0], ANTHROPIC)
    assert back["tool_choice"] == given
    there, _ = to(RESPONSES, HELLO | {"tools": tools, "tool_choice": given})
    assert to(CHAT, there, RESPONSES)[0]["tool_choice"] == given


def test_one_call_at_a_time_is_asked_for_in_each_ones_words() -> None:
    body = HELLO | {"tools": [{"type": "function", "function": {"name": "f"}}], "parallel_tool_calls": False}
    assert to(ANTHROPIC, body)[0]["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert to(RESPONSES, body)[0]["parallel_tool_calls"] is False


def test_a_schema_for_the_answer_goes_everywhere() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    body = HELLO | {"response_format": form}
    assert to(ANTHROPIC, body)[0]["output_config"]["format"] == {"type": "json_schema", "schema": schema}
    written, _ = to(RESPONSES, body)
    assert written["text"]["format"] == {"type": "json_schema", "name": "n", "schema": schema, "strict": True}
    assert to(CHAT, written, RESPONSES)[0]["response_format"] == form


# -- Responses


def test_functions_say_whether_they_are_strict() -> None:
    tools = [
        {"type": "function", "function": {"name": "f"}},
        {"type": "function", "function": {"name": "g", "strict": True}},
    ]
    assert [tool["strict"] for tool in to(RESPONSES, HELLO | {"tools": tools})[0]["tools"]] == [False, True]


def test_what_a_provider_keeps_binds_the_call_to_it() -> None:
    for key in ("previous_response_id", "conversation", "prompt"):
        with pytest.raises(CannotCarryError, match="a conversation that its provider keeps"):
            to(CHAT, {"model": "m", "input": "x", key: "id_1"}, RESPONSES)
    with pytest.raises(CannotCarryError, match="the part item_reference"):
        to(CHAT, {"model": "m", "input": [{"type": "item_reference", "id": "rs_1"}]}, RESPONSES)
    assert (
        to(RESPONSES, {"model": "m", "input": "x", "previous_response_id": "r"}, RESPONSES)[0]["previous_response_id"]
        == "r"
    )


def test_a_server_that_says_everything_at_the_end_is_heard() -> None:
    items = [
        {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}],
        },
        {"type": "function_call", "id": "f1", "call_id": "c1", "name": "f", "arguments": '{"x":1}'},
    ]
    response = {"id": "r", "model": "m", "status": "completed", "output": items, "usage": None}
    whole = (
        b"event: response.completed\ndata: "
        + orjson.dumps({"type": "response.completed", "response": response})
        + b"\n\n"
    )
    for raw in (
        whole,
        b"".join(
            b"data: "
            + orjson.dumps({"type": "response.output_item.done", "output_index": at + 3, "item": item})
            + b"\n\n"
            for at, item in enumerate(items)
        )
        + whole,
    ):
        for target in (CHAT, ANTHROPIC):
            reading = STREAMS[target](stream(RESPONSES, target, raw)[0])
            assert (reading.text, reading.calls, reading.finish) == ("hi", [("f", {"x": 1})], "tool_calls")


def test_the_last_event_holds_the_whole_answer() -> None:
    raw = chunk({"reasoning_content": "hm"}) + chunk({"content": "a%b"}) + chunk({"content": "c"})
    raw += chunk(call(0, "{}", "id1", "f")) + chunk({}, "tool_calls") + DONE
    out, _ = stream(CHAT, RESPONSES, raw)
    last = events(out)[-1]
    assert last["type"] == "response.completed"
    kinds = [(item["type"], item.get("status")) for item in last["response"]["output"]]
    assert kinds == [("reasoning", None), ("message", "completed"), ("function_call", "completed")]
    assert last["response"]["output"][1]["content"][0]["text"] == "a%bc"
    assert DONE not in out


# -- errors


@pytest.mark.parametrize(
    ("source", "status", "body", "target", "expected", "words"),
    [
        (
            ANTHROPIC,
            529,
            {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}},
            CHAT,
            503,
            "server_error",
        ),
        (
            ANTHROPIC,
            413,
            {"type": "error", "error": {"type": "request_too_large", "message": "big"}},
            CHAT,
            413,
            "invalid_request_error",
        ),
        (
            CHAT,
            429,
            {"error": {"message": "slow", "type": "requests", "code": "rate_limit_exceeded"}},
            ANTHROPIC,
            429,
            "rate_limit_error",
        ),
        (CHAT, 503, {"error": {"message": "down"}}, ANTHROPIC, 529, "overloaded_error"),
        (CHAT, 401, {"error": {"message": "who", "code": "invalid_api_key"}}, ANTHROPIC, 401, "authentication_error"),
        (CHAT, 400, {"detail": "no"}, ANTHROPIC, 400, "invalid_request_error"),
        (RESPONSES, 500, {"error": {"message": "oh", "type": "server_error"}}, ANTHROPIC, 500, "api_error"),
    ],
)
def test_errors_come_in_the_words_of_the_apps_sdk(
    source: str, status: int, body: dict[str, Any], target: str, expected: int, words: str
) -> None:
    told, raw = Translation(adapter(target), adapter(source)).error(status, orjson.dumps(body))
    assert told == expected
    assert json.loads(raw)["error"]["type"] == words


@pytest.mark.parametrize(
    "body", [b"", b"<html><h1>Bad gateway</h1>", b"\xff\xfe", b"[]", b'"x"', b'{"error":{"message":{"a":1}}}']
)
@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_an_error_comes_of_whatever_the_bytes_are(body: bytes, source: str, target: str) -> None:
    status, raw = Translation(adapter(target), adapter(source)).error(502, body)
    assert status == 502
    message = json.loads(raw)["error"]["message"]
    assert message
    assert "<h1>" not in message


# -- what is not understood


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        (CHAT, HELLO | {"messages": "x"}, "messages is text and should be a list"),
        (CHAT, {"messages": []}, "model is null and should be text"),
        (CHAT, HELLO | {"temperature": "0.5"}, "temperature is text and should be"),
        (CHAT, HELLO | {"messages": [{"role": "wizard"}]}, "role is none of"),
        (CHAT, HELLO | {"n": True}, "n is true or false and should be a whole number"),
        (RESPONSES, {"model": "m", "input": 5}, "input is a whole number and should be a list"),
        (ANTHROPIC, {"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text is null"),
        (COMPLETIONS, {"model": "m", "prompt": 3.5}, "prompt is a number"),
    ],
)
def test_what_cannot_be_understood_is_a_sentence_that_names_the_field(
    name: str, body: dict[str, Any], field: str
) -> None:
    with pytest.raises(UnreadableError, match=field):
        adapter(name).read_request(body)


def test_an_answer_that_is_none_is_the_providers_fault_in_a_sentence() -> None:
    for name in NAMES:
        translation = Translation(adapter(CHAT), adapter(name))
        translation.read(HELLO)
        for raw in (b"", b"[]", b"{}", b"<html>"):
            with pytest.raises(UnreadableError, match="The answer"):
                translation.answer(raw)


def test_a_stream_that_does_not_end_is_ended() -> None:
    translation = Translation(adapter(ANTHROPIC), adapter(CHAT))
    translation.read({"model": "m", "max_tokens": 1, "messages": []})
    made = translation.stream()
    made._bytes = MAX_STREAM_BYTES
    assert b"event: error" in made.feed(chunk({"content": "a"}))
    assert made.ended


def test_the_note_is_one_printable_line() -> None:
    translation = Translation(adapter(CHAT), adapter(ANTHROPIC))
    translation.request(HELLO | {"seed": 1, "ev\r\nil; x: ü": 1})
    assert translation.note == "seed left out; ev??il? x: ? left out; max_tokens set to 4096"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
KEYS = (
    "model messages role content type text system tools function name parameters tool_calls id arguments input output delta "
    "choices index message usage item part response content_block input_schema image_url url source data thinking stop "
    "tool_choice reasoning response_format error annotations custom logprobs finish_reason audio"
).split()
KINDS = (
    "text image_url function user assistant tool message function_call reasoning tool_use tool_result thinking document image "
    "base64 url custom json_schema message_start content_block_start content_block_delta text_delta input_json_delta "
    "message_delta response.created response.output_item.done response.output_item.added response.output_text.delta "
    "response.completed allowed_tools input_text input_image output_text error"
).split()
SHAPED = st.recursive(
    ANYTHING | st.sampled_from(KINDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)


@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.dictionaries(st.sampled_from(KEYS), SHAPED, max_size=6))
def test_garbage_in_a_request_is_a_sentence_or_a_body(source: str, target: str, body: dict[str, Any]) -> None:
    try:
        written, _ = to(target, {"model": "m"} | body, source)
    except (UnreadableError, CannotCarryError):
        return
    orjson.dumps(written)


@given(st.sampled_from(NAMES), st.sampled_from(NAMES), st.dictionaries(st.sampled_from(KEYS), SHAPED, max_size=6))
def test_garbage_in_an_answer_is_a_sentence_or_a_body(source: str, target: str, body: dict[str, Any]) -> None:
    translation = Translation(adapter(target), adapter(source))
    translation._request = adapter(CHAT).read_request(HELLO)
    shape = {"choices": [body], "content": [body], "output": [body]}
    try:
        json.loads(translation.answer(orjson.dumps(shape)))
    except UnreadableError:
        return


@given(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.lists(st.dictionaries(st.sampled_from(KEYS), SHAPED, max_size=6), max_size=5),
)
def test_garbage_in_a_stream_ends_as_every_stream_does(source: str, target: str, bodies: list[dict[str, Any]]) -> None:
    raw = b"".join(b"data: " + orjson.dumps(body) + b"\n\n" for body in bodies)
    translation = Translation(adapter(target), adapter(source))
    translation._request = adapter(CHAT).read_request(HELLO)
    made = translation.stream()
    out = made.feed(raw) + made.end()
    assert made.ended
    assert out


LONG = (
    chunk({"role": "assistant", "content": ""})
    + chunk({"content": "Hé"})
    + chunk({"content": "llo"})
    + chunk(call(0, "", "a", "f"))
    + chunk(call(0, '{"x":1}'))
    + chunk({}, "tool_calls")
    + chunk(None, usage={"prompt_tokens": 5, "completion_tokens": 2})
    + DONE
)


@given(st.lists(st.integers(0, len(LONG)), max_size=6), st.sampled_from(NAMES))
def test_every_cut_gives_the_same_stream(cuts: list[int], target: str) -> None:
    at = [0, *sorted(cuts), len(LONG)]
    translation = Translation(adapter(target), adapter(CHAT))
    translation._request = adapter(CHAT).read_request(HELLO)
    made = translation.stream()
    out = b"".join(made.feed(LONG[a:b]) for a, b in pairwise(at)) + made.end()
    reading = STREAMS[target](out)
    assert (reading.text, reading.calls) == ("Héllo", [] if target == COMPLETIONS else [("f", {"x": 1})])


def test_sdk_judges_read_what_they_should() -> None:
    """So that a comparison of two empty readings is none."""
    answer = {
        "content": [{"type": "text", "text": "a"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    reading = ANSWERS[ANTHROPIC](
        orjson.dumps({"id": "m", "type": "message", "role": "assistant", "model": "m"} | answer)
    )
    assert (reading.text, reading.finish, reading.tokens) == ("a", "stop", (1, 2))
