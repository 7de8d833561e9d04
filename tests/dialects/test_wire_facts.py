"""What implementers of these wires get wrong, fact by fact, with the tests that prove each.

Those that stand nowhere else are here.
"""

import ast
from pathlib import Path
from typing import Any

import orjson
import pytest

from dialects.test_translate import ANTHROPIC, CHAT, CLAUDE, DONE, HELLO, RESPONSES, chunk, events, stream
from outrider.dialects.translate import Translation
from support.sdk_judges import STREAMS, adapter

TESTS = Path(__file__).resolve().parents[1]

# fact -> where it is proved: a file under tests/, and names of tests in it.
FACTS: dict[str, dict[str, tuple[str, ...]]] = {
    # OpenAI
    "usage of a chat stream comes only to who asks, in a last chunk without choices, and is null before": {
        "dialects/test_translate.py": (
            "test_usage_is_a_last_chunk_without_choices_and_null_in_the_others",
            "test_usage_is_not_sent_to_who_did_not_ask",
            "test_usage_of_a_stream_is_asked_for_whoever_gets_it_unasked",
        ),
        "dialects/test_usage.py": ("test_openai_streams_have_null_usage_until_the_last_chunk",),
        "stack/test_meter.py": (
            "test_a_stream_that_did_not_ask_for_usage_is_made_to",
            "test_only_the_chunk_that_was_asked_for_in_secret_is_taken_out",
        ),
    },
    "a stream that is interrupted has no usage, which is not zero": {
        "stack/test_meter.py": ("test_without_a_count_it_is_estimated_and_says_so",),
        "dialects/test_usage.py": ("test_a_cut_anthropic_stream_still_gives_its_input",),
    },
    "choices may be empty in a chunk (usage, Azure's filter results)": {
        "dialects/test_translate.py": ("test_a_first_chunk_without_choices_begins_nothing",),
    },
    "deltas have an obfuscation field by default, which is nobody's text": {
        "dialects/test_wire_facts.py": ("test_obfuscation_is_nobodys_text",),
    },
    "tool deltas are keyed by index, and id and name stand in the first only": {
        "dialects/test_translate.py": (
            "test_interleaved_tool_calls_keep_their_ids_indexes_and_order",
            "test_calls_that_share_an_index_or_have_none_are_told_by_their_ids",
        ),
        "dialects/test_wires.py": ("test_interleaved_calls_arrive_whole_and_in_the_order_of_their_beginning",),
    },
    "prompt_tokens holds what was cached, completion_tokens what was thought": {
        "dialects/test_wire_facts.py": ("test_the_whole_holds_its_parts_at_openai_and_not_at_anthropic",),
        "dialects/test_usage.py": ("test_parts_never_exceed_their_whole",),
    },
    "the tier that served may differ from the one asked for, and has its own price": {
        "dialects/test_wire_facts.py": ("test_the_tier_that_served_is_said",),
        "govern/test_prices.py": ("test_each_tier_has_its_prices",),
    },
    "errors come inside a stream after 200; a chat ends with [DONE]": {
        "dialects/test_translate.py": (
            "test_an_error_after_status_200_is_the_clients_own_error_event",
            "test_a_finish_without_done_is_an_end",
        ),
    },
    "Responses ends with completed, failed, incomplete or error, and without [DONE]": {
        "dialects/test_wire_facts.py": ("test_each_end_of_responses_is_an_end",),
        "dialects/test_errors.py": ("test_a_responses_stream_ends_with_an_error_event",),
    },
    "an SDK retries by itself, so who has retried for it says x-should-retry: false": {
        "lanes/test_dispatch_wire.py": ("test_the_last_failure_is_the_providers_own_answer_and_says_not_to_retry",),
        "dialects/test_errors.py": ("test_an_sdk_that_is_told_not_to_retry_asks_once",),
        "govern/test_provider_limits.py": ("test_retry_after_in_all_its_forms",),
    },
    "limits reset by Go's durations, RFC 3339 times or seconds, and -1 or 0 may be no limit": {
        "govern/test_provider_limits.py": (
            "test_durations_are_gos",
            "test_resets_are_durations_seconds_epochs_or_times",
            "test_headers_of_every_family",
            "test_counts_are_plain_and_bounded",
        ),
    },
    # Anthropic
    "input_tokens leaves both cache parts out": {
        "dialects/test_translate.py": ("test_input_tokens_leave_both_cache_parts_out",),
        "govern/test_prices.py": ("test_each_part_has_its_price",),
    },
    "usage in message_delta is cumulative and may restate the input": {
        "dialects/test_translate.py": ("test_cumulative_usage_is_taken_last_and_not_added",),
        "dialects/test_usage.py": ("test_anthropics_cumulative_deltas_are_never_summed",),
    },
    "pings and events of unknown names are passed over": {
        "dialects/test_wire_facts.py": ("test_pings_and_unknown_events_are_passed_over",),
    },
    "there are seven stop reasons": {
        "dialects/test_translate.py": ("test_every_stop_reason_has_its_word_elsewhere",),
    },
    "arguments come as partial JSON, and thoughts have signatures": {
        "dialects/test_translate.py": (
            "test_a_call_without_arguments_ends_in_an_empty_object",
            "test_signatures_are_kept_for_their_own_provider_and_never_sent_to_another",
        ),
        "dialects/test_carry.py": ("test_proofs_on_thoughts_are_left_out_and_the_conversation_goes_on",),
    },
    "529 is overloaded and 413 too large": {
        "dialects/test_wire_facts.py": ("test_529_is_said_in_each_ones_words",),
    },
    "betas and versions stand in the body at Bedrock and Vertex, with the model in the path": {
        "dialects/test_wires.py": (
            "test_claude_at_bedrock_has_its_version_and_betas_in_the_body_and_its_model_in_the_path",
        ),
        "providers/test_places.py": (
            "test_anthropic_on_vertex_wants_its_version_in_the_body_and_the_model_in_the_path_alone",
        ),
    },
    # Gemini and Vertex
    "a stream is an array unless the query has alt=sse": {
        "providers/test_places.py": ("test_a_place_has_its_providers_path",),
        "dialects/test_wires.py": (
            "test_recorded_streams_as_arrays_are_read_like_the_others",
            "test_a_written_array_is_one_json_document_whatever_happens",
        ),
        "stack/test_translate.py": ("test_googles_array_is_an_array_whoever_serves_and_redacted_too",),
    },
    "usageMetadata repeats in every chunk": {
        "dialects/test_wires.py": ("test_usage_that_repeats_in_every_chunk_is_taken_last_and_not_added",),
        "dialects/test_usage.py": ("test_gemini_repeats_its_usage_and_the_last_counts",),
    },
    "candidatesTokenCount leaves thoughts out, promptTokenCount holds the cache": {
        "dialects/test_wires.py": ("test_candidates_leave_thoughts_out_and_the_prompt_holds_the_cache",),
    },
    "a call may have no id": {
        "dialects/test_wires.py": (
            "test_calls_without_ids_get_ones_that_their_results_share_and_lose_them_again",
            "test_gemini_wants_the_functions_name_and_results_in_the_order_of_the_calls",
        ),
    },
    "arguments come whole, or in pieces by JSON path": {
        "dialects/test_wires.py": ("test_arguments_by_json_path_are_put_together",),
        "dialects/test_translate.py": ("test_a_server_that_says_everything_at_the_end_is_heard",),
    },
    "Gemini 3 wants the signature of a call back, and it holds on its own route only": {
        "dialects/test_wires.py": (
            "test_gemini_3_gets_a_signature_on_the_first_call_of_a_turn_from_elsewhere",
            "test_geminis_own_signatures_go_back_as_they_came",
            "test_geminis_signatures_do_not_hold_elsewhere_and_anthropics_do",
        ),
    },
    "STOP stands in every chunk at Vertex, and only the last one says how it ended": {
        "dialects/test_wire_facts.py": ("test_how_a_gemini_stream_ended_is_what_its_last_chunk_says",),
    },
    # Bedrock
    "frames have a prelude, two checksums and bounds": {
        "ext/test_eventstream.py": (
            "test_any_changed_byte_is_noticed",
            "test_impossible_and_excessive_lengths_are_refused_at_the_twelfth_byte",
            "test_frames_at_the_limits_are_read",
        ),
    },
    "exceptions are frames after 200": {
        "dialects/test_wires.py": ("test_an_exception_frame_after_200_is_the_error_of_the_stream",),
        "dialects/test_errors.py": ("test_a_bedrock_stream_ends_with_the_exception_that_boto3_raises",),
    },
    "InvokeModel wraps the model's own JSON in base64": {
        "dialects/test_wires.py": ("test_a_chunk_of_invokes_stream_is_base64_of_the_models_own",),
        "dialects/test_usage.py": ("test_invoke_model_chunks_are_read_inside_their_base64",),
    },
    "cache parts stand beside the input": {
        "dialects/test_wires.py": ("test_cached_tokens_stand_beside_the_input_at_bedrock",),
    },
    "ModelNotReady is 429 and a quota that is exceeded 400": {
        "dialects/test_wires.py": ("test_the_exceptions_name_says_more_than_its_status",),
        "dialects/test_wire_facts.py": ("test_bedrocks_statuses_are_its_own",),
    },
    # Azure, Ollama, others
    "a deployment is the model, in a path with api-version, or in the body of the v1 API": {
        "providers/test_places.py": ("test_a_place_has_its_providers_path",),
    },
    "Ollama speaks lines, counts stand in the last one, and durations are nanoseconds": {
        "dialects/test_wires.py": (
            "test_ollamas_durations_are_its_own_and_its_counts_stand_in_the_last_line",
            "test_ollama_streams_unless_it_is_told_not_to",
        ),
    },
    "a first chunk may have a role and no content": {
        "dialects/test_wire_facts.py": ("test_a_first_chunk_with_a_role_alone_begins_nothing_that_is_seen",),
    },
}


