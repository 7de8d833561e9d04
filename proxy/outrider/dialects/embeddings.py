"""Embeddings: texts in, vectors out, in the words of OpenAI, Gemini, Cohere, Ollama and Bedrock's Titan and Cohere.

Rules
- One small canonical form of its own; what only one dialect knows is kept in `rest` and given back to it alone.
- What cannot be carried is refused by name (CannotCarryError): tokens in place of text, pictures, a number of
  dimensions where the model has one only, vectors in small integers. What only tunes is noted.
- Vectors are floats here; OpenAI's base64 (little-endian 32-bit floats) is read and written.
- Some take one input a call (`inputs_max`): `split` and `joined` make one call of many, order kept, usage added up.

Does not know: HTTP, batching in time, which model belongs to whom.
Source: openai/types/embedding_create_params.py, google/genai/types.py EmbedContentConfig, cohere/v2/client.py embed,
ollama/_types.py, AWS's parameters of Titan and Cohere embeddings; recorded answers.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import error as StructError
from struct import iter_unpack, pack
from types import MappingProxyType
from typing import Any, Final

from outrider.dialects import native_errors, openai_errors
from outrider.dialects.base import Json, Notes, UnreadableError
from outrider.dialects.canonical import Media, ProviderError, Usage
from outrider.dialects.carry import CannotCarryError
from outrider.dialects.models import resource_name
from outrider.dialects.usage import MAX_TOKENS, count, gemini_usage, ollama_usage, openai_usage
from outrider.dialects.values import (
    REST,
    Fields,
    data_url,
    from_data_url,
    known,
    new_id,
    note_rest,
    objects,
    rest_of,
    text,
    typed,
)

__all__ = [
    "DIALECTS",
    "FIELDS",
    "EmbeddingsAnswer",
    "EmbeddingsDialect",
    "EmbeddingsRequest",
    "dialect_for",
    "joined",
    "split",
    "translate_answer",
    "translate_request",
]

type Input = str | list[int] | Media
type Vector = list[float]


@dataclass(slots=True)
class EmbeddingsRequest:
    """task: query, document, classification, clustering, similarity, code, fact, question; None where not said.

    is_single: the app gave one input and not a list of one. encoding: float, base64, or a small integer's name.
    truncate: whether what is too long is cut (True), refused (False) or as the provider likes (None).
    """

    origin: str
    model: str
    inputs: list[Input]
    is_single: bool = False
    dimensions: int | None = None
    encoding: str = "float"
    task: str | None = None
    title: str | None = None
    truncate: bool | None = None
    normalize: bool | None = None
    user: str | None = None
    rest: Json | None = None


@dataclass(slots=True)
class EmbeddingsAnswer:
    """vectors: in the order of the inputs."""

    origin: str
    vectors: list[Vector]
    model: str = ""
    id: str = ""
    usage: Usage | None = None
    rest: Json | None = None


@dataclass(frozen=True)
class EmbeddingsDialect:
    """One adapter. inputs_max: the most that one call takes. features: what of a request it has a place for.

    tasks: its words for them. read_request(body, model), write_request(request), read_answer(body),
    write_answer(answer, request): as those of base.Dialect.
    """

    name: str
    inputs_max: int
    features: frozenset[str]
    tasks: Mapping[str, str]
    read_request: Callable[[Json, str | None], EmbeddingsRequest]
    write_request: Callable[[EmbeddingsRequest], Json]
    read_answer: Callable[[Json], EmbeddingsAnswer]
    write_answer: Callable[[EmbeddingsAnswer, EmbeddingsRequest], Json]
    read_error: Callable[[int, bytes], ProviderError]
    write_error: Callable[[ProviderError], Json]


FIELDS: Final[dict[str, Fields]] = {
    "openai.embeddings": {
        "model": "model",
        "input": "inputs",
        "dimensions": "dimensions",
        "encoding_format": "encoding",
        "user": "user",
        "input_type": "task",
        "truncation": "truncate",
        "output_dimension": "dimensions",
        "output_dtype": "encoding",
    },
    "gemini.embed": {
        "model": "model",
        "content": "inputs",
        "requests": "inputs",
        "taskType": "task",
        "title": "title",
        "outputDimensionality": "dimensions",
        "embedContentConfig": REST,
    },
    "cohere.embed": {
        "model": "model",
        "texts": "inputs",
        "images": "inputs",
        "inputs": "inputs",
        "input_type": "task",
        "embedding_types": "encoding",
        "output_dimension": "dimensions",
        "truncate": "truncate",
        "max_tokens": REST,
        "priority": REST,
    },
    "ollama.embed": {
        "model": "model",
        "input": "inputs",
        "truncate": "truncate",
        "dimensions": "dimensions",
        "options": REST,
        "keep_alive": REST,
    },
    "ollama.embeddings": {"model": "model", "prompt": "inputs", "options": REST, "keep_alive": REST},
    "bedrock.titan_embed": {
        "inputText": "inputs",
        "inputImage": "inputs",
        "dimensions": "dimensions",
        "normalize": "normalize",
        "embeddingTypes": "encoding",
        "embeddingConfig": "dimensions",
    },
}
FIELDS["bedrock.cohere_embed"] = {key: value for key, value in FIELDS["cohere.embed"].items() if key != "model"}
_KNOWN: Final = {name: known(fields) for name, fields in FIELDS.items()}

_GEMINI_TASKS: Final = MappingProxyType(
    {
        "query": "RETRIEVAL_QUERY",
        "document": "RETRIEVAL_DOCUMENT",
        "classification": "CLASSIFICATION",
        "clustering": "CLUSTERING",
        "similarity": "SEMANTIC_SIMILARITY",
        "code": "CODE_RETRIEVAL_QUERY",
        "fact": "FACT_VERIFICATION",
        "question": "QUESTION_ANSWERING",
    }
)
_COHERE_TASKS: Final = MappingProxyType(
    {
        "query": "search_query",
        "document": "search_document",
        "classification": "classification",
        "clustering": "clustering",
        "image": "image",
    }
)
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


def _back(tasks: Mapping[str, str], word: Any) -> str | None:
    return next((task for task, one in tasks.items() if one == word), None)


# -- one and many


def split(request: EmbeddingsRequest, inputs_max: int) -> list[EmbeddingsRequest]:
    """Requests of at most inputs_max inputs, in order; the request itself where it is one."""
    if len(request.inputs) <= inputs_max:
        return [request]
    steps = range(0, len(request.inputs), inputs_max)
    return [replace(request, inputs=request.inputs[at : at + inputs_max], is_single=inputs_max == 1) for at in steps]


def joined(answers: Sequence[EmbeddingsAnswer]) -> EmbeddingsAnswer:
    """Of the requests of one split, in their order."""
    first = answers[0]
    if len(answers) == 1:
        return first
    tokens = [one.usage.input_tokens for one in answers if one.usage is not None]
    usage = Usage(min(sum(tokens), MAX_TOKENS), 0) if tokens else None
    return replace(first, vectors=[vector for one in answers for vector in one.vectors], usage=usage)


# -- vectors


def _vector(value: Any) -> Vector:
    """A list of numbers, or base64 of 32-bit floats. Raises: UnreadableError."""
    if type(value) is list:
        if all(type(number) in (float, int) for number in value):
            return value
    elif type(value) is str:
        try:
            return [number for (number,) in iter_unpack("<f", b64decode(value, validate=True))]
        except (ValueError, StructError) as exc:
            raise UnreadableError("The answer has a vector that is not base64 of floats.") from exc
    raise UnreadableError("The answer has a vector that is not a list of numbers.")


def _packed(vector: Vector) -> str:
    return b64encode(pack(f"<{len(vector)}f", *vector)).decode("ascii")


def _vectors(rows: Any) -> list[Vector]:
    if type(rows) is not list:
        raise UnreadableError("The answer has no embeddings.")
    return [_vector(row) for row in rows]


def _texts(value: Any, name: str) -> tuple[list[Input], bool]:
    """(inputs, whether it was a single one): text, a list of texts, tokens, a list of tokens."""
    if type(value) is str:
        return [value], True
    rows = typed(value, (list, str), name)
    if rows and all(type(row) is int for row in rows):
        return [rows], True
    for row in rows:
        if type(row) is not str and not (type(row) is list and all(type(token) is int for token in row)):
            raise UnreadableError(f"The field {name} is neither text nor tokens nor a list of those.")
    return list(rows), False


def _single(request: EmbeddingsRequest) -> Any:
    return request.inputs[0] if request.is_single and len(request.inputs) == 1 else request.inputs


def _with_rest(body: Json, origin: str, name: str, rest: Json | None) -> Json:
    return body | rest if rest and origin == name else body


# -- OpenAI


def _openai_request(body: Json, model: str | None) -> EmbeddingsRequest:
    inputs, is_single = _texts(body.get("input"), "input")
    name = "openai.embeddings"
    task, dtype = body.get("input_type"), body.get("output_dtype")  # Voyage speaks almost like OpenAI
    dimensions = body.get("dimensions", body.get("output_dimension"))
    rest = rest_of(body, _KNOWN[name]) or {}
    rest |= {key: body[key] for key in _VOYAGE if body.get(key) is not None}
    return EmbeddingsRequest(
        name,
        model or typed(body.get("model"), (str,), "model"),
        inputs,
        is_single,
        None if dimensions is None else typed(dimensions, (int,), "dimensions"),
        dtype if type(dtype) is str and dtype != "float" else text(body.get("encoding_format")) or "float",
        task if task in ("query", "document") else None,
        truncate=body.get("truncation"),
        user=body.get("user"),
        rest=rest or None,
    )


_VOYAGE: Final = ("output_dimension", "output_dtype")


def _openai_body(request: EmbeddingsRequest) -> Json:
    is_own = request.origin == "openai.embeddings"
    body: Json = {"model": request.model, "input": _single(request)}
    if request.dimensions is not None and not (is_own and request.rest and "output_dimension" in request.rest):
        body["dimensions"] = request.dimensions
    if request.encoding in ("float", "base64"):
        body["encoding_format"] = request.encoding
    if request.user is not None:
        body["user"] = request.user
    if is_own and request.task is not None:
        body["input_type"] = request.task
    if is_own and request.truncate is not None:
        body["truncation"] = request.truncate
    return _with_rest(body, request.origin, "openai.embeddings", request.rest)


def _openai_answer(body: Json) -> EmbeddingsAnswer:
    rows = objects(body.get("data"), "data")
    rows = sorted(rows, key=lambda row: row["index"] if type(row.get("index")) is int else 0)
    usage = body.get("usage")
    read = openai_usage(usage, body.get("model")) if type(usage) is dict else None
    if read is None and type(usage) is dict and (total := count(usage.get("total_tokens"))) is not None:
        read = Usage(total, 0)
    vectors = [_vector(row.get("embedding")) for row in rows]
    return EmbeddingsAnswer("openai.embeddings", vectors, text(body.get("model")), text(body.get("id")), read)


def _openai_written(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> Json:
    as_text = request.encoding == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if as_text else vector}
        for index, vector in enumerate(answer.vectors)
    ]
    tokens = answer.usage.input_tokens if answer.usage is not None else 0
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": answer.model or request.model, "usage": usage}


# -- Gemini


def _gemini_request(body: Json, model: str | None) -> EmbeddingsRequest:
    """embedContent has `content`, batchEmbedContents has `requests`, all with the same options."""
    name = "gemini.embed"
    rows = objects(body["requests"], "requests") if "requests" in body else [body]
    if not rows:
        raise UnreadableError("The field requests is empty.")
    first = rows[0]
    options = {key: value for key, value in first.items() if key not in ("content", "model", "requests")}
    for row in rows[1:]:
        if {key: value for key, value in row.items() if key not in ("content", "model")} != options:
            raise UnreadableError("The field requests has requests that ask for different things.")
    dimensions = options.get("outputDimensionality", options.get("output_dimensionality"))
    task = options.get("taskType", options.get("task_type"))
    rest = {key: value for key, value in options.items() if key not in _KNOWN[name] and "_" not in key}
    if task is not None and _back(_GEMINI_TASKS, task) is None and task != "TASK_TYPE_UNSPECIFIED":
        rest["taskType"] = task
    return EmbeddingsRequest(
        name,
        model or text(first.get("model")).removeprefix("models/"),
        [_content(row.get("content")) for row in rows],
        "requests" not in body,
        None if dimensions is None else typed(dimensions, (int,), "outputDimensionality"),
        task=_back(_GEMINI_TASKS, task),
        title=options.get("title"),
        rest=rest or None,
    )


def _content(content: Any) -> Input:
    if type(content) is str:
        return content
    parts = objects(typed(content, (dict,), "content").get("parts"), "content.parts")
    if len(parts) == 1 and type(blob := parts[0].get("inlineData")) is dict:
        return Media("image", blob.get("mimeType"), text(blob.get("data")))
    return "\n".join(typed(part.get("text"), (str,), "content.parts[].text") for part in parts)


def _gemini_body(request: EmbeddingsRequest) -> Json:
    """One input is embedContent's, more are batchEmbedContents': the path goes with it."""
    options: Json = {}
    if request.task in _GEMINI_TASKS:
        options["taskType"] = _GEMINI_TASKS[request.task or ""]
    if request.title is not None:
        options["title"] = request.title
    if request.dimensions is not None:
        options["outputDimensionality"] = request.dimensions
    options = _with_rest(options, request.origin, "gemini.embed", request.rest)
    model = resource_name(request.model)
    rows = [{"model": model, "content": {"parts": [_gemini_part(one)]}} | options for one in request.inputs]
    return rows[0] if request.is_single and len(rows) == 1 else {"requests": rows}


def _gemini_part(one: Input) -> Json:
    if isinstance(one, Media):
        return {"inlineData": {"mimeType": one.mime or "image/png", "data": one.data or ""}}
    return {"text": one}


def _gemini_answer(body: Json) -> EmbeddingsAnswer:
    single = body.get("embedding")
    rows = [single] if type(single) is dict else objects(body.get("embeddings"), "embeddings")
    usage = body.get("usageMetadata")
    read = gemini_usage(usage) if type(usage) is dict else None
    return EmbeddingsAnswer("gemini.embed", [_vector(row.get("values")) for row in rows], usage=read)


def _gemini_written(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> Json:
    rows = [{"values": vector} for vector in answer.vectors]
    body: Json = {"embedding": rows[0]} if request.is_single and len(rows) == 1 else {"embeddings": rows}
    if answer.usage is not None:
        tokens = answer.usage.input_tokens
        body["usageMetadata"] = {"promptTokenCount": tokens, "totalTokenCount": tokens}
    return body


# -- Cohere, at home and at Bedrock


def _cohere_request(name: str) -> Callable[[Json, str | None], EmbeddingsRequest]:
    def read(body: Json, model: str | None) -> EmbeddingsRequest:
        inputs: list[Input] = [
            typed(one, (str,), "texts[]") for one in typed(body.get("texts") or [], (list,), "texts")
        ]
        inputs += [_cohere_image(one) for one in typed(body.get("images") or [], (list,), "images")]
        inputs += [_cohere_input(one) for one in objects(body.get("inputs"), "inputs")]
        kinds = typed(body.get("embedding_types") or ["float"], (list,), "embedding_types")
        dimensions = body.get("output_dimension")
        rest = rest_of(body, _KNOWN[name]) or {}
        task = body.get("input_type")
        if task is not None and _back(_COHERE_TASKS, task) is None:
            rest["input_type"] = task
        truncate = body.get("truncate")
        if truncate == "START":
            rest["truncate"] = truncate
        if "embedding_types" not in body:
            rest["embedding_types"] = (
                None  # then the vectors stand in a plain list, as they did before there were types
            )
        return EmbeddingsRequest(
            name,
            model or text(body.get("model")),
            inputs,
            dimensions=None if dimensions is None else typed(dimensions, (int,), "output_dimension"),
            encoding=text(kinds[0]) if len(kinds) == 1 else "several",
            task=_back(_COHERE_TASKS, task),
            truncate=None if truncate is None else truncate != "NONE",
            rest=rest or None,
        )

    return read


def _cohere_image(value: Any) -> Media:
    inline = from_data_url(typed(value, (str,), "images[]"))
    return Media("image", inline[0], inline[1]) if inline is not None else Media("image", url=value)


def _cohere_input(row: Json) -> Input:
    parts = objects(row.get("content"), "inputs[].content")
    if len(parts) == 1 and parts[0].get("type") == "image_url":
        image = typed(parts[0].get("image_url"), (dict,), "inputs[].content[].image_url")
        return _cohere_image(image.get("url"))
    return "\n".join(typed(part.get("text"), (str,), "inputs[].content[].text") for part in parts)


def _cohere_part(one: Input) -> Json:
    if isinstance(one, Media):
        return {"type": "image_url", "image_url": {"url": data_url(one.mime or "image/png", one.data or "")}}
    return {"type": "text", "text": one}


def _cohere_body(name: str) -> Callable[[EmbeddingsRequest], Json]:
    def write(request: EmbeddingsRequest) -> Json:
        is_own = request.origin in _COHERES
        body: Json = {"model": request.model} if name == "cohere.embed" else {}
        texts = [one for one in request.inputs if isinstance(one, str)]
        images = [data_url(one.mime or "image/png", one.data or "") for one in request.inputs if isinstance(one, Media)]
        if texts and images:
            body["inputs"] = [{"content": [_cohere_part(one)]} for one in request.inputs]
        elif images:
            body["images"] = images
        else:
            body["texts"] = texts
        body["input_type"] = _COHERE_TASKS.get(request.task or "", "image" if images else "search_document")
        if not is_own:
            body["embedding_types"] = ["float"]
        elif "embedding_types" not in (request.rest or {}):
            body["embedding_types"] = [request.encoding]
        if request.dimensions is not None:
            body["output_dimension"] = request.dimensions
        if request.truncate is not None:
            body["truncate"] = "END" if request.truncate else "NONE"
        rest = {key: value for key, value in (request.rest or {}).items() if key != "embedding_types"}
        return body | rest if is_own else body

    return write


def _cohere_answer(name: str) -> Callable[[Json], EmbeddingsAnswer]:
    def read(body: Json) -> EmbeddingsAnswer:
        rows = body.get("embeddings")
        if type(rows) is dict:
            rows = rows.get("float", next(iter(rows.values()), None))
        meta = body.get("meta")
        units = meta.get("billed_units") if type(meta) is dict else None
        tokens = units.get("input_tokens") if type(units) is dict else None
        tokens = count(int(tokens)) if type(tokens) is float and tokens.is_integer() else count(tokens)
        usage = None if tokens is None else Usage(tokens, 0)
        return EmbeddingsAnswer(name, _vectors(rows), "", text(body.get("id")), usage)

    return read


def _cohere_written(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> Json:
    is_plain = "embedding_types" in (request.rest or {}) and request.origin == "bedrock.cohere_embed"
    body: Json = {
        "id": answer.id or new_id(""),
        "response_type": "embeddings_floats" if is_plain else "embeddings_by_type",
        "embeddings": answer.vectors if is_plain else {"float": answer.vectors},
        "texts": [one for one in request.inputs if isinstance(one, str)],
    }
    if answer.usage is not None:
        body["meta"] = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": answer.usage.input_tokens}}
    return body


_COHERES: Final = ("cohere.embed", "bedrock.cohere_embed")


# -- Ollama


def _ollama_request(body: Json, model: str | None) -> EmbeddingsRequest:
    inputs, is_single = _texts(body.get("input"), "input")
    dimensions = body.get("dimensions")
    rest = rest_of(body, _KNOWN["ollama.embed"]) or {}
    rest = {key: value for key, value in rest.items() if value not in (None, {})}
    return EmbeddingsRequest(
        "ollama.embed",
        model or typed(body.get("model"), (str,), "model"),
        inputs,
        is_single,
        None if dimensions is None else typed(dimensions, (int,), "dimensions"),
        truncate=body.get("truncate"),
        rest=rest or None,
    )


def _ollama_body(request: EmbeddingsRequest) -> Json:
    body: Json = {"model": request.model, "input": _single(request)}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    if request.truncate is not None:
        body["truncate"] = request.truncate
    return _with_rest(body, request.origin, "ollama.embed", request.rest)


def _ollama_answer(body: Json) -> EmbeddingsAnswer:
    usage = ollama_usage(body) if "prompt_eval_count" in body else None
    return EmbeddingsAnswer("ollama.embed", _vectors(body.get("embeddings")), text(body.get("model")), usage=usage)


def _ollama_written(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> Json:
    body: Json = {"model": answer.model or request.model, "embeddings": answer.vectors}
    if answer.usage is not None:
        body["prompt_eval_count"] = answer.usage.input_tokens
    return body


def _ollama_old_request(body: Json, model: str | None) -> EmbeddingsRequest:
    rest = {key: value for key, value in (rest_of(body, _KNOWN["ollama.embeddings"]) or {}).items() if value}
    return EmbeddingsRequest(
        "ollama.embeddings",
        model or typed(body.get("model"), (str,), "model"),
        [typed(body.get("prompt"), (str,), "prompt")],
        is_single=True,
        rest=rest or None,
    )


def _ollama_old_body(request: EmbeddingsRequest) -> Json:
    body: Json = {"model": request.model, "prompt": request.inputs[0]}
    return _with_rest(body, request.origin, "ollama.embeddings", request.rest)


# -- Titan


def _titan_request(body: Json, model: str | None) -> EmbeddingsRequest:
    inputs: list[Input] = []
    if body.get("inputText") is not None:
        inputs.append(typed(body["inputText"], (str,), "inputText"))
    if body.get("inputImage") is not None:
        if inputs:
            raise UnreadableError("The fields inputText and inputImage stand for one vector, which no other API has.")
        inputs.append(Media("image", data=typed(body["inputImage"], (str,), "inputImage")))
    config = body.get("embeddingConfig")
    dimensions = body.get("dimensions", config.get("outputEmbeddingLength") if type(config) is dict else None)
    kinds = typed(body.get("embeddingTypes") or ["float"], (list,), "embeddingTypes")
    return EmbeddingsRequest(
        "bedrock.titan_embed",
        model or "",
        inputs,
        True,
        None if dimensions is None else typed(dimensions, (int,), "dimensions"),
        encoding=text(kinds[0]) if len(kinds) == 1 else "several",
        normalize=body.get("normalize"),
        rest=rest_of(body, _KNOWN["bedrock.titan_embed"]),
    )


def _titan_body(request: EmbeddingsRequest) -> Json:
    one = request.inputs[0]
    if isinstance(one, Media):
        body: Json = {"inputImage": one.data or ""}
        if request.dimensions is not None:
            body["embeddingConfig"] = {"outputEmbeddingLength": request.dimensions}
    else:
        body = {"inputText": one}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
    if request.normalize is not None:
        body["normalize"] = request.normalize
    if request.origin == "bedrock.titan_embed" and request.encoding != "float":
        body["embeddingTypes"] = [request.encoding]
    return _with_rest(body, request.origin, "bedrock.titan_embed", request.rest)


def _titan_answer(body: Json) -> EmbeddingsAnswer:
    tokens = count(body.get("inputTextTokenCount"))
    usage = None if tokens is None else Usage(tokens, 0)
    return EmbeddingsAnswer("bedrock.titan_embed", [_vector(body.get("embedding"))], usage=usage)


def _titan_written(answer: EmbeddingsAnswer, request: EmbeddingsRequest) -> Json:
    tokens = answer.usage.input_tokens if answer.usage is not None else 0
    vector = answer.vectors[0] if answer.vectors else []
    return {"embedding": vector, "embeddingsByType": {"float": vector}, "inputTextTokenCount": tokens}


# -- the adapters

_AWS: Final = (native_errors.error_of_aws, native_errors.written_aws)
_OLLAMA: Final = (native_errors.error_of_ollama, native_errors.written_ollama)


def _table(*dialects: EmbeddingsDialect) -> Mapping[str, EmbeddingsDialect]:
    return MappingProxyType({one.name: one for one in dialects})


DIALECTS: Final = _table(
    EmbeddingsDialect(
        "openai.embeddings", 2048, frozenset({"tokens", "dimensions", "base64", "user"}), _NONE,
        _openai_request, _openai_body, _openai_answer, _openai_written, openai_errors.read, openai_errors.written,
    ),
    EmbeddingsDialect(
        "gemini.embed", 100, frozenset({"images", "dimensions", "task", "title"}), _GEMINI_TASKS,
        _gemini_request, _gemini_body, _gemini_answer, _gemini_written,
        native_errors.error_of_google, native_errors.written_google,
    ),
    EmbeddingsDialect(
        "cohere.embed", 96, frozenset({"images", "dimensions", "task", "truncate"}), _COHERE_TASKS,
        _cohere_request("cohere.embed"), _cohere_body("cohere.embed"), _cohere_answer("cohere.embed"),
        _cohere_written, native_errors.error_of_cohere, native_errors.written_cohere,
    ),
    EmbeddingsDialect(
        "ollama.embed", 2048, frozenset({"dimensions", "truncate"}), _NONE,
        _ollama_request, _ollama_body, _ollama_answer, _ollama_written, *_OLLAMA,
    ),
    EmbeddingsDialect(
        "ollama.embeddings", 1, frozenset(), _NONE,
        _ollama_old_request, _ollama_old_body,
        lambda body: EmbeddingsAnswer("ollama.embeddings", [_vector(body.get("embedding"))]),
        lambda answer, request: {"embedding": answer.vectors[0] if answer.vectors else []}, *_OLLAMA,
    ),
    EmbeddingsDialect(
        "bedrock.titan_embed", 1, frozenset({"images", "dimensions", "normalize"}), _NONE,
        _titan_request, _titan_body, _titan_answer, _titan_written, *_AWS,
    ),
    EmbeddingsDialect(
        "bedrock.cohere_embed", 96, frozenset({"images", "dimensions", "task", "truncate"}), _COHERE_TASKS,
        _cohere_request("bedrock.cohere_embed"), _cohere_body("bedrock.cohere_embed"),
        _cohere_answer("bedrock.cohere_embed"), _cohere_written, *_AWS,
    ),
)  # fmt: skip


_INVOKED: Final = (("titan-embed", "bedrock.titan_embed"), ("cohere.embed", "bedrock.cohere_embed"))


def dialect_for(name: str, model: str) -> EmbeddingsDialect | None:
    """By the operation's dialect; bodies of InvokeModel by the model. None where no adapter is it."""
    if name == "bedrock.invoke":
        return next((DIALECTS[one] for part, one in _INVOKED if part in model), None)
    return DIALECTS.get(name)


