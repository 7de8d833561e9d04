"""Where a credential comes from: an environment variable, a watched file, the AWS SDK's chain or Google's.

Rules: `current()` is immediate (no I/O) and hands out the same object until the credential changes; `refresh()` does
the I/O and is called by a watcher, about once a second for files and once a minute, in a thread, for AWS and Google,
which may use the network; a file that cannot be read after a good read leaves the last known good credential in
place, with a warning; an expired one is never handed out.
Does not know: providers, hosts, headers.
"""

import importlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from outrider.errors import CredentialUnavailableError
from outrider.secrets.files import Signature, read_capped, reason, signature
from outrider.secrets.google import GoogleSource
from outrider.secrets.secret import Secret
from outrider.secrets.slow import SlowSource
from outrider_ext.layers import Held

if TYPE_CHECKING:
    from outrider.config.values import ProxyUrl

MAX_SECRET_BYTES = 16384
AWS_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@dataclass(frozen=True, slots=True)
class AwsCredentials:
    """What SigV4 signs with. `access_key` is an identifier (it travels in the clear), yet kept out of reprs."""

    access_key: str = field(repr=False)
    secret: Secret
    token: Secret | None = None


class CredentialSource[C](Protocol):
    """A credential that may change while we run: C is Secret or AwsCredentials.

    current()   the credential now; raises CredentialUnavailableError with a sentence without the value
    generation  grows with every change, from 0 (never had one)
    refresh()   look again; returns a sentence to warn with, once per trouble, or None. May block. Raises nothing.
    describe()  for people: "env OPENAI_API_KEY"
    """

    @property
    def generation(self) -> int: ...
    def current(self) -> C: ...
    def refresh(self) -> str | None: ...
    def describe(self) -> str: ...


class EnvSource:
    """An environment variable, read once from the mapping passed in: a process's environment does not change."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self._name = name
        self.held = Held()  # for who asks at every request
        self._secret: Secret | None = None
        self._problem = f"environment variable {name} is not set; set it and restart"
        raw = environ.get(name)
        if raw is None:
            return
        try:
            self._secret = self.held.value = Secret.from_text(raw.encode("utf-8", "surrogateescape"))
        except ValueError as exc:
            self._problem = f"environment variable {name} {exc}"

    @property
    def generation(self) -> int:
        return 0 if self._secret is None else 1

    def current(self) -> Secret:
        """Raises: CredentialUnavailableError when the variable is unset, empty or not one printable line."""
        if self._secret is None:
            raise CredentialUnavailableError(self._problem)
        return self._secret

    def refresh(self) -> str | None:
        return None

    def describe(self) -> str:
        return f"env {self._name}"


class EnvAwsSource:
    """AWS access keys in the variables where every AWS SDK looks: `credential: {env: AWS_ACCESS_KEY_ID}`."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._key_id, self._secret, self._token = (EnvSource(name, environ) for name in AWS_VARIABLES)
        self._has_token = bool(environ.get(AWS_VARIABLES[2]))
        self._credentials: AwsCredentials | None = None

    @property
    def generation(self) -> int:
        return min(self._key_id.generation, self._secret.generation)

    def current(self) -> AwsCredentials:
        """Raises: CredentialUnavailableError when one of the pair is unset, empty or not one printable line."""
        if self._credentials is None:
            self._credentials = AwsCredentials(
                self._key_id.current().expose().decode("ascii"),
                self._secret.current(),
                self._token.current() if self._has_token else None,
            )
        return self._credentials

    def refresh(self) -> str | None:
        return None

    def describe(self) -> str:
        return f"env {AWS_VARIABLES[0]}"


