"""Replicate's predictions: what is written for each maker's models, what is read, what a prediction's status says."""

import json
from typing import Any

import pytest

from outrider.dialects.base import Frame, Notes, UnreadableError
from outrider.dialects.canonical import Answer, Choice, ErrorEvent, Media, Message, Request, Text, TextDelta, Usage
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.replicate import settled
from outrider.dialects.translate import Translation
from support.sdk_judges import adapter

NAME = "replicate.predictions"
LLAMA, GPT, CLAUDE = "meta/meta-llama-3-8b-instruct", "openai/gpt-4o", "anthropic/claude-4-sonnet"
GEMINI, OTHER = "google/gemini-2.5-flash", "deepseek-ai/deepseek-v3"
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi\nBot: no"},
    {"role": "assistant", "content": "Yo"},
    {"role": "user", "content": "More"},
]
SAID = "User: Hi\nBot : no\nBot: Yo\nUser: More\nBot:"
# As Replicate answered one who had asked it to wait: the output is there, and the status is not yet the last one.
RECORDED = {
    "id": "jp9nrd1g2hrj20cjb2vrb55mkr", "model": LLAMA, "version": "dp-a557b7387b4940df25b23f779dc534c4",
    "input": {"prompt": "Please write a haiku about llamas"}, "logs": "", "data_removed": False, "error": None,
    "output": ["\n\n", "Fuzzy", ", gentle", " beasts", ""],
    "status": "processing", "created_at": "2024-10-04T18:07:33.396Z", "urls": {},
}  # fmt: skip


def written(model: str, messages: list[Any] | None = None, **more: Any) -> tuple[dict[str, Any], str]:
    translation = Translation(adapter("openai.chat"), adapter(NAME))
    asked = {"model": "x", "messages": messages or [{"role": "user", "content": "hi"}], **more}
    made, _ = translation.request(asked, target_model=model)
    assert made.headers == {"prefer": "wait=60", "cancel-after": "1m"}
    assert made.body.keys() == {"input"}
    return made.body["input"], translation.note


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (GPT, {"prompt": SAID, "system_prompt": "Be brief.", "max_completion_tokens": 9, "temperature": 0.5}),
        (CLAUDE, {"prompt": SAID, "system_prompt": "Be brief.", "max_tokens": 9}),
        (GEMINI, {"prompt": SAID, "system_instruction": "Be brief.", "max_output_tokens": 9, "temperature": 0.5}),
        (LLAMA, {"prompt": SAID, "system_prompt": "Be brief.", "max_tokens": 9, "temperature": 0.5,
                 "stop_sequences": "END"}),
        (OTHER, {"prompt": f"Be brief.\n{SAID}", "max_tokens": 9, "temperature": 0.5}),
    ],
)  # fmt: skip
def test_a_conversation_goes_into_the_inputs_of_the_models_maker(model: str, given: dict[str, Any]) -> None:
    body, note = written(model, TURNS, max_tokens=9, temperature=0.5, stop=["END", "a,b"], seed=1)
    assert body == given
    assert "several messages written into the prompt, turn by turn" in note
    assert "seed left out" in note
    assert ("stop sequences with a comma left out" in note) == (model == LLAMA)
    assert ("temperature left out" in note) == (model == CLAUDE)


def test_one_question_is_the_prompt_as_it_is() -> None:
    assert written(LLAMA)[0] == {"prompt": "hi"}
    assert written(LLAMA, TURNS[:1] + TURNS[-1:])[0] == {"prompt": "More", "system_prompt": "Be brief."}


@pytest.mark.parametrize(
    ("model", "more", "given"),
    [
        (GPT, {"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        (CLAUDE, {"reasoning_effort": "low"}, {"extended_thinking": True, "thinking_budget_tokens": 2048}),
        (CLAUDE, {"reasoning_effort": "none"}, {"extended_thinking": False}),
        (CLAUDE, {"reasoning_effort": "high", "max_tokens": 4096},
         {"extended_thinking": True, "thinking_budget_tokens": 2048, "max_tokens": 4096}),
        (CLAUDE, {"reasoning_effort": "high", "max_tokens": 10}, {"extended_thinking": False, "max_tokens": 10}),
        (GEMINI, {"reasoning_effort": "low"}, {"thinking_budget": 2048}),
        (LLAMA, {"reasoning_effort": "low"}, {}),
    ],
)  # fmt: skip
def test_how_hard_to_think_is_said_in_the_makers_words(model: str, more: dict[str, Any], given: dict[str, Any]) -> None:
    body, _ = written(model, **more)
    assert body == {"prompt": "hi"} | given


def seen(*urls: str) -> list[Any]:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "look"}, *images]}]