def names_in(file: str) -> set[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def test_every_fact_has_a_test_that_is_there() -> None:
    known: dict[str, set[str]] = {}
    missing = [
        f"{file}::{name} ({fact})"
        for fact, files in FACTS.items()
        for file, names in files.items()
        for name in names
        if name not in known.setdefault(file, names_in(file))
    ]
    assert not missing, "\n".join(missing)


def test_obfuscation_is_nobodys_text() -> None:
    raw = chunk({"content": "a"}, obfuscation="Xy7aQ") + chunk({}, "stop", obfuscation="q") + DONE
    for target in (RESPONSES, ANTHROPIC):
        out, _ = stream(CHAT, target, raw)
        assert STREAMS[target](out).text == "a"
        assert b"Xy7aQ" not in out


def test_the_whole_holds_its_parts_at_openai_and_not_at_anthropic() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a"}}
    answer = orjson.dumps({"id": "c", "object": "chat.completion", "choices": [message], "usage": usage, "model": "m"})
    translation = Translation(adapter(ANTHROPIC), adapter(CHAT))
    translation.request(HELLO | {"max_tokens": 9}, target_model="gpt-5")
    there = orjson.loads(translation.answer(answer))["usage"]
    assert (there["input_tokens"], there["cache_read_input_tokens"], there["output_tokens"]) == (40, 60, 50)
    back = Translation(adapter(CHAT), adapter(ANTHROPIC))
    back.request(HELLO, target_model=CLAUDE)
    again = orjson.loads(back.answer(translation.answer(answer)))["usage"]
    assert (again["prompt_tokens"], again["prompt_tokens_details"]["cached_tokens"]) == (100, 60)


def test_the_tier_that_served_is_said() -> None:
    message = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a"}}
    body = {"id": "c", "object": "chat.completion", "created": 1, "choices": [message], "model": "m"}
    translation = Translation(adapter(RESPONSES), adapter(CHAT))
    translation.request({"model": "m", "input": "x", "service_tier": "fast"}, target_model="gpt-5")
    made = orjson.loads(translation.answer(orjson.dumps(body | {"service_tier": "priority"})))
    assert made["service_tier"] == "priority"


@pytest.mark.parametrize(
    ("kind", "more", "finish"),
    [
        ("response.completed", {"status": "completed"}, "stop"),
        ("response.incomplete", {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
         "length"),
        ("response.failed", {"status": "failed", "error": {"code": "server_error", "message": "It broke."}}, None),
        ("error", {}, None),
    ],
)  # fmt: skip
def test_each_end_of_responses_is_an_end(kind: str, more: dict[str, Any], finish: str | None) -> None:
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    response = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": []}
    response["status"] = "in_progress"
    last: dict[str, Any] = {"type": kind, "sequence_number": 9}
    last |= {"response": response | more} if kind != "error" else {"code": "server_error", "message": "It broke."}
    sent: list[dict[str, Any]] = [
        {"type": "response.created", "sequence_number": 0, "response": response},
        {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": item},
        {"type": "response.content_part.added", "sequence_number": 2, "output_index": 0, "content_index": 0,
         "item_id": "msg_1", "part": {"type": "output_text", "text": "", "annotations": []}},
        {"type": "response.output_text.delta", "sequence_number": 3, "output_index": 0, "content_index": 0,
         "item_id": "msg_1", "delta": "a"},
        last,
    ]  # fmt: skip
    raw = b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), orjson.dumps(one)) for one in sent)
    out, translation = stream(RESPONSES, CHAT, raw)
    assert translation is not None
    if finish is not None:
        assert STREAMS[CHAT](out).finish == finish
        assert out.endswith(DONE)
    else:
        assert "It broke." in events(out)[-1]["error"]["message"]


