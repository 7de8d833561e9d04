"""A configuration from a file and the environment.

Rules: the first of --config, $OUTRIDER_CONFIG, ./outrider.yaml and the embedded default is the file; variables called
`OUTRIDER__SECTION__KEY` stand over it; every problem is reported at once; nothing is read but the file, the trust list
and the mapping passed in.
The plan: text -> data with lines (document) -> variables laid over it -> types (schema) and relations, both always run,
so that one mistake hides no other.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from outrider.config.document import Document, DocumentError, read_document
from outrider.config.problems import ConfigError, KeyPath, Problem, sentence_for, spell, written
from outrider.config.relations import findings
from outrider.config.schema import EMBEDDED, Config, models_in
from outrider.config.trust import MAX_CONFIG_BYTES, home_of, is_trusted, restricted_keys
from outrider.secrets.files import FileTooLargeError, read_capped, reason

FILE_NAME = "outrider.yaml"
FILE_VARIABLE = "OUTRIDER_CONFIG"
PREFIX = "OUTRIDER__"

# Keys that people reach for by other projects' names.
_SYNONYMS = {
    "api_key": "a key itself never stands in the file; use credential: {env: NAME} or credential: {file: PATH}",
    "apikey": "a key itself never stands in the file; use credential: {env: NAME} or credential: {file: PATH}",
    "key": "a key itself never stands in the file; use credential: {env: NAME} or credential: {file: PATH}",
    "base_url": "use connect_to: (where to dial)",
    "url": "use connect_to: (where to dial)",
    "host": "use hosts: [name]",
}


class _Loader:
    """One loading: collects origins (where each key was set) and problems."""

    def __init__(self, environ: Mapping[str, str], cwd: Path) -> None:
        self.environ = environ
        self.cwd = cwd
        self.path: Path | None = None
        self.only_found = False
        self.content: bytes | None = None
        self.name = EMBEDDED
        self.origins: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []
        self._lines: dict[KeyPath, int] = {}

    def file(self, named: Path | None) -> dict[str, Any]:
        """The chosen file's data; {} for the embedded default. Raises: ConfigError when it cannot be read at all."""
        if named is None and self.environ.get(FILE_VARIABLE):
            named = Path(self.environ[FILE_VARIABLE])
        if named is None:
            self.only_found = (self.cwd / FILE_NAME).exists()
            if not self.only_found:
                return {}
            named = Path(FILE_NAME)
        return self.read(named)

    def read(self, named: Path) -> dict[str, Any]:
        """Raises: ConfigError when it cannot be read at all."""
        self.path, self.name = (self.cwd / named).absolute(), str(named)
        content = self.content = self._content() if self.content is None else self.content
        document = self._document(content)
        self.origins = {path: f"{self.name}:{line}" for path, line in document.lines.items()}
        self._lines = document.lines
        self.problems += document.problems_in(self.name)
        if document.data is not None and not isinstance(document.data, dict):
            raise ConfigError([Problem(f"{self.name}:1", "", "must be sections (key: value), see docs/config.yaml")])
        data = document.data or {}
        if self.only_found and not is_trusted(self.path, content, self.environ):
            self._refuse_restricted(data)
        return data

    def _content(self) -> bytes:
        assert self.path is not None
        try:
            return read_capped(self.path, MAX_CONFIG_BYTES)
        except FileTooLargeError as exc:
            raise ConfigError([Problem(self.name, "", f"is larger than {MAX_CONFIG_BYTES} bytes; shorten it")]) from exc
        except OSError as exc:
            sentence = f"cannot be read: {reason(exc)}; name a file that this user may read"
            raise ConfigError([Problem(self.name, "", sentence)]) from exc

    def _document(self, content: bytes) -> Document:
        try:
            return read_document(content.decode("utf-8-sig"))
        except UnicodeDecodeError as exc:
            line = content.count(b"\n", 0, exc.start) + 1
            raise ConfigError([Problem(f"{self.name}:{line}", "", "is not UTF-8 text; save it as UTF-8")]) from exc
        except DocumentError as exc:
            where = f"{self.name}:{exc.line}" if exc.line else self.name
            raise ConfigError([Problem(where, "", str(exc))]) from exc

    def _refuse_restricted(self, data: dict[str, Any]) -> None:
        for path in restricted_keys(data):
            self.say(
                path,
                "a configuration that was found in the working folder may not set this; read the file, "
                "then run `outrider trust`, or name it with --config",
            )

    def overlay(self, data: dict[str, Any]) -> None:
        """Lay every OUTRIDER__SECTION__KEY over the data, sorted so that the shorter name comes first."""
        for variable in sorted(self.environ):
            if not variable.startswith(PREFIX):
                continue
            steps = variable[len(PREFIX) :].lower().split("__")
            if not all(steps):
                self.problems.append(Problem(f"${variable}", "", f"must be {PREFIX}SECTION__KEY"))
                continue
            self._set(data, variable, steps, _variable_value(self.environ[variable]))

    def _set(self, data: dict[str, Any], variable: str, steps: list[str], value: Any) -> None:
        at: Any = data
        path: KeyPath = ()
        for depth, step in enumerate(steps):
            key = _existing_key(at, step)
            if key is None:
                sentence = "has no such place in the configuration; set the whole list or section instead"
                self.problems.append(Problem(f"${variable}", spell((*path, step)), sentence))
                return
            path = (*path, key)
            if depth == len(steps) - 1:
                at[key] = value
                self._forget_below(path)
                self.origins[path] = f"${variable}"
                return
            if isinstance(at, dict) and at.get(key) is None:
                at[key] = {}
                self.origins[path] = f"${variable}"
            at = at[key]

    def _forget_below(self, path: KeyPath) -> None:
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]

    def say(self, path: KeyPath, sentence: str) -> None:
        self.problems.append(Problem(self.where(path), spell(path), sentence))

    def where(self, path: KeyPath) -> str:
        for end in range(len(path), 0, -1):
            if (found := self.origins.get(path[:end])) is not None:
                return found
        return self.name

    def check(self, data: dict[str, Any]) -> Config:
        """Types and relations. Raises: ConfigError with everything collected so far."""
        folder = self.path.parent if self.path else self.cwd
        context = {"folder": folder, "home": home_of(self.environ)}
        config: Config | None = None
        # Given an explicit section, pydantic passes the context (the home folder) on to its defaults.
        whole = {**data, "ca": {} if data.get("ca") is None else data["ca"]}
        try:
            config = Config.model_validate(whole, context=context)
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
            for error in errors:
                if not _follows(error, errors):
                    self._say_error(error, data)
        told = {problem.key for problem in self.problems}
        for path, sentence in findings(data):
            if spell(path) not in told:
                self.say(path, sentence)
        if self.problems or config is None:
            raise ConfigError(sorted(self.problems, key=_file_order))
        config._path = self.path
        config._only_found = self.only_found
        config._content = self.content or b""
        config._origins = {path: where for path, where in self.origins.items() if path}
        return config

    def _say_error(self, error: Any, data: Any) -> None:
        path = written(tuple(step for step in error["loc"] if step != "[key]"), data)
        beside = _keys_at(Config, path[:-1])
        last = path[-1] if path else ""
        if error["type"] == "extra_forbidden" and isinstance(last, str) and last.lower() in _SYNONYMS:
            self.say(path, f"unknown key; {_SYNONYMS[last.lower()]}")
            return
        self.say(path, sentence_for(error, beside))


