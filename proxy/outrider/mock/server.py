"""The provider emulator as a server: plain HTTP and TLS on one event loop, a journal, behaviours on demand.

    async with MockProvider(keys={"openai": "sk-real"}) as mock:
        client = openai.OpenAI(base_url=f"{mock.http_url}/v1", api_key="sk-real")

Plan of a request: journal its head, read its body, find the provider (`route.py`), let its module say what to answer
(a value), let `writer.py` put that on the socket under the behaviour that applies.
A key in `keys` is the only one that is accepted for its provider (several: a list); a provider without one takes any
key in the right slot, but never none. Bedrock's is `ACCESS_KEY_ID:SECRET` for signatures, any other text is a bearer.
Under `/__mock__/`: `GET|DELETE journal`, `POST next` (a Behaviour as JSON, with `times` and `path`), `POST release`.
"""

import asyncio
import datetime
import functools
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from . import anthropic, bedrock, cohere, gemini, ollama, openai, realtime, replicate, route, tls
from .behaviour import NOTHING, Behaviour, from_headers, from_json
from .journal import Journal, Journalled
from .reply import Call, Refusal, Stream, Whole, dump
from .writer import Stalls, Writer

_MODULES: Mapping[str, ModuleType] = {
    "anthropic": anthropic,
    "gemini": gemini,
    "vertex": gemini,
    "bedrock": bedrock,
    "ollama": ollama,
    "cohere": cohere,
    "replicate": replicate,
}
_CONTROL = "/__mock__/"
_MAX_HEAD_BYTES = 256 * 1024


class _Connection(web.RequestHandler):
    """aiohttp's connection, counted, and with what arrived kept if the mock captures."""

    mock: "MockProvider"
    connection_id: int

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.connection_id = self.mock._connected(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self.mock._disconnected(self)

    def data_received(self, data: bytes) -> None:
        if self.mock.captured is not None and data:
            self.mock.captured.setdefault(self.connection_id, bytearray()).extend(data)
        super().data_received(data)


class _Server(web.Server):
    def __init__(self, mock: "MockProvider", handler: Callable[[web.BaseRequest], Any]) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._mock = mock

    def __call__(self) -> _Connection:
        connection = _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            auto_decompress=False,
            lingering_time=1.0,
            max_line_size=_MAX_HEAD_BYTES,
            max_field_size=_MAX_HEAD_BYTES,
            max_headers=1000,
        )
        connection.mock = self._mock
        return connection


