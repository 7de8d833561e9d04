"""Rerank: a query and documents in, indexes by relevance out, in the words of Cohere, Voyage and Bedrock's
Cohere and Amazon.

Rules
- Scores are the model's own and are passed on as they are; indexes are of the documents as the app gave them.
- A document that is an object is ranked by its `text`; fields to rank by (`rank_fields`) are Cohere's v1.

Does not know: HTTP.
Source: cohere/v2/client.py rerank, docs.voyageai.com, AWS's parameters of Cohere Rerank and Amazon
Rerank at InvokeModel; recorded answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from outrider.dialects import native_errors, openai_errors
from outrider.dialects.base import Json, Notes, UnreadableError
from outrider.dialects.canonical import ProviderError, Usage
from outrider.dialects.usage import count
from outrider.dialects.values import NUMBER, REST, Fields, known, new_id, note_rest, objects, rest_of, text, typed

__all__ = ["DIALECTS", "FIELDS", "Ranked", "RerankAnswer", "RerankDialect", "RerankRequest", "translate_request"]


@dataclass(slots=True)
class RerankRequest:
    """documents: texts, or objects as they came (Cohere's v1). top: the most that come back."""

    origin: str
    model: str
    query: str
    documents: list[str | Json]
    top: int | None = None
    return_documents: bool | None = None
    truncate: bool | None = None
    rest: Json | None = None


@dataclass(slots=True)
class Ranked:
    index: int
    score: float
    document: Any = None


@dataclass(slots=True)
class RerankAnswer:
    """search_units: what Cohere bills; usage: what Voyage bills."""

    origin: str
    results: list[Ranked]
    id: str = ""
    model: str = ""
    search_units: int | None = None
    usage: Usage | None = None
    rest: Json | None = None


@dataclass(frozen=True)
class RerankDialect:
    name: str
    read_request: Callable[[Json, str | None], RerankRequest]
    write_request: Callable[[RerankRequest], Json]
    read_answer: Callable[[Json], RerankAnswer]
    write_answer: Callable[[RerankAnswer, RerankRequest], Json]
    read_error: Callable[[int, bytes], ProviderError]
    write_error: Callable[[ProviderError], Json]


FIELDS: Final[dict[str, Fields]] = {
    "cohere.rerank": {
        "model": "model",
        "query": "query",
        "documents": "documents",
        "top_n": "top",
        "return_documents": "return_documents",
        "max_tokens_per_doc": REST,
        "max_chunks_per_doc": REST,
        "rank_fields": REST,
        "priority": REST,
    },
    "voyage.rerank": {
        "model": "model",
        "query": "query",
        "documents": "documents",
        "top_k": "top",
        "return_documents": "return_documents",
        "truncation": "truncate",
    },
    "bedrock.cohere_rerank": {
        "query": "query",
        "documents": "documents",
        "top_n": "top",
        "return_documents": "return_documents",
        "api_version": "",
        "max_tokens_per_doc": REST,
        "priority": REST,
    },
    "bedrock.amazon_rerank": {"query": "query", "documents": "documents", "top_n": "top"},
}
_KNOWN: Final = {name: known(fields) for name, fields in FIELDS.items()}


def _reader(name: str, top: str) -> Callable[[Json, str | None], RerankRequest]:
    def read(body: Json, model: str | None) -> RerankRequest:
        documents = typed(body.get("documents"), (list,), "documents")
        most = body.get(top)
        rest = {key: value for key, value in (rest_of(body, _KNOWN[name]) or {}).items() if value is not None}
        return RerankRequest(
            name,
            model or text(body.get("model")),
            typed(body.get("query"), (str,), "query"),
            [typed(one, (str, dict), "documents[]") for one in documents],
            None if most is None else typed(most, (int,), top),
            body.get("return_documents"),
            body.get("truncation"),
            rest or None,
        )

    return read


def _writer(name: str, top: str) -> Callable[[RerankRequest], Json]:
    def write(request: RerankRequest) -> Json:
        is_own = request.origin == name
        body: Json = {} if name.startswith("bedrock.") else {"model": request.model}
        body["query"] = request.query
        body["documents"] = request.documents if is_own else [_plain(one) for one in request.documents]
        if request.top is not None:
            body[top] = request.top
        if request.return_documents is not None and (is_own or name == "voyage.rerank"):
            body["return_documents"] = request.return_documents
        if request.truncate is not None and name == "voyage.rerank":
            body["truncation"] = request.truncate
        if name == "bedrock.cohere_rerank":
            body["api_version"] = 2
        return body | request.rest if is_own and request.rest else body

    return write


def _plain(document: str | Json) -> str:
    return document if isinstance(document, str) else text(document.get("text"))


def _answer_reader(name: str, key: str) -> Callable[[Json], RerankAnswer]:
    def read(body: Json) -> RerankAnswer:
        if type(body.get(key)) is not list:
            raise UnreadableError(f"The answer has no {key}.")
        results = []
        for row in objects(body[key], key):
            index: Any = row.get("index")
            score: Any = row.get("relevance_score")
            if type(index) is not int or index < 0 or type(score) not in NUMBER:
                raise UnreadableError(f"The answer has {key} without an index or a score.")
            results.append(Ranked(index, score, row.get("document")))
        meta, usage = body.get("meta"), body.get("usage")
        units = meta.get("billed_units") if type(meta) is dict else None
        search_units: Any = units.get("search_units") if type(units) is dict else None
        tokens = count(usage.get("total_tokens")) if type(usage) is dict else None
        return RerankAnswer(
            name,
            results,
            text(body.get("id")),
            text(body.get("model")),
            int(search_units) if type(search_units) in NUMBER and 0 <= search_units < 1 << 32 else None,
            Usage(tokens, 0) if tokens is not None else None,
        )

    return read


def _rows(answer: RerankAnswer, request: RerankRequest) -> list[Json]:
    rows = []
    for one in answer.results:
        row: Json = {"index": one.index, "relevance_score": one.score}
        if request.return_documents and one.index < len(request.documents):
            document = request.documents[one.index]
            is_text = isinstance(document, str) and request.origin != "voyage.rerank"
            row["document"] = {"text": document} if is_text else document
        rows.append(row)
    return rows


def _cohere_written(answer: RerankAnswer, request: RerankRequest) -> Json:
    meta: Json = {"api_version": {"version": "2"}}
    if answer.search_units is not None:
        meta["billed_units"] = {"search_units": answer.search_units}
    return {"id": answer.id or new_id(""), "results": _rows(answer, request), "meta": meta}


def _invoke_written(answer: RerankAnswer, request: RerankRequest) -> Json:
    return {"results": _rows(answer, request)}


def _voyage_written(answer: RerankAnswer, request: RerankRequest) -> Json:
    body: Json = {"object": "list", "data": _rows(answer, request), "model": answer.model or request.model}
    body["usage"] = {"total_tokens": answer.usage.input_tokens if answer.usage is not None else 0}
    return body


def _invoked(name: str) -> RerankDialect:
    """A body of InvokeModel."""
    return RerankDialect(
        name, _reader(name, "top_n"), _writer(name, "top_n"), _answer_reader(name, "results"), _invoke_written,
        native_errors.error_of_aws, native_errors.written_aws,
    )  # fmt: skip


_COHERE: Final = (native_errors.error_of_cohere, native_errors.written_cohere)
DIALECTS: Final[Mapping[str, RerankDialect]] = MappingProxyType(
    {
        "cohere.rerank": RerankDialect(
            "cohere.rerank", _reader("cohere.rerank", "top_n"), _writer("cohere.rerank", "top_n"),
            _answer_reader("cohere.rerank", "results"), _cohere_written, *_COHERE,
        ),
        "voyage.rerank": RerankDialect(
            "voyage.rerank", _reader("voyage.rerank", "top_k"), _writer("voyage.rerank", "top_k"),
            _answer_reader("voyage.rerank", "data"), _voyage_written, openai_errors.read, openai_errors.written,
        ),
        "bedrock.cohere_rerank": _invoked("bedrock.cohere_rerank"),
        "bedrock.amazon_rerank": _invoked("bedrock.amazon_rerank"),
    }
)  # fmt: skip


def translate_request(request: RerankRequest, target: RerankDialect, notes: Notes) -> Json:
    """return_documents is kept by whoever writes the answer, who has the documents."""
    if request.origin != target.name:
        if any(not isinstance(one, str) for one in request.documents):
            notes.add("documents ranked by their text alone")
        if request.truncate is not None and target.name != "voyage.rerank":
            notes.add("truncation left out")
        note_rest(request.rest, notes)
    return target.write_request(request)