def _follows(error: Any, errors: Sequence[Any]) -> bool:
    """Whether it only says that a list is short of the entries whose own errors are reported."""
    where = error["loc"]
    return error["type"] == "too_short" and any(other["loc"][:-1] == where for other in errors)


def _file_order(problem: Problem) -> tuple[str, int]:
    name, _, line = problem.where.rpartition(":")
    return (name, int(line)) if name and line.isdigit() else (problem.where, 0)


def _variable_value(text: str) -> Any:
    """A variable's value read as YAML; text that is not YAML ("[::1]:8484") is the text itself."""
    try:
        document = read_document(text)
    except DocumentError:
        return text
    return text if document.problems else document.data


def _existing_key(at: Any, step: str) -> str | int | None:
    """The key that a variable's word means here (variables have neither '-' nor case); None: no place for it."""
    if isinstance(at, list):
        return int(step) if re.fullmatch(r"[0-9]{1,4}", step) and int(step) < len(at) else None
    if not isinstance(at, dict):
        return None
    return next((key for key in at if key.lower().replace("-", "_") == step), step)


def _keys_at(model: type[BaseModel], path: KeyPath) -> list[str]:
    """The keys that the schema knows under a path; [] where it has no fixed ones."""
    found: type[BaseModel] | None = model
    for step in path:
        if found is not None and step in found.model_fields:
            annotation = found.model_fields[str(step)].annotation
            found = next(models_in(annotation), None)
        # Else the step is a list's index or a provider's name: the model of the entries is already found.
    return list(found.model_fields) if found else []


def located(config: Config, sentences: Iterable[str]) -> ConfigError:
    """Problems found above this package ("providers.x.hosts: sentence") as a ConfigError that says where they stand."""
    problems = []
    for sentence in sentences:
        key, _, rest = sentence.partition(": ")
        first, *steps = key.split(".")
        # A place in a list; a provider's name may be of digits too, and is none.
        path = (first, *(int(step) if step.isdecimal() and first != "providers" else step for step in steps))
        problems.append(Problem(config.where(*path), spell(path), rest.removesuffix(".")))
    return ConfigError(problems)


def load(path: Path | None, environ: Mapping[str, str], cwd: Path | None = None) -> Config:
    """The configuration that `path` (--config), the environment and the working folder give.

    Raises: ConfigError (a StartError, exit 2) with every problem, a line each.
    """
    loader = _Loader(environ, cwd or Path.cwd())
    data = loader.file(path)
    loader.overlay(data)
    return loader.check(data)


def load_content(
    path: Path | None,
    content: bytes,
    environ: Mapping[str, str],
    *,
    only_found: bool = False,
    files: Mapping[str, bytes] | None = None,
) -> Config:
    """The configuration that this content of the file gives, wherever the file has got to since; path None: no file.

    files: of those that it names, what was read. Raises: ConfigError.
    """
    loader = _Loader(environ, path.parent if path is not None else Path.cwd())
    loader.content, loader.only_found = content, only_found
    data = loader.read(path) if path is not None else {}
    loader.overlay(data)
    config = loader.check(data)
    config._files = files or {}
    return config


def load_again(config: Config, environ: Mapping[str, str]) -> Config:
    """The configuration's file as it is now. One that was only found is no more trusted for having been loaded once.

    Raises: ConfigError, also when the file is gone.
    """
    if config.only_found and config.path is not None and config.path.exists():
        return load(None, environ, config.path.parent)
    return load(config.path, environ)