class FileSource:
    """A file with the secret as its one line, read again when it changes (edited, renamed over, `..data` swapped)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.held = Held()
        self._secret: Secret | None = None
        self._signature: Signature | None = None
        self._problem = f"credential file {path} has not been read yet"
        self._warned = ""
        self.generation = 0
        self.refresh()

    def current(self) -> Secret:
        """Raises: CredentialUnavailableError when no read has ever succeeded."""
        if self._secret is None:
            raise CredentialUnavailableError(self._problem)
        return self._secret

    def refresh(self) -> str | None:
        before = signature(self._path)
        if before is not None and before == self._signature:
            return None
        try:
            raw = read_capped(self._path, MAX_SECRET_BYTES)
            secret = Secret.from_text(raw)
        except OSError as exc:
            return self._trouble(f"cannot be read: {reason(exc)}")
        except ValueError as exc:
            return self._trouble(str(exc))
        # The signature from before the read: what changes meanwhile is seen as a change next time.
        self._signature, self._warned = before, ""
        if secret != self._secret:
            self._secret = self.held.value = secret
            self.generation += 1
        return None

    def _trouble(self, what: str) -> str | None:
        keeps = "; the last good one stays in use" if self._secret else "; put the key there, readable by this user"
        self._problem = f"credential file {self._path} {what}{keeps}"
        if self._problem == self._warned:
            return None
        self._warned = self._problem
        return self._problem

    def describe(self) -> str:
        return f"file {self._path}"


class AwsSource(SlowSource[AwsCredentials]):
    """A profile of the AWS SDK's chain (static keys, SSO, assumed roles, instance metadata), through botocore.

    refresh() may use the network: call it in a thread. botocore itself renews a credential 10–15 minutes before its
    end, so once a minute is often enough.
    """

    def __init__(
        self,
        profile: str,
        *,
        session: Callable[[str], Any] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(f"AWS profile {profile}", "credential", now)
        self._profile = profile
        self._session = session or _botocore_session
        self._chain: Any = None

    def refresh(self) -> str | None:
        try:
            if self._chain is None:
                self._chain = self._session(self._profile).get_credentials()
            if self._chain is None:
                return self._trouble(f"{self._what} has no credential; add one or name another profile")
            frozen = self._chain.get_frozen_credentials()
            fresh = _aws_credentials(frozen)
        except ImportError:
            return self._trouble("credentials of an AWS profile need botocore; install outrider[aws]")
        except ValueError:
            return self._trouble(f"{self._what} has a value that is not one printable line; correct it")
        except Exception as exc:  # botocore's chain raises errors of every library below it
            self._chain = None
            return self._trouble(f"{self._what} gave no credential ({type(exc).__name__}); correct it")
        self._took(fresh, getattr(self._chain, "_expiry_time", None))  # only refreshable credentials have one
        return None

    def describe(self) -> str:
        return f"aws profile {self._profile}"


def _botocore_session(profile: str) -> Any:
    return importlib.import_module("botocore.session").Session(profile=profile)  # heavy, an extra, and untyped


def _aws_credentials(frozen: Any) -> AwsCredentials:
    return AwsCredentials(
        access_key=str(frozen.access_key),
        secret=Secret.from_text(frozen.secret_key.encode("utf-8")),
        token=Secret.from_text(frozen.token.encode("utf-8")) if frozen.token else None,
    )


class CredentialSettings(Protocol):
    """The `credential:` key of a provider: exactly one of the four is set."""

    @property
    def env(self) -> str | None: ...
    @property
    def file(self) -> Path | None: ...
    @property
    def aws(self) -> str | None: ...
    @property
    def google(self) -> str | None: ...


Source = EnvSource | EnvAwsSource | FileSource | AwsSource | GoogleSource


def source_for(
    settings: CredentialSettings,
    environ: Mapping[str, str],
    *,
    context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    proxy: "ProxyUrl | None" = None,
) -> Source:
    """The source that a `credential:` key names; files are read at once, AWS and Google at their first refresh().

    context, proxy: how Google's token endpoint is reached. `env: AWS_ACCESS_KEY_ID` stands for the pair (and the
    session token, where there is one).
    """
    if settings.env == AWS_VARIABLES[0]:
        return EnvAwsSource(environ)
    if settings.env is not None:
        return EnvSource(settings.env, environ)
    if settings.file is not None:
        return FileSource(settings.file)
    if settings.google is not None:
        return GoogleSource(settings.google, context=context, proxy=proxy)
    assert settings.aws is not None
    return AwsSource(settings.aws)


def variables_of(settings: CredentialSettings) -> tuple[str, ...]:
    """The environment variables that hold the credential itself; () for files and profiles."""
    if settings.env == AWS_VARIABLES[0]:
        return AWS_VARIABLES
    return () if settings.env is None else (settings.env,)