def anthropic_events(*sent: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), orjson.dumps(one)) for one in sent)


def test_pings_and_unknown_events_are_passed_over() -> None:
    usage = {"input_tokens": 3, "output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage,
               "stop_reason": None, "stop_sequence": None}  # fmt: skip
    raw = anthropic_events(
        {"type": "message_start", "message": message},
        {"type": "ping"},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "of_next_year", "index": 0, "delta": {"type": "text_delta", "text": "no"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "delta_of_next_year", "text": "no"}},
        {"type": "ping"},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
    for target in (CHAT, RESPONSES):
        out, _ = stream(ANTHROPIC, target, raw)
        said = STREAMS[target](out)
        assert (said.text, said.finish, said.tokens) == ("a", "stop", (3, 2))


def test_529_is_said_in_each_ones_words() -> None:
    overloaded = b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    large = b'{"type":"error","error":{"type":"request_too_large","message":"Too large"}}'
    for client in (CHAT, RESPONSES, "gemini.generate", "bedrock.converse", "ollama.chat", "cohere.chat"):
        translation = Translation(adapter(client), adapter(ANTHROPIC))
        assert translation.error(529, overloaded)[0] == 503
        assert translation.error(413, large)[0] == 413
        assert b"Overloaded" in translation.error(529, overloaded)[1]
    busy = b'{"error":{"message":"Overloaded","type":"server_error","code":null}}'
    status, body = Translation(adapter(ANTHROPIC), adapter(CHAT)).error(503, busy)
    assert (status, orjson.loads(body)["error"]["type"]) == (529, "overloaded_error")


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [(429, "ModelNotReadyException", "overloaded"), (400, "ServiceQuotaExceededException", "rate_limit")],
)
def test_bedrocks_statuses_are_its_own(status: int, name: str, kind: str) -> None:
    error = adapter("bedrock.converse").read_error(status, orjson.dumps({"__type": name, "message": "m"}))
    assert (error.native, error.message) == (name, "m")
    assert error.kind == kind


def test_how_a_gemini_stream_ended_is_what_its_last_chunk_says() -> None:
    def part(words: str | None, reason: str) -> bytes:
        content = {"content": {"parts": [{"text": words}], "role": "model"}} if words is not None else {}
        return b"data: " + orjson.dumps({"candidates": [content | {"finishReason": reason, "index": 0}]}) + b"\n\n"

    for last, finish in (("STOP", "stop"), ("MAX_TOKENS", "length"), ("RECITATION", "filtered")):
        raw = part("a", "STOP") + part("b", "STOP") + part(None, last)
        for target in (CHAT, ANTHROPIC):
            out, _ = stream("gemini.generate", target, raw)
            said = STREAMS[target](out)
            assert (said.text, said.finish) == ("ab", finish)


def test_a_first_chunk_with_a_role_alone_begins_nothing_that_is_seen() -> None:
    raw = chunk({"role": "assistant"}) + chunk({"content": None}) + chunk({"content": "a"}) + chunk({}, "stop") + DONE
    for target in (RESPONSES, ANTHROPIC):
        out, _ = stream(CHAT, target, raw)
        assert (STREAMS[target](out).text, STREAMS[target](out).finish) == ("a", "stop")
