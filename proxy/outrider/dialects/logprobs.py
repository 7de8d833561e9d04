"""Log probabilities: the canonical form is OpenAI Chat's {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}.

Does not know: which dialect asks for what.
Source: google/genai/types.py LogprobsResult, ollama/_types.py Logprob, cohere LogprobItem.
"""

from typing import Any

from outrider.dialects.base import Json

__all__ = ["from_cohere", "from_gemini", "from_ollama", "to_gemini", "to_ollama"]


def _one(token: Any, logprob: Any) -> Json:
    token = token if type(token) is str else ""
    return {
        "token": token,
        "logprob": logprob if type(logprob) in (float, int) else 0.0,
        "bytes": list(token.encode()),
        "top_logprobs": [],
    }


def from_gemini(result: Json) -> Json | None:
    chosen = result.get("chosenCandidates")
    if type(chosen) is not list:
        return None
    content = [_one(row.get("token"), row.get("logProbability")) for row in chosen if type(row) is dict]
    tops = result.get("topCandidates")
    for one, top in zip(content, tops if type(tops) is list else (), strict=False):
        rows = top.get("candidates") if type(top) is dict else None
        for row in rows if type(rows) is list else ():
            if type(row) is dict:
                made = _one(row.get("token"), row.get("logProbability"))
                del made["top_logprobs"]
                one["top_logprobs"].append(made)
    return {"content": content, "refusal": None}


def _content(logprobs: Any) -> list[Json]:
    content = logprobs.get("content") if type(logprobs) is dict else None
    return [one for one in content if type(one) is dict] if type(content) is list else []


def to_gemini(logprobs: Any) -> Json | None:
    content = _content(logprobs)
    if not content:
        return None
    return {
        "chosenCandidates": [{"token": one.get("token"), "logProbability": one.get("logprob")} for one in content],
        "topCandidates": [
            {
                "candidates": [
                    {"token": top.get("token"), "logProbability": top.get("logprob")}
                    for top in one.get("top_logprobs") or ()
                ]
            }
            for one in content
        ],
    }


def from_ollama(rows: list[Any]) -> Json:
    content = []
    for row in rows:
        if type(row) is not dict:
            continue
        one = _one(row.get("token"), row.get("logprob"))
        tops = row.get("top_logprobs")
        for top in tops if type(tops) is list else ():
            if type(top) is dict:
                made = _one(top.get("token"), top.get("logprob"))
                del made["top_logprobs"]
                one["top_logprobs"].append(made)
        content.append(one)
    return {"content": content, "refusal": None}


def to_ollama(logprobs: Any) -> list[Json]:
    return [
        {
            "token": one.get("token"),
            "logprob": one.get("logprob"),
            "top_logprobs": [
                {"token": top.get("token"), "logprob": top.get("logprob")} for top in one.get("top_logprobs") or ()
            ],
        }
        for one in _content(logprobs)
    ]


def from_cohere(rows: list[Any]) -> Json:
    """Cohere gives a text with one number a token of it, and the ids of the tokens: the text stands at the first."""
    content = []
    for row in rows:
        numbers = row.get("logprobs") if type(row) is dict else None
        for index, logprob in enumerate(numbers if type(numbers) is list else ()):
            content.append(_one(row.get("text") if index == 0 else "", logprob))
    return {"content": content, "refusal": None}