class MockProvider:
    """A provider emulator on `host`, plain on `port` and, unless `tls` is False, TLS on `tls_port` (0: any free port).

    An async context manager for the running loop, and a plain one that runs itself in a thread.
    http_url, https_url  "http://127.0.0.1:PORT"; http_port, https_port; ca_file: the CA to trust for https
    journal              every request, oldest first (control requests excluded); safe from any thread
    captured             with capture=True: connection id -> every byte that came (after TLS), malformed heads included
    connections, connections_total    open now, and ever
    stalled              answers that wait for `release()`
    Raises on start: OSError when a port, the TLS folder or the journal file cannot be had.
    """

    def __init__(
        self,
        *,
        keys: Mapping[str, str | Iterable[str]] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: bool = True,
        tls_port: int = 0,
        tls_dir: Path | None = None,
        names: Iterable[str] = (),
        certificate: str = "good",
        behaviour: Behaviour = NOTHING,
        journal_file: Path | None = None,
        capture: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = {
            name: (given,) if isinstance(given, str) else tuple(given) for name, given in (keys or {}).items()
        }
        self._host, self._ports = host, (port, tls_port if tls else None)
        self._tls_dir, self._names, self._certificate = (
            tls_dir,
            (*route.CERTIFICATE_NAMES, "127.0.0.1", "::1"),
            certificate,
        )
        self._names += tuple(names)
        self._defaults, self._journal_file, self._clock = behaviour, journal_file, clock
        self.journal = Journal()
        self.captured: dict[int, bytearray] | None = {} if capture else None
        self.connections_total = 0
        self.http_port = self.https_port = 0
        self._open: set[_Connection] = set()
        self._queue: list[tuple[Behaviour, int, str]] = []
        self._changed = threading.Condition()
        self._futures: set[asyncio.Future[None]] = set()
        self._stalls = Stalls(self._notify)
        self._servers: list[asyncio.Server] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # --- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen. Raises: OSError."""
        self._loop = loop = asyncio.get_running_loop()
        if self._journal_file is not None:
            await asyncio.to_thread(self._journal_file.touch)
        self._web = _Server(self, self._handle)
        port, tls_port = self._ports
        try:
            plain = await loop.create_server(self._web, self._host, port)
            self._servers.append(plain)
            self.http_port = plain.sockets[0].getsockname()[1]
            if tls_port is not None:
                context = await asyncio.to_thread(self._tls_context)
                secure = await loop.create_server(self._web, self._host, tls_port, ssl=context)
                self._servers.append(secure)
                self.https_port = secure.sockets[0].getsockname()[1]
        except OSError:
            await self.close()
            raise

    def _tls_context(self) -> Any:
        tls.ensure(self.tls_dir, self._names, datetime.datetime.now(datetime.UTC), self._certificate)
        return tls.server_context(self.tls_dir)

    async def close(self) -> None:
        """Stop listening and end every connection, stalled answers too."""
        for server in self._servers:
            server.close()
        self._stalls.release()
        for connection in list(self._open):
            if connection.transport is not None:
                connection.transport.abort()
        await self._web.shutdown(0.5)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> Self:
        """Run in a thread of its own, for callers that block."""
        started: list[BaseException | None] = []
        ready = threading.Event()
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(started, ready),), name="outrider-mock", daemon=True
        )
        self._thread.start()
        ready.wait()
        if started[0] is not None:
            self._thread.join()
            raise started[0]
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self, started: list[BaseException | None], ready: threading.Event) -> None:
        self._stop = asyncio.Event()
        try:
            await self.start()
        except BaseException as exc:  # handed to the thread that waits
            started.append(exc)
            ready.set()
            return
        started.append(None)
        ready.set()
        await self._stop.wait()
        await self.close()

    # --- what tests read and ask ------------------------------------------------------------------------------------

    @property
    def http_url(self) -> str:
        return f"http://{_bracketed(self._host)}:{self.http_port}"

    @property
    def https_url(self) -> str:
        return f"https://{_bracketed(self._host)}:{self.https_port}"

    @property
    def tls_dir(self) -> Path:
        if self._tls_dir is None and self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="outrider-mock-")
        return self._tls_dir or Path(self._temporary.name if self._temporary else "")

    @property
    def ca_file(self) -> Path:
        return self.tls_dir / "ca.pem"

    @property
    def connections(self) -> int:
        return len(self._open)

    @property
    def stalled(self) -> int:
        return len(self._stalls)

    def next(self, behaviour: Behaviour = NOTHING, *, times: int = 1, path: str = "", **fields: Any) -> None:
        """Queue a behaviour for the next `times` requests whose target contains `path`; fields as in `Behaviour`."""
        with self._changed:
            self._queue.append((Behaviour(**fields).over(behaviour), times, path))

    def fail(self, status: int, *, headers: Mapping[str, str] | None = None, times: int = 1, path: str = "") -> None:
        """Answer the next `times` requests with this status, in their provider's error shape."""
        self.next(status=status, headers=headers, times=times, path=path)

    def release(self) -> None:
        """Let every stalled answer go on. Safe from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stalls.release)

    async def until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """Wait on the mock's own loop until `condition()`, asked whenever something happened. Raises: TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                future = asyncio.get_running_loop().create_future()
                self._futures.add(future)
                try:
                    await future
                finally:
                    self._futures.discard(future)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
        """`until` for another thread. Raises: TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, timeout_s):
                raise TimeoutError(f"not true within {timeout_s} s")

    def _notify(self) -> None:
        for future in self._futures:
            if not future.done():
                future.set_result(None)
        with self._changed:
            self._changed.notify_all()

    def _connected(self, connection: _Connection) -> int:
        self._open.add(connection)
        self.connections_total += 1
        self._notify()
        return self.connections_total

    def _disconnected(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self._notify()

    # --- one request ------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        entry = self._entry(request)
        if entry.target.startswith(_CONTROL):
            return await self._control(request, entry)
        self.journal.add(entry)
        self._notify()
        try:
            return await self._answer(request, entry)
        except (asyncio.CancelledError, ConnectionError, web.RequestPayloadError):
            entry.disconnected = not entry.completed
            raise
        finally:
            await self._written_down(entry)
            self._notify()

    def _entry(self, request: web.BaseRequest) -> Journalled:
        transport, connection = request.transport, request.protocol
        assert isinstance(connection, _Connection)
        secure = transport.get_extra_info("ssl_object") if transport is not None else None
        peer = transport.get_extra_info("peername") if transport is not None else None
        return Journalled(
            method=request.method,
            target=request.raw_path,
            version=f"HTTP/{request.version.major}.{request.version.minor}",
            headers=list(request.raw_headers),
            at_s=self._clock(),
            peer_port=peer[1] if peer else 0,
            tls_sni=getattr(secure, "mock_sni", None),
            connection_id=connection.connection_id,
        )

    async def _written_down(self, entry: Journalled) -> None:
        if self._journal_file is not None:
            line = orjson.dumps(entry.to_json()) + b"\n"
            await asyncio.shield(asyncio.to_thread(functools.partial(_append, self._journal_file, line)))

    async def _answer(self, request: web.BaseRequest, entry: Journalled) -> web.StreamResponse:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in reversed(entry.headers)}
        try:
            how = from_headers(headers).over(self._queued(entry.target)).over(self._defaults)
        except ValueError as exc:
            return await Writer(request, entry, NOTHING, self._stalls).send(Whole(dump({"mock": str(exc)}), 400))
        if not how.early:
            await _read_body(request, entry, headers)
        call = self._call(entry, headers, how)
        entry.provider = call.provider
        if headers.get("upgrade", "").lower() == "websocket" and how.status is None:
            return await realtime.serve(request, call, entry, self._notify)
        return await Writer(request, entry, how, self._stalls).send(reply_to(call))

    def _queued(self, target: str) -> Behaviour:
        with self._changed:
            for i, (behaviour, times, path) in enumerate(self._queue):
                if path in target:
                    self._queue[i : i + 1] = [(behaviour, times - 1, path)] if times > 1 else []
                    return behaviour
        return NOTHING

    def _call(self, entry: Journalled, headers: Mapping[str, str], how: Behaviour) -> Call:
        target = entry.target
        if not target.startswith("/") and "://" in target:  # absolute form
            target = "/" + target.split("://", 1)[1].partition("/")[2]
        path, _, query = target.partition("?")
        host = headers.get("host", "")
        found = route.find(host, path)
        return Call(
            provider=found.provider,
            method=entry.method,
            target=target,
            path=path,
            operation=found.operation,
            query=dict(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            raw_headers=tuple(entry.headers),
            body=entry.body,
            host=host,
            official=found.official,
            now_s=int(self._clock()),
            keys=self._keys.get(found.provider, ()),
            behaviour=how,
        )

    async def _control(self, request: web.BaseRequest, entry: Journalled) -> web.StreamResponse:
        await _read_body(request, entry, {})
        reply = self._controlled(entry.method, entry.target.removeprefix(_CONTROL).partition("?")[0], entry.body)
        return await Writer(request, entry, NOTHING, self._stalls).send(reply)

    def _controlled(self, method: str, name: str, body: bytes) -> Whole:
        match method, name:
            case "GET", "journal":
                return Whole(dump([entry.to_json() for entry in self.journal]))
            case "DELETE", "journal":
                self.journal.clear()
                return Whole(b"", 204)
            case "POST", "release":
                self.release()
                return Whole(b"", 204)
            case "POST", "next":
                try:
                    fields = dict(orjson.loads(body))
                    times, path = int(fields.pop("times", 1)), str(fields.pop("path", ""))
                    self.next(from_json(fields), times=times, path=path)
                except (ValueError, TypeError) as exc:
                    return Whole(dump({"mock": str(exc)}), 400)
                return Whole(b"", 204)
        return Whole(dump({"mock": f"no such control: {method} {_CONTROL}{name}"}), 404)


async def _read_body(request: web.BaseRequest, entry: Journalled, headers: Mapping[str, str]) -> None:
    transport = request.transport
    if headers.get("expect", "").lower() == "100-continue" and transport is not None:
        transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts: list[bytes] = []
    try:
        while part := await request.content.readany():
            parts.append(part)
    finally:  # a body cut short is told as far as it came
        entry.body = b"".join(parts)
    entry.body_complete = True


def reply_to(call: Call) -> Whole | Stream:
    """What the provider says to this call, under its behaviour: pure, so that a test needs no socket."""
    module, how = _MODULES.get(call.provider, openai), call.behaviour
    if route.speaks_openai(call.provider, call.path):
        module = openai
    elif "/publishers/anthropic/" in call.path:
        module = anthropic  # whose errors Vertex passes on
    if how.body is not None:
        return Whole(how.body, how.status or 200)
    reply: Whole | Stream
    try:
        if how.status is not None:
            raise Refusal(how.status, _MESSAGES.get(how.status, f"The mock was asked to answer {how.status}."))
        reply = module.answer(call)
    except Refusal as refusal:
        reply = module.refuse(refusal, call)
    return reply


_MESSAGES = {
    401: "Invalid credentials.",
    403: "Permission denied.",
    404: "Not found.",
    413: "Request too large.",
    429: "Rate limit reached for requests.",
    500: "The server had an error while processing your request. Sorry about that!",
    503: "The server is overloaded or not ready yet.",
    529: "Overloaded",
}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)