# -- from one to another


def translate_request(request: EmbeddingsRequest, target: EmbeddingsDialect, notes: Notes) -> list[Json]:
    """The bodies of the calls that it takes, in order. Raises: CannotCarryError."""
    if not request.inputs:
        raise CannotCarryError("no input at all", target.name, "there is nothing to make a vector of")
    if request.origin != target.name:
        _check(request, target, notes)
    return [target.write_request(one) for one in split(request, target.inputs_max)]


def _check(request: EmbeddingsRequest, target: EmbeddingsDialect, notes: Notes) -> None:
    features = target.features
    if "tokens" not in features and any(isinstance(one, list) for one in request.inputs):
        raise CannotCarryError("tokens in place of text", target.name, "its tokens are other ones")
    if any(isinstance(one, Media) for one in request.inputs):
        if "images" not in features:
            raise CannotCarryError("pictures", target.name, "it takes text only")
        if any(isinstance(one, Media) and one.data is None for one in request.inputs):
            raise CannotCarryError("an image by URL", target.name, "it takes the bytes and not a URL")
    if request.dimensions is not None and "dimensions" not in features:
        raise CannotCarryError("dimensions", target.name, "its vectors have one length only")
    if request.encoding not in ("float", "base64"):
        raise CannotCarryError(f"vectors as {request.encoding}", target.name, "floats are what all have in common")
    if request.task is not None and request.task not in target.tasks:
        notes.add(f"input type {request.task} left out")
    elif request.task is None and target.tasks is _COHERE_TASKS:
        notes.add("input type given as search_document")
    for name in ("title", "normalize", "user", "truncate"):
        if getattr(request, name) is not None and name not in features:
            notes.add(f"{name} left out")
    note_rest({key: value for key, value in (request.rest or {}).items() if key not in _VOYAGE}, notes)


def translate_answer(
    bodies: Sequence[Json], source: EmbeddingsDialect, client: EmbeddingsDialect, request: EmbeddingsRequest
) -> Json:
    """Of the calls of translate_request, in order. Raises: UnreadableError."""
    answer = joined([source.read_answer(body) for body in bodies])
    if len(answer.vectors) != len(request.inputs):
        raise UnreadableError(f"The answer has {len(answer.vectors)} vectors for {len(request.inputs)} inputs.")
    return client.write_answer(answer, request)
