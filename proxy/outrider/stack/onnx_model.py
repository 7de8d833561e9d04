"""Vectors made in this process: an ONNX model of sentences, on a thread of its own.

Rules
- It is loaded, and tried with as long a text as it will ever get, before a configuration is in force: what is wrong
  with it is said then. Nothing here is imported, and no thread runs, where no configuration names a model.
- Tokens and the model's numbers are worked out on one thread, never on the loop's; `max_waiting` texts are there for
  it at most, and one that is not waited for any more is not begun.
- What ONNX Runtime would tell its maker of all this is turned off: nothing leaves the machine.
- A vector is the mean over the tokens (pooling: mean), the first token's (cls), or what the model pools itself.
Does not know: which questions are compared.

Shapes: input_ids, attention_mask and token_type_ids (1, tokens), those that the model declares; out comes
`sentence_embedding` (1, numbers), else `last_hidden_state` (1, tokens, numbers), else the first output.
"""

import asyncio
import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any, Final

import orjson

from outrider.config import Config, ConfigError, Problem
from outrider.config.problems import spell
from outrider.config.schema import Onnx as Settings
from outrider.secrets.files import Signature, reason, signature
from outrider.stack.call import Call
from outrider.stack.semantic import UnaskedError
from outrider_ext.nearest import unit

if TYPE_CHECKING:
    from outrider_ext.relay import Exchange

_INPUTS: Final = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUTS: Final = ("sentence_embedding", "last_hidden_state")
_INTEGERS: Final = {"tensor(int64)": "int64", "tensor(int32)": "int32"}
_SHOWN_CHARS: Final = 200
_FATAL: Final = 4  # of what ONNX Runtime writes to stderr: the rest is raised

type Files = tuple[Signature | None, Signature | None]


class _UnusableError(Exception):
    """key: below cache.semantic.onnx. str() is the end of a sentence."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key = key


class OnnxModel:
    """One loaded model, as stack.semantic.Maker. Raises: _UnusableError."""

    name = "onnx"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.files = files_of(settings)
        hashes = [_hash_of(key, getattr(settings, key)) for key in ("model", "tokenizer")]
        self.place = orjson.dumps(["outrider semantic 1", "onnx", *hashes, settings.max_tokens, settings.pooling])
        self._numpy, runtime, tokenizers = _libraries()
        self._session = _session(runtime, settings)
        self._tokenizer = _tokenizer(tokenizers, settings)
        self._inputs = _inputs(self._session)
        self._output = _output(self._session)
        self._places = BoundedSemaphore(settings.max_waiting)
        self._thread: ThreadPoolExecutor | None = None
        self._try()

    # -- on the loop

    async def vector(self, x: "Exchange", call: Call, text: str) -> bytes | None:
        if not self._places.acquire(blocking=False):
            raise UnaskedError
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "onnx")
        made = self._thread.submit(self._vector, text)
        made.add_done_callback(self._leave)
        try:
            return await asyncio.wrap_future(made)
        except UnaskedError:
            raise
        except Exception:  # of the tokenizer or the runtime: it is no vector
            return None

    def _leave(self, made: Future[bytes | None]) -> None:
        self._places.release()

    def close(self) -> None:
        """Its thread ends with what it is at."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)

    # -- on its thread

    def _vector(self, text: str) -> bytes | None:
        tokens = self._tokenizer.encode(text)
        if not tokens.ids:
            raise UnaskedError
        known = {"input_ids": tokens.ids, "attention_mask": tokens.attention_mask, "token_type_ids": tokens.type_ids}
        given = {name: self._numpy.array([known[name]], dtype=kind) for name, kind in self._inputs.items()}
        (found,) = self._session.run([self._output], given)
        numbers = found[0].astype("float64")
        if numbers.ndim == 2:
            mask = self._numpy.array(tokens.attention_mask, dtype="float64")
            numbers = numbers[0] if self.settings.pooling == "cls" else mask @ numbers / max(mask.sum(), 1.0)
        return unit(numbers.tolist())

    # -- when it is loaded

    def _try(self) -> None:
        """With as many tokens as it will ever get."""
        try:
            vector = self._vector("a " * self.settings.max_tokens)
        except UnaskedError:
            raise _UnusableError("tokenizer", "makes no token of a text; name the tokenizer of the model") from None
        except Exception as exc:
            raise _UnusableError(
                "model",
                f"cannot be run on {self.settings.max_tokens} tokens ({_shown(exc)}); "
                "check that the tokenizer belongs to it, or lower max_tokens",
            ) from exc
        if vector is None:
            raise _UnusableError("model", "makes no vector of a text; name a model of sentences")


