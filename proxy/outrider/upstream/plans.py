"""Which calls are dispatched, and what is known about each: the last body layer before the call is counted and sent.

Rules
- A call has a plan when its model is a name of `models:`, when a rule routes it, or when every call has one
  (resilience.plain_calls). For any other call this layer is one dictionary look-up, and nothing where config has none.
- Only a body that was held whole can be sent twice, so a call without one (or with one beyond the cap) has no plan; its
  alias is then refused, since no provider knows that name.
- What is sent differs from what the app sent in the model's name alone: the bytes around it stay as they are.

Does not know: sockets, timers (lanes.dispatcher), how targets are made (snapshot).
"""

import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from random import random as draw
from typing import TYPE_CHECKING, Any

import orjson

from outrider.dialects.bonds import bonds, may_have_bonds
from outrider.errors import BadRequestError, BodyTooLargeError, BoundElsewhereError, ForbiddenError, SidecarError
from outrider.providers.model import may_be_led
from outrider.stack.call import Call, LayerHook, Route, Taken
from outrider.stack.document import document_of, plain_body
from outrider.upstream.conversations import Conversations
from outrider.upstream.needs import Needs, is_stateful, needs_of
from outrider.upstream.targets import Group, Target
from outrider_ext import http1
from outrider_ext.jsonscan import FieldScan, JsonScanError

if TYPE_CHECKING:
    from outrider.dialects.base import Notes
    from outrider.dialects.canonical import Media
    from outrider.govern.principal import Principal
    from outrider.upstream.fetch import Fetched
    from outrider_ext.relay import Exchange

_ENCODED = http1.mask_of(b"content-encoding")
_BETA = b"anthropic-beta"
_BETAS = http1.mask_of(_BETA)
_MAX_REMEMBERED = 256
_MAX_NAME_CHARS = 256
_MAX_FETCHED = 16
_SHOWN_CHARS = 200
_NOTED_CHARS = 1000
_STATE_WORDS = (b'"previous_response_id"', b'"conversation"', b'"background"', b'"store"', b'"cachedContent"')

type Refusal = Callable[["Exchange", Call, Route, str], SidecarError | None]
type Fetch = Callable[[str], Awaitable["Fetched"]]
# (route the app called, name of `models:`) -> its targets there, and for each that is none the end of a sentence why
type MakeTargets = Callable[[Route, str], Sequence[Target | str]]
type _Find = Callable[[Any], tuple[Group, Sequence[Target | str]]]


