"""Google's access tokens, for Vertex: of a service account, a login, a workload identity or the metadata server.

Rules: google-auth finds and renews the credential, in a thread; a token is renewed well before its end, by one caller
at a time (whoever calls refresh()); an expired one is never handed out; nothing of the environment's proxies is used,
since the sidecar may be one of them: only `upstream.proxy`.
Does not know: providers, hosts, headers.
Source: google.auth (ADC), cloud.google.com/docs/authentication/application-default-credentials.
"""

import importlib
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outrider.secrets.secret import Secret
from outrider.secrets.slow import SlowSource

if TYPE_CHECKING:
    from outrider.config.values import ProxyUrl

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
DEFAULT = "default"  # instead of a file: Application Default Credentials
RENEW_BEFORE = timedelta(minutes=10)
TIMEOUT_S = 10.0
_MAKERS = {  # what a credential file says it is -> (module of google-auth, method of its Credentials)
    "service_account": ("google.oauth2.service_account", "from_service_account_file"),
    "authorized_user": ("google.oauth2.credentials", "from_authorized_user_file"),
    "external_account": ("google.auth.identity_pool", "from_file"),
}


class GoogleSource(SlowSource[Secret]):
    """`name`: the path of a credential file, or "default". refresh() may use the network: call it in a thread.

    context() -> the TLS context for Google's token endpoint. proxy: an HTTP proxy to go through, or None.
    """

    def __init__(
        self,
        name: str,
        *,
        context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
        proxy: "ProxyUrl | None" = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(f"Google credential {name}", "token", now)
        self._name = name
        self._context = context
        self._proxy = proxy
        self._request: Any = None
        self._credential: Any = None

    def refresh(self) -> str | None:
        if self._expires_at is not None and self._expires_at - self._now() > RENEW_BEFORE:
            return None
        try:
            if self._request is None:
                self._request = _transport(self._context(), self._proxy)
            if self._credential is None:
                self._credential = _load(self._name, self._request)
            self._credential.refresh(self._request)
            self._request.session.close()  # an hour without a call: nothing is kept open meanwhile
            fresh = Secret.from_text(self._credential.token.encode("utf-8"))
            expiry: datetime | None = self._credential.expiry  # naive, in UTC
        except ImportError:
            return self._trouble("a Google credential needs google-auth; install outrider[google]")
        except Exception as exc:  # google-auth raises errors of every library below it; their texts may quote a key
            self._credential = None
            return self._trouble(f"{self._what} gave no token ({type(exc).__name__}); correct it")
        self._took(fresh, expiry.replace(tzinfo=UTC) if expiry is not None else None)
        return None

    def describe(self) -> str:
        return f"google {self._name}"


def _load(name: str, request: Any) -> Any:
    """Raises: ImportError, and errors of google-auth."""
    if name == DEFAULT:
        return importlib.import_module("google.auth").default(scopes=[SCOPE], request=request)[0]
    kind = json.loads(Path(name).read_bytes()).get("type")
    module, maker = _MAKERS[kind]  # one by one: what a file may make google-auth fetch or run is what its kind says
    return getattr(importlib.import_module(module).Credentials, maker)(name, scopes=[SCOPE])


def _transport(context: ssl.SSLContext, proxy: "ProxyUrl | None") -> Any:
    """google-auth's request object, over our roots and our proxy, with a deadline of ours (its own is two minutes)."""
    requests: Any = importlib.import_module("requests")
    transport: Any = importlib.import_module("google.auth.transport.requests")

    class Adapter(requests.adapters.HTTPAdapter):  # type: ignore[misc]  # an untyped base
        def init_poolmanager(self, *args: Any, **more: Any) -> Any:
            return super().init_poolmanager(*args, ssl_context=context, **more)

        def proxy_manager_for(self, *args: Any, **more: Any) -> Any:
            return super().proxy_manager_for(*args, ssl_context=context, **more)

        def proxy_headers(self, url: str) -> dict[str, str]:
            if proxy is None or proxy.authorization is None:
                return {}
            return {"Proxy-Authorization": proxy.authorization.expose().decode("ascii")}

    class Request(transport.Request):  # type: ignore[misc]  # an untyped base
        def __call__(self, *args: Any, timeout: float = TIMEOUT_S, **more: Any) -> Any:
            return super().__call__(*args, timeout=min(timeout, TIMEOUT_S), allow_redirects=False, **more)

    session = requests.Session()
    session.trust_env = False
    session.mount("https://", Adapter())
    if proxy is not None:
        session.proxies = {"https": proxy.origin}
    return Request(session)