def opened(config: Config, before: OnnxModel | None = None) -> OnnxModel | None:
    """The model of cache.semantic.onnx, None where none is named; `before` where nothing of it has changed.

    Raises: ConfigError.
    """
    semantic = config.cache.semantic
    if semantic is None or semantic.onnx is None:
        return None
    settings = semantic.onnx
    if before is not None and before.settings == settings and before.files == files_of(settings):
        return before
    try:
        return OnnxModel(settings)
    except _UnusableError as exc:
        path = ("cache", "semantic", "onnx", *([exc.key] if exc.key else []))
        raise ConfigError([Problem(config.where(*path), spell(path), str(exc))]) from exc


def files_of(settings: Settings) -> Files:
    return signature(settings.model), signature(settings.tokenizer)


def _hash_of(key: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as exc:
        raise _UnusableError(key, f"{path} cannot be read: {reason(exc)}; name a file") from exc


def _libraries() -> tuple[Any, Any, Any]:
    # From 1.29 on it tells its maker of machine and model, and keeps a file of it, unless told not to before it begins.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import numpy
        import onnxruntime  # type: ignore[import-untyped,unused-ignore]
        import tokenizers
    except ImportError as exc:
        raise _UnusableError("", "needs onnxruntime, tokenizers and numpy; install outrider[onnx]") from exc
    onnxruntime.disable_telemetry_events()
    onnxruntime.set_default_logger_severity(_FATAL)
    return numpy, onnxruntime, tokenizers


def _session(runtime: Any, settings: Settings) -> Any:
    """The model with its weights."""
    options = runtime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads, options.inter_op_num_threads = settings.threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # who waits takes no time from the loop
    try:
        return runtime.InferenceSession(str(settings.model), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # the runtime has a class of its own for each code
        raise _UnusableError("model", f"{settings.model} is no ONNX model that can be run ({_shown(exc)})") from exc


def _tokenizer(tokenizers: Any, settings: Settings) -> Any:
    try:
        found = tokenizers.Tokenizer.from_file(str(settings.tokenizer))
    except Exception as exc:  # it raises Exception itself
        raise _UnusableError(
            "tokenizer", f"{settings.tokenizer} is no tokenizer.json ({_shown(exc)}); name that of the model"
        ) from exc
    found.no_padding()
    found.enable_truncation(settings.max_tokens)
    return found


def _inputs(session: Any) -> dict[str, str]:
    """Name -> numpy's name of its type."""
    declared = {one.name: one.type for one in session.get_inputs()}
    other = [name for name, kind in declared.items() if name not in _INPUTS or kind not in _INTEGERS]
    if other or "input_ids" not in declared:
        raise _UnusableError(
            "model",
            f"takes {', '.join(declared) or 'nothing'}, and what can be given are whole numbers as input_ids, "
            "attention_mask and token_type_ids; name a model of sentences",
        )
    return {name: _INTEGERS[kind] for name, kind in declared.items()}


def _output(session: Any) -> str:
    declared = [one.name for one in session.get_outputs()]
    return str(next((name for name in _OUTPUTS if name in declared), declared[0]))


def _shown(exc: Exception) -> str:
    """The first line of what a library says, cut."""
    lines = str(exc).strip().splitlines()
    return (lines[0] if lines else type(exc).__name__)[:_SHOWN_CHARS]


__all__ = ["OnnxModel", "opened"]