class Plan:
    """What is known about the attempts of one call; `call.dispatch`. The driver changes it, nobody else."""

    __slots__ = (
        "answer_lines", "answered", "asked", "betas", "betas_ruled", "body", "body_span", "bond", "conversations",
        "current", "error", "fetched", "group", "hedge_timer", "held_bytes", "joined_bytes", "lender",
        "lent", "needs", "notes", "occupied", "own_path", "parts", "path_query", "probe", "restated", "retries",
        "rival", "rival_connection", "rival_lease", "rival_probe", "rival_ticket", "saw", "sent_ns", "settled", "stale",
        "strip_usage", "targets", "timer", "total_timer", "tries", "used",
    )  # fmt: skip

    def __init__(self, group: Group, targets: list[Target], body: bytes, asked: str | None, needs: Needs) -> None:
        self.group = group
        self.targets = targets
        self.body = body
        self.body_span = (-1, -1)  # of the model's name in the body
        self.answer_lines: bytes | None = None  # of the layers before, for whatever answer goes on
        self.asked = asked
        self.needs = needs
        self.path_query = b""
        self.bond = ""  # the field that binds it to who began its conversation
        self.conversations: Conversations | None = None  # to remember what its answer names
        self.own_path: bytes | None = None  # what rules made of path and query; None as the app asked
        self.fetched: dict[str, Media] = {}  # URL -> the same with its bytes, for targets that take no URL
        self.betas = b""  # what the app's head says of Anthropic's, for who takes them elsewhere
        self.betas_ruled = False  # a rule set or removed them: its word stays as it is
        self.strip_usage = False
        self.tries: dict[str, int] = {}  # by target
        self.retries = 0
        self.current: Target | None = None
        self.probe = False
        self.occupied: Target | None = None  # where it counts as a call in flight
        self.settled = True  # nothing is in flight whose end has to be told to a target's health
        self.sent_ns = 0
        self.stale = False
        self.answered = False  # a byte of an answer may have gone on: nothing is tried again
        self.parts: tuple[bytes, ...] = ()  # the bodies of a call that this target takes as several (stack.fan_out)
        self.joined_bytes = 0  # of their answers
        self.used: Any = None  # by all of them, as the provider told
        self.notes: Notes | None = None  # what was left out or changed between the app's dialect and the target's
        self.restated = False  # the answer in hand says what the provider's said
        self.error: Any = None
        self.held_bytes = 0  # of an answer of which nothing went on yet
        self.saw = b""  # the beginning of an answer, until it is known what it is
        self.timer: Any = None
        self.total_timer: Any = None
        self.hedge_timer: Any = None
        self.lender: Any = None  # stack.loans.Loans, where limits or budgets count by who serves
        self.lent: Target | None = None  # the one that the call has borrowed for
        self.rival_lease: Any = None
        self.rival: Target | None = None
        self.rival_connection: Any = None
        self.rival_probe = False
        self.rival_ticket: Any = None

    @property
    def attempts(self) -> int:
        return sum(self.tries.values())

    def address(self, x: "Exchange", call: Call, target: Target) -> None:
        """What is sent, and where."""
        path, lines = target.path if target.path is not None else self.own_path, None
        call.translation = call.translating = call.spoken_kind = None
        call.answer_lines = self.answer_lines
        call.strip_usage = self.strip_usage
        self.parts, self.notes = (), None
        if target.translator is not None:
            path, lines, body = target.translator.request(call, target, self.body, self.fetched)
        else:
            body = self.body_for(target)
            if path is not None and b"?" not in path:
                path += self._query_for(is_own=target.to is call.route)
        call.to, call.target, call.path, call.lines = target.to, target, path, lines
        call.model = target.model or self.asked
        x.body = body

    def _query_for(self, *, is_own: bool) -> bytes:
        """What the app asked with its path: all of it at its own provider, elsewhere how a stream comes."""
        if self.path_query and is_own:
            return b"?" + self.path_query
        return b"?alt=sse" if b"alt=sse" in self.path_query else b""

    def told(self) -> dict[str, object]:
        """For the log and the audit log: what the app asked for, and who was asked, in that order."""
        told: dict[str, object] = {"targets": list(self.tries)}
        if self.asked is not None:
            told["asked"] = self.asked[:_SHOWN_CHARS]
        if self.notes is not None and self.notes.phrases:
            told["translated"] = self.notes.note[:_NOTED_CHARS]
        return told

    def body_for(self, target: Target) -> bytes:
        """The body with the target's name for the model."""
        start, end = self.body_span
        if target.model is None or (target.in_path and start < 0):
            return self.body
        name = orjson.dumps(target.model)
        if start >= 0:
            return b"%b%b%b" % (self.body[:start], name, self.body[end:])
        at = -end  # where the object's first member may stand
        rest = self.body[at:]
        comma = b"" if rest.lstrip()[:1] == b"}" else b","
        return b'%b"model":%b%b%b' % (self.body[:at], name, comma, rest)


