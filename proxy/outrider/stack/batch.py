"""Embedding calls that several tasks of one caller make at the same time, sent to the provider as one.

Rules
- Only calls that differ in nothing but their inputs join: the same caller, route, fields of the head (the app's own key
  among them) and members of the body. Each has passed every layer before, and borrowed for itself.
- The call that is sent belongs to nobody: whoever leaves, leaves alone, and when all have left it is cancelled. Its
  answer is split in the order of the inputs; what it used is divided by what each call's inputs are estimated at, and
  the shares add up to exactly what the provider counted.
- An answer that is not good, or does not have one vector for each input, is given to nobody: each call is made alone.
- A first call waits `wait_ms` for others, or until the caps are reached; both bound what is held.
Does not know: what vectors are.

Shape: OpenAI's embeddings, which most compatible providers have.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from outrider.config.schema import Batch as Settings
from outrider.stack.cache import kept_lines
from outrider.stack.call import Call, LayerHook, Parked, Route, Taken
from outrider.stack.likeness import Likeness
from outrider.stack.replay import Whole
from outrider_ext import http1
from outrider_ext.jsonkeys import has_repeated_key

if TYPE_CHECKING:
    from outrider.telemetry.metrics import Metrics
    from outrider_ext.relay import Exchange

_ENCODED: Final = http1.mask_of(b"content-encoding")
_DIALECT: Final = "openai.embeddings"
ANSWER_BYTES_PER_INPUT: Final = 262_144  # of vectors of 4,096 numbers as text there is room for three


@dataclass(slots=True)
class Group:
    """Calls that wait for the same moment, or for the same answer. size_bytes: of their bodies."""

    key: tuple[Any, ...]
    rest: dict[str, Any]
    members: "list[Member]" = field(default_factory=list)
    inputs: int = 0
    size_bytes: int = 0
    timer: Any = None
    sent: "tuple[Exchange, Call] | None" = None
    asked: "list[Member]" = field(default_factory=list)  # in the order of their inputs, who left too
    pieces: list[bytes] = field(default_factory=list)
    answer_bytes: int = 0
    lines: bytes | None = None  # of the good answer's head


class Member(Parked):
    """A call whose inputs go with others'."""

    def __init__(self, batch: "Batch", group: Group, x: "Exchange", call: Call, inputs: list[Any]) -> None:
        super().__init__(x, call)
        self.batch, self.group, self.inputs = batch, group, inputs

    def arrived(self) -> None:
        self.batch.joined(self)

    def cancel(self) -> None:
        self.batch.left(self)


class Batch:
    """The filter."""

    def __init__(self, settings: Settings, metrics: "Metrics") -> None:
        self._settings = settings
        self._count = metrics.count
        self._waiting: dict[tuple[Any, ...], Group] = {}
        self._sent: dict[Call, Group] = {}

    # -- the request

    def body(self, route: Route) -> LayerHook | None:
        if not _covers(route):
            return None
        likeness = Likeness(route)

        def hook(x: "Exchange", call: Call) -> Taken | None:
            body = x.body
            if (
                not body
                or x.head.mask & _ENCODED
                or call.redacting is not None
                or call.dispatch is not None  # each goes to a target of its own
                or len(body) > self._settings.bytes // 2
            ):
                return None
            asked = read(body)
            if asked is None or len(asked[1]) >= self._settings.inputs:
                return None
            rest, inputs = asked
            alike = orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)
            head = likeness.of(x.head), call.head_edits.canonical() if call.head_edits is not None else b""
            key = (route, call.principal, call.path or x.target, head, type(inputs[0]), alike)
            return Member(self, self._group(key, rest, len(inputs), len(body)), x, call, inputs)

        return hook

    def _group(self, key: tuple[Any, ...], rest: dict[str, Any], inputs: int, size_bytes: int) -> Group:
        """The one that waits, if there is room in it."""
        group = self._waiting.get(key)
        settings = self._settings
        if group is not None and (
            group.inputs + inputs > settings.inputs or group.size_bytes + size_bytes > settings.bytes
        ):
            self._send(group)
            group = None
        if group is None:
            group = self._waiting[key] = Group(key, rest)
        group.inputs += inputs
        group.size_bytes += size_bytes
        return group

    def joined(self, member: Member) -> None:
        group = member.group
        group.members.append(member)
        if group.timer is None:
            loop = member.x.client.hub.loop
            group.timer = loop.call_later(self._settings.wait_ms / 1000, self._send, group)

    def left(self, member: Member) -> None:
        group = member.group
        if member in group.members:
            group.members.remove(member)
        if not group.members and group.sent is not None:
            x = group.sent[0]
            waiter, x.waiter = x.waiter, None
            if waiter is not None:
                waiter.cancel()
            x.abort("client left")

    def _send(self, group: Group) -> None:
        """No more join; alone as it came, several as one."""
        if self._waiting.get(group.key) is group:
            del self._waiting[group.key]
        if group.timer is not None:
            group.timer.cancel()
        members = group.members
        if len(members) < 2:
            for member in members:
                member.go_on()
            return
        first = members[0]
        x = first.x.twin()
        x.body = orjson.dumps({**group.rest, "input": [one for member in members for one in member.inputs]})
        x.state = call = first.call.twin(b"-batch")
        call.document, call.plain_answer = None, True
        call.tags = (f"batch:{len(members)}",)
        group.sent, group.asked = (x, call), list(members)
        self._sent[call] = group
        self._count("embeddings_batched", call.route.provider)
        assert first.lane is not None
        first.lane.dispatch(x, call)

    # -- the answer of the one that was sent

    def answer(self, route: Route) -> LayerHook | None:
        return self._answer if _covers(route) else None

    def _answer(self, x: "Exchange", call: Call) -> None:
        group = self._sent.get(call)
        if group is None:
            return
        call.reader = None  # each call counts its own share
        x.tap_body = False
        if x.status == 200:
            group.lines = kept_lines(x.answer_head)
            cap_bytes = ANSWER_BYTES_PER_INPUT * group.inputs

            def take(x: "Exchange", piece: bytes) -> None:
                group.answer_bytes += len(piece)
                if group.answer_bytes <= cap_bytes:
                    group.pieces.append(piece)
                else:
                    group.pieces.clear()

            x.sink = take

    def end(self, route: Route) -> LayerHook | None:
        return self._end if _covers(route) else None

    def _end(self, x: "Exchange", call: Call) -> None:
        group = self._sent.pop(call, None) if self._sent else None
        if group is None:
            return
        lines, answers = group.lines, None
        if x.outcome == 0 and x.status == 200 and lines is not None:
            answers = split(b"".join(group.pieces), [member.inputs for member in group.asked])
        members, group.members = group.members, []
        if answers is None or lines is None:
            self._count("embeddings_redone", call.route.provider)
            for member in members:
                member.go_on()
            return
        for member, body in zip(group.asked, answers, strict=True):
            if member in members:
                lead = b"HTTP/1.1 200 OK\r\n%bcontent-length: %d\r\n\r\n" % (lines, len(body))
                Whole(member.x.client.hub, lead + body).begin(member.x, x.sent_ns)


