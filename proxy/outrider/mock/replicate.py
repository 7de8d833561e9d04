"""Replicate's predictions of official language models: OpenAI's, Anthropic's, Google's, Meta's, and DeepSeek's.

A prediction is begun with 201. Asked to wait (`prefer: wait`), its answer has the output and says `succeeded`; not
asked, it says `starting` and has none. Each maker's models take their own inputs, and no others.
Source: replicate.com/docs (create a prediction) and the input schemas of these models; recorded predictions.
"""

import re
from collections.abc import Mapping
from typing import Any, NoReturn

from .checks import json_object
from .reply import Call, Refusal, Whole, bearer, dump
from .words import Prompt, Reply, think

_TARGET = re.compile(r"/v1/models/([^/]+)/([^/]+)/predictions$")
_TUNING = ("temperature", "top_p")
_PENALTIES = ("presence_penalty", "frequency_penalty")
# maker -> (the system text's field, the field that bounds the answer, the others)
_INPUTS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "openai": (
        "system_prompt",
        "max_completion_tokens",
        ("messages", "image_input", "reasoning_effort", *_TUNING, *_PENALTIES),
    ),
    "anthropic": (
        "system_prompt",
        "max_tokens",
        ("image", "max_image_resolution", "extended_thinking", "thinking_budget_tokens"),
    ),
    "google": (
        "system_instruction",
        "max_output_tokens",
        ("images", "videos", "thinking_budget", "dynamic_thinking", *_TUNING),
    ),
    "meta": (
        "system_prompt",
        "max_tokens",
        ("min_tokens", "top_k", "stop_sequences", "prompt_template", *_TUNING, *_PENALTIES),
    ),
    "deepseek-ai": ("", "max_tokens", (*_TUNING, *_PENALTIES)),
}


def answer(call: Call) -> Whole:
    """Answer like Replicate. Raises: Refusal."""
    key = bearer(call.headers)
    if key is None or (call.keys and key not in call.keys):
        raise Refusal(401, "You did not pass a valid authentication token", kind="Unauthenticated")
    found = _TARGET.match(call.path)
    if found is None or call.method != "POST" or found[1] not in _INPUTS:
        raise Refusal(404, "The requested resource could not be found.", kind="Not found")
    body = json_object(call.body, _fail)
    given = _checked(found[1], body)
    waits = call.headers.get("prefer", "").startswith("wait")
    prediction = _begun(call, f"{found[1]}/{found[2]}", given)
    if waits:
        prediction |= _ended(think(_prompt(call, found[1], given)))
    return Whole(dump(prediction), 201)


def refuse(refusal: Refusal, call: Call) -> Whole:
    """The error as a problem (RFC 9457)."""
    problem = {"title": refusal.kind or "Error", "detail": refusal.message, "status": refusal.status}
    return Whole(dump(problem), refusal.status, "application/problem+json", refusal.headers)


def _fail(message: str, _: str | None) -> NoReturn:
    raise Refusal(422, message, kind="Input validation failed")


def _checked(maker: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    given = body.get("input")
    if not isinstance(given, dict):
        _fail("input is required", "input")
    system, limit, others = _INPUTS[maker]
    unknown = sorted(set(given) - {"prompt", system, limit, *others})
    if unknown:
        _fail(f"- input: Additional property {unknown[0]} is not allowed", "input")
    if not isinstance(given.get("prompt"), str):
        _fail("- input: prompt is required", "input")
    return given


def _prompt(call: Call, maker: str, given: Mapping[str, Any]) -> Prompt:
    system, limit, _ = _INPUTS[maker]
    prompt = given["prompt"]
    said = given.get(system) or ""
    return Prompt(
        texts=[prompt, said],
        messages=1 + bool(said),
        last_user=prompt,
        max_tokens=given.get(limit),
        events=call.behaviour.events,
    )


def _begun(call: Call, model: str, given: Mapping[str, Any]) -> dict[str, Any]:
    own = f"https://api.replicate.com/v1/predictions/{call.seed[:26]}"
    return {
        "id": call.seed[:26],
        "model": model,
        "version": "hidden",
        "input": given,
        "logs": "",
        "output": None,
        "data_removed": False,
        "error": None,
        "status": "starting",
        "created_at": "2026-01-02T03:04:05.678Z",
        "urls": {"cancel": f"{own}/cancel", "get": own, "stream": f"https://stream.replicate.com/v1/files/{call.seed}"},
    }


def _ended(reply: Reply) -> dict[str, Any]:
    counts = {"input_token_count": reply.prompt_tokens, "output_token_count": reply.completion_tokens}
    return {
        "status": "succeeded",
        "output": [*reply.pieces, ""],
        "metrics": counts | {"predict_time": 0.5, "time_to_first_token": 0.1, "tokens_per_second": 50.0},
    }
