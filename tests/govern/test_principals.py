"""From claims to principals: the table of docs/principals.md, and what ends a claim."""

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from outrider.config import load
from outrider.errors import (
    PrincipalRequiredError,
    ProxyTokenRefusedError,
    SidecarError,
    StartError,
    VirtualKeyRefusedError,
)
from outrider.govern.pod import PodIdentity
from outrider.govern.principals import Clocks, Directory, parse_basic
from outrider.govern.virtual_keys import HASH_PREFIX, KeyHasher, Revocations, new_key
from outrider_ext.callers import Caller, Epoch

KEYS = {name: new_key().encode() for name in ("ann", "ben", "bound", "old", "revoked", "stranger")}
NOW_S = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


class World:
    """A directory whose clocks stand until they are moved."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.hasher = KeyHasher.open(folder / "hmac", create=True)
        self.epoch = Epoch()
        self.revocations = Revocations(self.epoch)
        self.now_s = 0.0
        self.counted: list[str] = []
        self.folder = folder
        self.directory = self.of(PRINCIPALS(self), **settings)
        self.revocations.replace("config", [self.hasher.hash_of(KEYS["revoked"]).hex()])

    def of(self, principals: list[dict[str, Any]], **settings: Any) -> Directory:
        path = self.folder / "outrider.yaml"
        path.write_text(yaml.safe_dump({"version": 1, "principals": principals}))
        pod = settings.pop("pod", PodIdentity("shop", "robot", {"app": "checkout"}))
        return Directory(
            load(path, {}).principals,
            epoch=self.epoch,
            revocations=self.revocations,
            clocks=Clocks(lambda: NOW_S + self.now_s, lambda: int(self.now_s * 1e9)),
            count=self.counted.append,
            hasher=self.hasher,
            pod=pod,
            **settings,
        )

    def key(self, name: str, **more: Any) -> dict[str, Any]:
        return {"hash": HASH_PREFIX + self.hasher.hash_of(KEYS[name]).hex(), **more}


def PRINCIPALS(world: World) -> list[dict[str, Any]]:
    return [
        {"id": "ann", "team": "a-team", "from": {"users": [1001], "keys": [world.key("ann"), world.key("revoked")]}},
        {"id": "ben", "from": {"users": [1002], "keys": [world.key("ben"), world.key("old", expires="2026-05-31")]}},
        {"id": "bound", "uids": [1003], "from": {"users": [1004], "keys": [world.key("bound")], "groups": [77]}},
        {"id": "staff", "from": {"groups": [50]}},
        {"id": "pod", "from": {"pod": {"namespace": "shop", "labels": {"app": "checkout"}}}},
    ]


def basic(name: str, user: str = "") -> bytes:
    return b"Basic " + base64.b64encode(user.encode() + b":" + KEYS[name])


# (key, token of the request, token of the CONNECT, uid, gid) -> a principal's id, or the error
TABLE = [
    ("ann", None, None, None, None, "ann"),
    ("ann", "ann", None, None, None, "ann"),
    ("ann", None, "ann", None, None, "ann"),
    ("ann", "ben", None, None, None, VirtualKeyRefusedError),
    ("ann", None, "ben", None, None, VirtualKeyRefusedError),
    ("ann", None, None, 1002, None, "ann"),
    ("ann", None, None, None, 50, "ann"),
    ("stranger", None, None, 1001, None, VirtualKeyRefusedError),
    ("old", None, None, 1002, None, VirtualKeyRefusedError),
    ("revoked", None, None, 1001, None, VirtualKeyRefusedError),
    ("ann", "stranger", None, None, None, ProxyTokenRefusedError),
    (None, "ann", None, 1002, None, "ann"),
    (None, None, "ben", 1001, None, "ben"),
    (None, "stranger", None, 1001, None, ProxyTokenRefusedError),
    (None, "old", None, 1001, None, ProxyTokenRefusedError),
    (None, "revoked", None, 1001, None, ProxyTokenRefusedError),
    ("bound", None, None, 1003, None, "bound"),
    ("bound", None, None, 1001, None, VirtualKeyRefusedError),
    ("bound", None, None, 0, None, VirtualKeyRefusedError),
    ("bound", None, None, None, None, VirtualKeyRefusedError),
    (None, "bound", None, 1001, None, ProxyTokenRefusedError),
    (None, None, None, 1001, None, "ann"),
    (None, None, None, 1002, 50, "ben"),
    (None, None, None, 9, 50, "staff"),
    (None, None, None, 1004, None, "pod"),  # `uids` leave 1004 out: the next weaker claim
    (None, None, None, 1004, 50, "staff"),
    (None, None, None, 9, 77, "pod"),
    (None, None, None, 1003, 77, "bound"),
    (None, None, None, None, None, "pod"),
]


@pytest.mark.parametrize(("key", "token", "at_connect", "uid", "gid", "expected"), TABLE)
def test_the_table_of_claims(
    tmp_path: Path, key: Any, token: Any, at_connect: Any, uid: Any, gid: Any, expected: Any
) -> None:
    world = World(tmp_path)
    caller = Caller(uid=uid, gid=gid)
    if at_connect is not None:
        world.directory.note_token(caller, basic(at_connect))
    proxy = basic(token) if token is not None else None
    if isinstance(expected, str):
        assert world.directory.decide(caller, key and KEYS[key], proxy).id == expected
        assert not world.counted
        return
    with pytest.raises(expected) as caught:
        world.directory.decide(caller, key and KEYS[key], proxy)
    assert expected.code in world.counted
    assert not [name for name, each in KEYS.items() if each.decode() in str(caught.value)]


def test_without_a_match_a_caller_is_anonymous_or_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    only = [{"id": "ann", "team": "t", "from": {"users": [1001]}}]
    found = world.of(only).decide(Caller(uid=1), None, None)
    assert found.is_anonymous
    with pytest.raises(PrincipalRequiredError, match="virtual key"):
        world.of(only, anonymous="deny").decide(Caller(uid=1), None, None)
    assert world.of(only, anonymous="deny").decide(Caller(uid=1001), None, None).team == "t"


@pytest.mark.parametrize(
    ("user", "expected"), [("ann", "ann"), ("a-team", "ann"), ("", "ann"), ("ben", None), ("ANN", None)]
)
def test_the_user_of_the_proxy_url_is_the_principal_or_its_team(
    tmp_path: Path, user: str, expected: str | None
) -> None:
    world = World(tmp_path)
    if expected is not None:
        assert world.directory.decide(Caller(), None, basic("ann", user)).id == expected
        return
    with pytest.raises(ProxyTokenRefusedError):
        world.directory.decide(Caller(), None, basic("ann", user))


@pytest.mark.parametrize(
    "value", [b"", b"Basic", b"Basic !!", b"Bearer x", b"Basic " + base64.b64encode(b"x"), b"Digest a=b", b"basic\tx"]
)
def test_a_field_that_holds_no_key_is_a_wrong_token(tmp_path: Path, value: bytes) -> None:
    world = World(tmp_path)
    with pytest.raises(ProxyTokenRefusedError):
        world.directory.decide(Caller(), None, value)
    with pytest.raises(ProxyTokenRefusedError):
        world.directory.note_token(Caller(), value)


def test_the_token_alone_may_stand_in_the_users_place() -> None:
    assert parse_basic(b"Basic " + base64.b64encode(b"only:")) == (b"", b"only")
    assert parse_basic(b"basic " + base64.b64encode(b"u:t:x")) == (b"u", b"t:x")


def test_ignored_tokens_are_no_claims(tmp_path: Path) -> None:
    directory = World(tmp_path, proxy_token="ignore").directory
    caller = Caller(uid=1002)
    directory.note_token(caller, b"Basic nonsense")
    assert directory.decide(caller, None, b"Basic nonsense").id == "ben"
    assert directory.decide(caller, None, basic("ann")).id == "ben"


def test_required_tokens_are_asked_for(tmp_path: Path) -> None:
    directory = World(tmp_path, proxy_token="require").directory
    assert directory.requires_token
    with pytest.raises(ProxyTokenRefusedError, match="proxy URL"):
        directory.note_token(Caller(uid=1002), None)
    caller = Caller()
    directory.note_token(caller, basic("ann"))
    assert directory.admit_tunnel(caller).id == "ann"


def test_a_tunnel_is_for_whom_config_lets_in(tmp_path: Path) -> None:
    world = World(tmp_path, anonymous="deny", pod=PodIdentity())
    with pytest.raises(ProxyTokenRefusedError):
        world.directory.admit_tunnel(Caller())
    with pytest.raises(PrincipalRequiredError):
        world.of([{"id": "x", "from": {"users": [5]}}], anonymous="deny", proxy_token="ignore").admit_tunnel(Caller())
    assert world.directory.admit_tunnel(Caller(uid=1001)).id == "ann"


# -- what ends a claim


def test_a_key_is_remembered_until_it_expires_and_no_longer(tmp_path: Path) -> None:
    world = World(tmp_path)
    directory = world.of([{"id": "x", "from": {"keys": [world.key("ann", expires="2026-06-01T00:00:10Z")]}}])
    caller = Caller()
    found, until_ns, _ = directory.found(caller, KEYS["ann"], None)
    caller.remember(directory, KEYS["ann"], None, until_ns, found)
    assert caller.last(directory, KEYS["ann"], None, 9_999_999_999) is found
    assert caller.last(directory, KEYS["ann"], None, 10_000_000_000) is None
    world.now_s = 10.0
    with pytest.raises(VirtualKeyRefusedError, match="expired on 2026-06-01 00:00 UTC"):
        directory.decide(caller, KEYS["ann"], None)


def test_a_revocation_forgets_what_connections_remember(tmp_path: Path) -> None:
    world = World(tmp_path)
    caller = Caller()
    world.directory.note_token(caller, basic("ben"))
    found, until_ns, _ = world.directory.found(caller, None, None)
    caller.remember(world.directory, None, None, until_ns, found)
    assert caller.last(world.directory, None, None, 0) is found
    world.revocations.revoke(world.hasher.hash_of(KEYS["ben"]).hex())
    assert caller.last(world.directory, None, None, 0) is None
    with pytest.raises(VirtualKeyRefusedError, match="revoked"):
        world.directory.decide(caller, None, None)


def test_what_is_remembered_is_for_exactly_these_claims_of_this_configuration(tmp_path: Path) -> None:
    world = World(tmp_path)
    caller, found = Caller(uid=1001), world.directory.decide(Caller(uid=1001), None, None)
    caller.remember(world.directory, b"k", b"p", 0, found)
    assert caller.last(world.directory, b"k", b"p", 1) is found
    for key, proxy in ((None, b"p"), (b"k", None), (b"K", b"p"), (b"k", b"P"), (b"kk", b"p"), (None, None)):
        assert caller.last(world.directory, key, proxy, 1) is None
    assert caller.last(world.of([]), b"k", b"p", 1) is None
    caller.remember(world.directory, b"x" * 513, None, 0, found)
    assert caller.last(world.directory, b"x" * 513, None, 0) is None  # too long to be kept


def test_another_configuration_is_asked_anew(tmp_path: Path) -> None:
    world = World(tmp_path)
    caller = Caller()
    world.directory.note_token(caller, basic("ann"))
    assert world.directory.decide(caller, None, None).id == "ann"
    moved = world.of([{"id": "new", "from": {"keys": [world.key("ann")]}}])
    assert moved.decide(caller, None, None).id == "new"
    with pytest.raises(VirtualKeyRefusedError):
        world.of([{"id": "new", "from": {"keys": [world.key("ben")]}}]).decide(caller, None, None)


# -- the table itself


@pytest.mark.parametrize(
    ("one", "two", "sentence"),
    [
        ({"users": [5]}, {"users": [5]}, "both claim the user 5"),
        ({"users": ["root"]}, {"users": [0]}, "both claim the user 0"),
        ({"groups": ["root"]}, {"groups": [0]}, "both claim the group 0"),
        ({"pod": {"namespace": "shop"}}, {"pod": {"service_account": "robot"}}, "both match this pod"),
        ({"users": ["no-such-user"]}, {}, "does not know"),
        ({"groups": ["no-such-group"]}, {}, "does not know"),
    ],
)
def test_a_table_that_could_mean_two_things_is_refused(tmp_path: Path, one: Any, two: Any, sentence: str) -> None:
    with pytest.raises(StartError, match=sentence):
        World(tmp_path).of([{"id": "one", "from": one}, {"id": "two", "from": two}])


def test_a_key_under_two_principals_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    with pytest.raises(StartError, match="list the same key"):
        world.of([{"id": name, "from": {"keys": [world.key("ann")]}} for name in ("one", "two")])


@pytest.mark.parametrize(
    ("clause", "matches"),
    [
        ({"namespace": "shop"}, True),
        ({"namespace": "shop", "service_account": "robot", "labels": {"app": "checkout"}}, True),
        ({"namespace": "other"}, False),
        ({"labels": {"app": "checkout", "tier": "x"}}, False),
        ({"labels": {"app": ""}}, False),
    ],
)
def test_all_that_a_pod_clause_names_has_to_hold(tmp_path: Path, clause: Any, matches: bool) -> None:
    directory = World(tmp_path).of([{"id": "one", "from": {"pod": clause}}])
    assert directory.decide(Caller(), None, None).is_anonymous != matches


def test_the_kernel_is_asked_only_where_a_user_matters(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert not world.of([{"id": "a", "from": {"groups": [1], "keys": [world.key("ann")]}}]).needs_uid
    assert world.of([{"id": "a", "from": {"users": [1]}}]).needs_uid
    assert world.of([{"id": "a", "uids": [1], "from": {"keys": [world.key("ann")]}}]).needs_uid


def test_no_key_is_in_any_repr(tmp_path: Path) -> None:
    world = World(tmp_path)
    caller = Caller(uid=1)
    caller.remember(world.directory, KEYS["ann"], None, 0, world.directory.decide(caller, KEYS["ann"], None))
    shown = repr([caller, world.directory, vars(world.directory), world.hasher, [*map(str, dir(caller))]])
    assert KEYS["ann"].decode() not in shown
    assert isinstance(VirtualKeyRefusedError("x"), SidecarError)