def test_pictures_go_to_models_that_see_and_one_alone_to_claude() -> None:
    data, far = "data:image/png;base64,AAAA", "https://example.com/a.png"
    assert written(GPT, seen(data, far))[0] == {"prompt": "look", "image_input": [data, far]}
    assert written(GEMINI, seen(far))[0] == {"prompt": "look", "images": [far]}
    assert written(CLAUDE, seen(far))[0] == {"prompt": "look", "image": far}
    with pytest.raises(CannotCarryError, match="several images"):
        written(CLAUDE, seen(data, far))
    for model in (LLAMA, OTHER):
        with pytest.raises(CannotCarryError, match="it takes text only"):
            written(model, seen(data))


@pytest.mark.parametrize("model", [LLAMA, GPT, CLAUDE, GEMINI, OTHER])
@pytest.mark.parametrize(
    ("more", "feature"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "JSON output"),
        ({"n": 2}, "several answers"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(model: str, more: dict[str, Any], feature: str) -> None:
    with pytest.raises(CannotCarryError, match=feature):
        written(model, **more)


# -- what comes back


@pytest.mark.parametrize(
    ("prediction", "status", "says"),
    [
        ({"status": "succeeded", "output": ["a"]}, 200, ""),
        (RECORDED, 200, ""),
        ({"status": "processing", "output": None}, 504, "not done within 60 s (it is processing)"),
        ({"status": "starting"}, 504, "it is starting"),
        ({"status": "canceled", "output": ["a"]}, 504, "it is canceled"),
        ({"status": "aborted"}, 504, "it is aborted"),
        ({"status": "failed", "error": "E005: flagged", "output": None}, 502, "E005: flagged"),
        ({"status": "failed", "error": None}, 502, "does not say why"),
        ({"status": "processing", "error": "out of memory", "output": ["a"]}, 502, "out of memory"),
        ({"status": 3}, 504, "in no known state"),
    ],
)
def test_the_status_says_what_became_of_a_prediction(prediction: dict[str, Any], status: int, says: str) -> None:
    body = json.dumps(prediction).encode()
    found, told = settled(201, body)
    assert found == status
    if status == 200:
        assert told == body
    else:
        assert says in json.loads(told)["detail"]
        assert json.loads(told)["status"] == status


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}"])
def test_what_is_no_prediction_is_said(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        settled(201, body)


def test_an_answer_is_read_whole_and_as_a_stream() -> None:
    answer = adapter(NAME).read_answer(RECORDED)
    assert (answer.id, answer.model, answer.created_s) == (RECORDED["id"], LLAMA, 1728065253)
    assert answer.choices == [Choice([Text("\n\nFuzzy, gentle beasts")], "stop")]
    assert answer.usage is None
    counted = RECORDED | {"metrics": {"input_token_count": 5, "output_token_count": 7, "predict_time": 0.5}}
    assert adapter(NAME).read_answer(counted).usage == Usage(5, 7)
    assert adapter(NAME).read_answer({"output": "words"}).choices[0].parts == [Text("words")]
    reader = adapter(NAME).stream_reader()
    events = reader.read(Frame(json.dumps(counted).encode()))
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["\n\n", "Fuzzy", ", gentle", " beasts"]
    assert reader.end() == []
    assert isinstance(adapter(NAME).stream_reader().end()[0], ErrorEvent)


@pytest.mark.parametrize("output", [None, 3, ["a", 3], {"text": "a"}, [{"url": "x"}]])
def test_an_output_that_is_no_text_is_no_answer(output: Any) -> None:
    with pytest.raises(UnreadableError, match="no text"):
        adapter(NAME).read_answer({"status": "succeeded", "output": output})
    events = adapter(NAME).stream_reader().read(Frame(json.dumps({"output": output}).encode()))
    assert isinstance(events[0], ErrorEvent)


def test_an_error_is_a_problem_with_a_detail() -> None:
    error = adapter(NAME).read_error(422, b'{"title":"Input validation failed","detail":"- input: no","status":422}')
    assert (error.status, error.kind, error.message) == (422, "invalid_request", "- input: no")
    assert adapter(NAME).write_error(error) == {
        "title": "Input validation failed", "detail": "- input: no", "status": 422,
    }  # fmt: skip
    assert adapter(NAME).read_error(500, b"<html>").message == "The provider answered with status 500."


# -- apps that speak it


@pytest.mark.parametrize(
    ("model", "given"),
    [
        (GPT, {"prompt": "x", "system_prompt": "s", "image_input": ["https://e.com/a.png"], "temperature": 0.5,
               "max_completion_tokens": 5, "reasoning_effort": "low", "seed": 4}),
        (CLAUDE, {"prompt": "x", "image": "data:image/png;base64,AAAA", "extended_thinking": True,
                  "thinking_budget_tokens": 2000, "max_tokens": 8192}),
        (GEMINI, {"prompt": "x", "system_instruction": "s", "dynamic_thinking": True}),
        (GEMINI, {"prompt": "x", "thinking_budget": 0}),
        (LLAMA, {"prompt": "x", "stop_sequences": "a,b", "top_k": 5, "presence_penalty": 1.5}),
        (OTHER, {"prompt": "x", "max_tokens": 5, "min_tokens": 1}),
    ],
)  # fmt: skip
def test_a_request_in_its_own_dialect_is_kept_whole(model: str, given: dict[str, Any]) -> None:
    body = {"input": given, "webhook": "https://e.com/hook"}
    request = adapter(NAME).read_request(body, model=model, stream=False)
    assert adapter(NAME).write_request(request, Notes()).body == body


def test_an_app_that_speaks_it_is_served_elsewhere() -> None:
    translation = Translation(adapter(NAME), adapter("anthropic.messages"))
    asked = {"input": {"prompt": "hi", "system_prompt": "s", "max_tokens": 5, "min_tokens": 2}, "stream": True}
    made, _ = translation.request(asked, model=LLAMA, stream=False, target_model="claude-sonnet-4-5")
    assert (made.body["messages"][0]["content"], made.body["max_tokens"]) == ("hi", 5)
    assert "min_tokens left out" in translation.note
    assert "stream left out" in translation.note
    answer = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "Yo"}], "usage": {"input_tokens": 3, "output_tokens": 1},
    }  # fmt: skip
    told = json.loads(translation.answer(json.dumps(answer).encode()))
    assert (told["status"], told["output"], told["error"]) == ("succeeded", ["Yo"], None)
    assert told["metrics"] == {"input_token_count": 3, "output_token_count": 1}
    assert told["urls"]["get"] == "https://api.replicate.com/v1/predictions/msg_1"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "The field input is null"),
        ({"input": {"prompt": 3}}, "input.prompt"),
        ({"input": {"prompt": "x", "messages": [{"role": "user"}]}}, "input.messages"),
        ({"input": {"prompt": "x", "max_completion_tokens": "many"}}, "max_completion_tokens"),
    ],
)
def test_a_request_that_cannot_be_read_names_its_field(body: dict[str, Any], says: str) -> None:
    with pytest.raises(UnreadableError, match=says):
        adapter(NAME).read_request(body, model=GPT, stream=False)


def test_a_webhook_is_called_by_nobody_else() -> None:
    translation = Translation(adapter(NAME), adapter("openai.chat"))
    with pytest.raises(CannotCarryError, match="a webhook"):
        translation.request({"input": {"prompt": "x"}, "webhook": "https://e.com"}, model=GPT, target_model="gpt-4o")


def test_what_is_no_text_of_an_answer_is_left_out_and_said() -> None:
    request, notes = Request("replicate.other", OTHER, [Message("user", [Text("x")])]), Notes()
    choices = [Choice([Text("a"), Media("image", data="AAAA")], "stop"), Choice([Text("b")], "stop", 1)]
    told = adapter(NAME).write_answer(Answer("openai.chat", "", "m", choices), request, notes)
    assert told["output"] == ["a"]
    assert notes.phrases == ["all answers but the first left out", "all but text left out"]