def _covers(route: Route) -> bool:
    return route.known and route.method == b"POST" and route.operation.dialect == _DIALECT


def read(body: bytes) -> tuple[dict[str, Any], list[Any]] | None:
    """(all members but the input, the inputs one by one); None where they cannot be told apart for sure."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(value, dict) or has_repeated_key(body):
        return None
    given = value.pop("input", None)
    if isinstance(given, str):
        return value, [given]
    if not isinstance(given, list) or not given:
        return None
    if all(type(one) is int for one in given):  # one text, as tokens
        return value, [given]
    kind = type(given[0])
    if kind not in (str, list) or not all(type(one) is kind for one in given):
        return None
    return value, given


def split(body: bytes, inputs: Sequence[list[Any]]) -> list[bytes] | None:
    """One answer for each call, of the one for all; None where it has not exactly one vector for each input."""
    try:
        value = orjson.loads(body)
        data = value["data"]
        in_order: list[Any] = [None] * sum(map(len, inputs))
        if len(data) != len(in_order):
            return None
        for one in data:
            at = one["index"]
            if type(at) is not int or not 0 <= at < len(in_order) or in_order[at] is not None:
                return None
            in_order[at] = one
        weights = [sum(_weight(one) for one in own) for own in inputs]
        shares = _divided(value.get("usage"), weights)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    answers, at = [], 0
    for own, usage in zip(inputs, shares, strict=True):
        mine = [{**one, "index": place} for place, one in enumerate(in_order[at : at + len(own)])]
        at += len(own)
        told = {**value, "data": mine}
        if "usage" in value:
            told["usage"] = usage
        answers.append(orjson.dumps(told))
    return answers


def _weight(one: Any) -> int:
    """About how many tokens an input has."""
    return max(len(one) if isinstance(one, list) else len(one.encode("utf-8", "surrogatepass")) // 4, 1)


def _divided(value: Any, weights: Sequence[int]) -> list[Any]:
    """Numbers by weight, so that the shares add up to them; objects member by member; all else as it is."""
    if isinstance(value, dict):
        parts = {name: _divided(one, weights) for name, one in value.items()}
        return [{name: part[at] for name, part in parts.items()} for at in range(len(weights))]
    return list(shares(value, weights)) if type(value) is int and value >= 0 else [value] * len(weights)


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """`total` by weight: each within 1 of its exact share, the sum exact. Source: the largest remainder method."""
    whole = sum(weights)
    found = [total * weight // whole for weight in weights]
    left = total - sum(found)
    by_remainder = sorted(range(len(weights)), key=lambda at: (-(total * weights[at] % whole), at))
    for at in by_remainder[:left]:
        found[at] += 1
    return found


__all__ = ["Batch", "Group", "Member", "read", "shares", "split"]