class PlanCalls:
    """The filter. targets_of(route, alias) -> its targets there; routed(route, *call.routed) -> (group, targets).

    plain: the group for calls that name no alias, None where these have no plan. refusal(x, call, to, model): why the
    rules do not let a target serve the call, None where they do. fetch(url): for what targets want as bytes.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        targets_of: MakeTargets,
        routed: Callable[..., tuple[Group, Sequence[Target | str]]],
        plain: tuple[Group, Callable[[Route, str | None], Target]] | None,
        *,
        rules_route: bool,
        cap_bytes: int,
        refusal: "Refusal | None" = None,
        fetch: "Fetch | None" = None,
        conversations: Conversations | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        random: Callable[[], float] = draw,
    ) -> None:
        self._groups = groups
        self._targets_of = targets_of
        self._routed = routed
        self._plain = plain
        self._rules_route = rules_route
        self._refusal = refusal
        self._fetch = fetch
        self._conversations = conversations if conversations is not None else Conversations()
        self._cap_bytes = cap_bytes
        self._clock = clock
        self._random = random
        self._scan = FieldScan((b"model",))
        # Of the route that is being made: two layers ask for it, one after the other.
        self._last: tuple[Route, _Find] | None = None

    def covers(self, route: Route) -> bool:
        """Whether a call of this route may have a plan."""
        if not may_be_led(route.operation, known=route.known, method=route.method):
            return False
        is_asked = route.is_front or bool(self._groups) or self._rules_route
        return is_asked or (self._plain is not None and bool(route.operation.usage))

    def body(self, route: Route) -> LayerHook | None:
        if not self.covers(route):
            return None
        groups, plain = self._groups, self._plain_of(route)
        find = self._finding(route)

        def hook(x: "Exchange", call: Call) -> Awaitable[None] | Taken | None:
            if call.model is None and x.head.mask & _ENCODED and groups:
                self._read_name(x, call)
            key = self._led_by(call)
            if key is None:
                if plain is None:
                    return None
                key = call.model
            if x.body is None:
                if key in groups or isinstance(key, tuple):
                    raise BodyTooLargeError(
                        "the request's body is too large to be sent to one of several targets; "
                        "raise caps.held_body_bytes"
                    )
                return None
            group, found = find(key)
            return self._plan(x, call, group, found)

        return hook

    def standing(self, route: Route) -> Callable[["Exchange", Call], bytes] | None:
        """What rules say of a call before anybody is asked: the targets that they let serve it, None where none is led.

        b"" for a call of the address that the app named. Raises: SidecarError where rules let no target serve it.
        """
        if self._refusal is None or not self.covers(route):
            return None
        find, refusal = self._finding(route), self._refusal

        def targets(x: "Exchange", call: Call) -> bytes:
            key = self._led_by(call)
            if key is None:
                return b""
            allowed = self._allowed(x, call, [one for one in find(key)[1] if isinstance(one, Target)], refusal)
            return orjson.dumps([target.name for target in allowed])

        return targets

    def _led_by(self, call: Call) -> Any:
        """What leads it to other targets than the one that it names: an alias, or a rule's (provider, model, forms)."""
        routed = call.routed
        if routed is not None and (routed[0] is not None or len(routed) > 2):
            return routed
        return call.model if call.model in self._groups else None

    def _plain_of(self, route: Route) -> Any:
        return self._plain if route.operation.usage else None

    def _finding(self, route: Route) -> _Find:
        if self._last is not None and self._last[0] is route:
            return self._last[1]
        known: dict[Any, tuple[Group, Sequence[Target | str]]] = {}
        groups, plain = self._groups, self._plain_of(route)

        def find(key: Any) -> tuple[Group, Sequence[Target | str]]:
            found = known.get(key)
            if found is None:
                if isinstance(key, tuple):
                    found = self._routed(route, *key)
                elif key in groups:
                    found = groups[key], self._targets_of(route, key)
                else:
                    assert plain is not None
                    found = plain[0], (plain[1](route, key),)
                if key is None or len(str(key)) <= _MAX_NAME_CHARS:
                    if len(known) >= _MAX_REMEMBERED:
                        known.clear()
                    known[key] = found
            return found

        self._last = route, find
        return find

    def _read_name(self, x: "Exchange", call: Call) -> None:
        """Of a compressed body, which the scan of its fields passes over."""
        document = document_of(x, call, self._cap_bytes)
        model = document.value.get("model") if document.value is not None else None
        if isinstance(model, str) and model in self._groups:
            call.model = model

    def _unpack(self, x: "Exchange", call: Call) -> None:
        """What a target needs under another name, or in another dialect, is sent plain."""
        document = document_of(x, call, self._cap_bytes)
        if document.encoded and not document.changed and document.value is not None:
            x.body = orjson.dumps(document.change())

    def _plan(
        self, x: "Exchange", call: Call, group: Group, found: Sequence[Target | str]
    ) -> Awaitable[None] | Taken | None:
        targets = [target for target in found if isinstance(target, Target)]
        if not targets:
            raise ForbiddenError(f"{group.name} cannot be served here: {'; '.join(str(why) for why in found)}")
        if self._refusal is not None:
            targets = self._allowed(x, call, targets, self._refusal)
        if x.head.mask & _ENCODED and any(target.model is not None for target in targets):
            self._unpack(x, call)
        assert x.body is not None
        spread = any(target.binding is not call.route.binding for target in targets)
        bond = ""
        if spread and may_have_bonds(x.body):
            targets, bond = self._bound(x, call, group, targets)
        needs = self._needs(x, call, group)
        now_ns = self._clock()
        ordered = group.ordered(targets, needs, call, self._key(x, call, group), now_ns, self._random)
        if not ordered:
            wanted = ", ".join(sorted(needs.has)) or "so long a text"
            raise BadRequestError(f"no target of {group.name} has what this request needs ({wanted})")
        if ordered[0].answer is not None:
            call.target = ordered[0]
            return ordered[0].answer(x, call, plain_body(x, self._cap_bytes))
        ordered = [target for target in ordered if target.answer is None]
        plan = Plan(group, ordered, x.body, call.model, needs)
        if any(target.model is not None for target in ordered):
            plan.body_span = self._span(x.body)
        plan.own_path = call.path
        plan.path_query = (call.path or x.target).partition(b"?")[2]
        if any(target.translator is not None for target in ordered):
            plan.betas, plan.betas_ruled = _betas(x, call)
        plan.strip_usage = call.strip_usage
        plan.bond = bond
        if spread:  # what its answer names is remembered
            plan.conversations, call.plain_answer = self._conversations, True
        plan.answer_lines = call.answer_lines
        call.dispatch = plan
        _begin_with(call, plan)
        return self._fetching(call, plan)

    def _bound(self, x: "Exchange", call: Call, group: Group, targets: list[Target]) -> tuple[list[Target], str]:
        """Those that may go on with the conversation, and the field that binds it, "" for none.

        What nobody knows is the addressed provider's to judge, or the only one's. Raises: BoundElsewhereError.
        """
        value = document_of(x, call, self._cap_bytes).value
        found = bonds(value) if value is not None else []
        if not found:
            return targets, ""
        known = {self._conversations.provider_of(bond[1]): bond[0] for bond in reversed(found)}
        known.pop(None, None)
        if len(known) > 1:
            names = ", ".join(sorted(str(name) for name in known))
            raise BoundElsewhereError(f"the call refers to conversations of several providers ({names})")
        provider = next(iter(known), None)
        field = known[provider] if provider is not None else found[0][0]
        if provider is None:  # who does not speak the app's dialect has begun nothing that it could go on with
            spoken = call.route.operation.dialect
            targets = [target for target in targets if target.to.operation.dialect == spoken] or targets
            if len({target.binding.name for target in targets}) == 1 or targets[0].to.operation.dialect != spoken:
                return targets, field
        kept = [target for target in targets if target.binding.name == (provider or call.route.provider)]
        if not kept and provider is not None:
            raise BoundElsewhereError(
                f"{field} belongs to a conversation that {provider} began, and {group.name} does not lead there"
            )
        if not kept:
            raise BoundElsewhereError(
                f"it is not known which target of {group.name} began the conversation of {field}; "
                f"begin it anew, without {field}"
            )
        return kept, field

    @staticmethod
    def _allowed(x: "Exchange", call: Call, targets: list[Target], refusal: "Refusal") -> list[Target]:
        """Those that the rules let serve it. Raises: the first refusal, where they let none."""
        kept, first = [], None
        for target in targets:
            error = refusal(x, call, target.to, target.model or call.model or "")
            if error is None:
                kept.append(target)
            first = first or error
        if not kept and first is not None:
            call.decision = getattr(first, "rule", call.decision)
            raise first
        return kept

    def _fetching(self, call: Call, plan: Plan) -> Awaitable[None] | None:
        """None where no target has to be given the bytes of what the app named by URL."""
        wanted: dict[str, Media] = {}
        wants: dict[Target, set[str]] = {}
        for target in plan.targets:
            if target.translator is not None:
                named = {
                    media.url or "": media for media in target.translator.remote_media(call, plan.body, target.model)
                }
                wanted |= named
                wants[target] = set(named)
        if not wanted:
            return None
        if len(wanted) > _MAX_FETCHED:
            raise BadRequestError(f"the call names {len(wanted)} files by URL, and {_MAX_FETCHED} can be fetched")
        assert self._fetch is not None
        return self._fetched(call, plan, wanted, wants, self._fetch)

    @staticmethod
    async def _fetched(
        call: Call, plan: Plan, wanted: "dict[str, Media]", wants: dict[Target, set[str]], fetch: "Fetch"
    ) -> None:
        """What could not be had leaves the call to the targets that take its URL. Raises: as fetch, where none does."""
        from outrider.dialects.canonical import Media

        for url, media in wanted.items():
            if not any(url in wants.get(target, ()) for target in plan.targets):
                continue
            try:
                found = await fetch(url)
            except SidecarError:
                plan.targets = [target for target in plan.targets if url not in wants.get(target, ())]
                if not plan.targets:
                    raise
                _begin_with(call, plan)
            else:
                plan.fetched[url] = Media(media.kind, found.mime, b64encode(found.data).decode("ascii"))

    def _needs(self, x: "Exchange", call: Call, group: Group) -> Needs:
        assert x.body is not None
        if group.reads_body:
            value = document_of(x, call, self._cap_bytes).value
            return needs_of(value, len(x.body), call.max_tokens) if value is not None else Needs()
        if group.hedge is None or not any(word in x.body for word in _STATE_WORDS):
            return Needs(max_tokens=call.max_tokens)
        value = document_of(x, call, self._cap_bytes).value
        return Needs(max_tokens=call.max_tokens, stateful=value is None or is_stateful(value))

    def _key(self, x: "Exchange", call: Call, group: Group) -> bytes | None:
        if group.sticky == "principal":
            principal: Principal | None = call.principal
            return principal.id.encode() if principal is not None else b""
        if group.sticky == "conversation":
            value = document_of(x, call, self._cap_bytes).value
            return conversation_key(value) if value is not None else None
        return None

    def _span(self, body: bytes) -> tuple[int, int]:
        """(start, end) of the model's name; (-1, -n) where it has none and byte n is where a member may stand."""
        try:
            self._scan.scan(body)
        except JsonScanError as exc:
            raise BadRequestError(f"the model's name cannot be replaced: {exc}") from exc
        start, end = self._scan.span(0)
        inside = self._scan.inside
        self._scan.clear()
        return (start, end) if start >= 0 else (-1, -inside)


def _begin_with(call: Call, plan: Plan) -> None:
    """What it is counted and priced by, until another one serves it."""
    call.target = plan.targets[0]
    call.model = plan.targets[0].model or plan.asked


def _betas(x: "Exchange", call: Call) -> tuple[bytes, bool]:
    """(Anthropic's betas as the call asks for them, whether a rule says so)."""
    edits = call.head_edits
    if edits is None or not edits.drop & _BETAS:
        return x.head.get_name(_BETA) or b"", False
    lines = [line for line in edits.lines.split(b"\r\n") if line.startswith(_BETA + b":")]
    return lines[0].partition(b":")[2].strip() if lines else b"", True


def conversation_key(document: dict[str, Any]) -> bytes:
    """What stays the same from one turn of a conversation to the next: its name, else its first words."""
    for name in ("prompt_cache_key", "conversation", "session_id"):
        if isinstance(value := document.get(name), str) and value:
            return value.encode("utf-8", "surrogatepass")
    for name in ("messages", "contents", "input"):
        value = document.get(name)
        if isinstance(value, str):
            return blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if isinstance(value, list):
            first: list[Any] = []
            for turn in value[:8]:
                first.append(turn)
                if isinstance(turn, dict) and turn.get("role") == "user":
                    break
            return blake2b(orjson.dumps(first, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
    return b""
