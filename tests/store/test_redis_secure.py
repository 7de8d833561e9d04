"""Redis as fleets run it: TLS with certificates on both sides, ACL users, Sentinel, keys revoked somewhere."""

import contextlib
import datetime
import ipaddress
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis.backoff import NoBackoff
from redis.retry import Retry

from outrider.config import load
from outrider.errors import StartError
from outrider.runtime import Sidecar
from outrider.secrets.secret import Secret
from outrider.store.opening import redis_settings, revoke_in_fleet
from outrider.store.redis import MAX_REVOKED
from store.servers import Server, free_port, running
from store.test_redis import Counted, rate, stores, take
from support.running import local, settings, until

PATIENT_S = 2  # a busy machine is not a store that fails
RULES = "on >pass ~outrider:* &outrider:* +@scripting +@hash +@sortedset +@pubsub +@connection +time +pexpire"


class Papers:
    """A CA, a certificate for 127.0.0.1 and one for the sidecars; `other` is a CA that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        ca = self._make("ca", None)
        self.ca, self.server, self.client = folder / "ca.pem", self._pair("server", ca), self._pair("client", ca)
        self._make("other", None)
        self.other = folder / "other.pem"

    def _pair(self, name: str, ca: Any) -> tuple[Path, Path]:
        self._make(name, ca)
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def _make(self, name: str, ca: Any) -> Any:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer, signer = (subject, key) if ca is None else ca
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True, key_cert_sign=ca is None, crl_sign=ca is None, content_commitment=False,
                    key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
        )  # fmt: skip
        certificate = builder.sign(signer, hashes.SHA256())
        pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
        (self.folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none))
        return subject, key


class TlsServer(Server):
    """No port in clear; whoever comes has to show a certificate."""

    def __init__(self, folder: Path, papers: Papers) -> None:
        self.papers = papers
        super().__init__(folder)

    def arguments(self) -> tuple[str, ...]:
        certificate, key = self.papers.server
        return (
            "--port", "0", "--tls-port", str(self.port), "--tls-cert-file", str(certificate), "--tls-key-file",
            str(key), "--tls-ca-cert-file", str(self.papers.ca), "--tls-auth-clients", "yes",
        )  # fmt: skip

    def call(self, *words: Any, timeout_s: float = 30.0) -> Any:
        certificate, key = map(str, self.papers.client)
        with redis.Redis(
            port=self.port, ssl=True, ssl_ca_certs=str(self.papers.ca), ssl_certfile=certificate, ssl_keyfile=key,
            host="127.0.0.1", socket_timeout=timeout_s, retry=Retry(NoBackoff(), 0),
        ) as client:  # fmt: skip
            return client.execute_command(*words)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers") / "of")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, papers: Papers) -> Iterator[TlsServer]:
    server = TlsServer(tmp_path_factory.mktemp("secure"), papers)
    try:
        server.start()
        server.call("ACL", "SETUSER", "sidecar", *RULES.split())
        server.call(
            "ACL", "SETUSER", "default", "resetpass", "-@all", "+@connection", "+acl", "+flushall", "on", "nopass"
        )
        yield server
    finally:
        server.stop()


def tls(papers: Papers, **more: Any) -> dict[str, Any]:
    certificate, key = papers.client
    known: dict[str, Any] = {
        "tls": True,
        "ca": papers.ca,
        "cert": certificate,
        "cert_key": key,
        "deadline_s": PATIENT_S,
    }
    return known | {"user": "sidecar", "password": Secret(b"pass")} | more


async def test_tls_with_a_certificate_of_its_own_and_a_user_of_few_rights(secure: TlsServer, papers: Papers) -> None:
    async with stores(2, secure.port, **tls(papers)) as (one, two):
        assert await take(rate(one, 10), 4) == 0
        heard: list[str] = []
        two.on_revoked = heard.append
        await one.revoke("abc")
        await until(lambda: heard == ["abc"], "the other one heard of it over TLS")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cert": None, "cert_key": None}, "certificate"),
        ({"ca": "other"}, "certificate verify failed|CERTIFICATE_VERIFY_FAILED"),
        ({"ca": None}, "certificate verify failed|CERTIFICATE_VERIFY_FAILED"),
        ({"tls": False}, "Connection closed|Connection|reset|Protocol"),
        ({"password": Secret(b"wrong")}, "WRONGPASS|invalid username"),
        ({"user": None, "password": None}, "NOPERM|no permissions"),
    ],
)
async def test_what_is_not_as_it_must_be_is_a_store_that_does_not_answer_and_says_why(
    secure: TlsServer, papers: Papers, wrong: dict[str, Any], said: str
) -> None:
    import re

    if wrong.get("ca") == "other":
        wrong = {"ca": papers.other}
    store = Counted(secure.port, **tls(papers, **{"deadline_s": 0.5, **wrong}))
    await store.start()
    try:
        await until(lambda: store.events["store_lost"] == 1, "it is said")
        assert store.is_down
        assert re.search(said, store.why), store.why
        assert "pass" not in store.why.replace("password", "").replace("WRONGPASS", "")
    finally:
        await store.close()


async def test_from_the_file_to_a_sidecar_that_counts_there(secure: TlsServer, papers: Papers, tmp_path: Path) -> None:
    certificate, key = papers.client
    state = {
        "url": f"rediss://sidecar@127.0.0.1:{secure.port}", "password": {"env": "PASSWORD"}, "ca": str(papers.ca),
        "cert": str(certificate), "cert_key": str(key), "fleet_key": {"env": "FLEET"}, "deadline_ms": 1000 * PATIENT_S,
    }  # fmt: skip
    environ = {"PASSWORD": "pass", "FLEET": "of-the-whole-fleet"}
    config = load(settings(tmp_path, local("http://127.0.0.1:9"), state=state), environ)
    sidecar = Sidecar(config, environ)
    await sidecar.start()
    store: Any = sidecar._shared.ledger.store
    try:
        await until(lambda: not store.is_down, "it has joined")
    finally:
        await sidecar.stop()


@pytest.mark.parametrize("key", ["ca", "cert", "cert_key"])
def test_a_file_that_is_not_there_or_is_none_is_said_at_the_start(tmp_path: Path, papers: Papers, key: str) -> None:
    certificate, secret = papers.client
    state: dict[str, Any] = {
        "url": "rediss://r",
        "ca": str(papers.ca),
        "cert": str(certificate),
        "cert_key": str(secret),
    }
    for wrong in (tmp_path / "nowhere", tmp_path / "none"):
        (tmp_path / "none").write_text("none")
        config = load(settings(tmp_path, {}, state={**state, key: str(wrong)}), {})
        with pytest.raises(StartError, match=rf"outrider\.yaml:\d+: state\.{key[:4].rstrip('_')}: .*{wrong.name}"):
            redis_settings(config, {})


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"url": "redis://r", "ca": "/x"}, "state.ca.*TLS.*rediss://"),
        ({"url": "redis+sentinel://r/m", "cert": "/x"}, "state.cert.*TLS"),
        ({"url": "rediss://r", "cert_key": "/x"}, "state.cert_key.*set cert too"),
        ("redis+sentinel://r", "name the master"),
        ("redis+sentinel://r/m?cluster=true", "cluster needs none"),
        ("redis+sentinel://r/m/x", "number of a database"),
    ],
)
def test_words_that_do_not_go_together_are_said(tmp_path: Path, state: Any, said: str) -> None:
    with pytest.raises(StartError, match=said):
        load(settings(tmp_path, {}, state=state), {})


def test_an_address_of_sentinels_is_read_and_shown_without_its_password(tmp_path: Path) -> None:
    url = load(settings(tmp_path, {}, state="rediss+sentinel://u:p@a,b:1/my.master/3"), {}).state.url
    assert (url.addresses, url.sentinel, url.database, url.tls) == ((("a", 26379), ("b", 1)), "my.master", 3, True)
    assert str(url) == "rediss+sentinel://a:26379,b:1/my.master"


# -- Sentinel


@contextlib.contextmanager
def sentinel(folder: Path, master: Server) -> Iterator[Server]:
    """A real one, with a password of its own."""
    folder.mkdir()
    watcher = Server(folder)
    watcher.port = free_port()
    (folder / "sentinel.conf").write_text(
        f"port {watcher.port}\nbind 127.0.0.1\ndir {folder}\nrequirepass watch\n"
        f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        "sentinel auth-pass mymaster pass\n"
        "sentinel down-after-milliseconds mymaster 300\nsentinel failover-timeout mymaster 3000\n"
    )
    process = subprocess.Popen(
        ["redis-server", str(folder / "sentinel.conf"), "--sentinel"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield watcher
    finally:
        process.kill()
        process.wait()


def asked(server: Server, password: str, *words: str) -> Any:
    try:
        with redis.Redis(port=server.port, password=password, socket_timeout=5) as client:
            return client.execute_command(*words)
    except (redis.RedisError, OSError):
        return None


async def test_sentinels_say_who_the_master_is_before_and_after_it_fails(tmp_path: Path) -> None:
    secret = ("--requirepass", "pass", "--masterauth", "pass")

    class Locked(Server):
        def call(self, *words: Any, timeout_s: float = 30.0) -> Any:
            once = Retry(NoBackoff(), 0)
            with redis.Redis(port=self.port, password="pass", socket_timeout=timeout_s, retry=once) as client:
                return client.execute_command(*words)

    primary, copy = Locked(tmp_path / "a", *secret), Locked(tmp_path / "b", *secret)
    try:
        primary.start()
        copy.options += ("--replicaof", f"127.0.0.1 {primary.port}")
        copy.start()
        await until(lambda: copy.call("INFO", "replication").get("master_link_status") == "up", "linked")
        with sentinel(tmp_path / "s", primary) as watcher:

            def knows_both() -> bool:
                found = asked(watcher, "watch", "SENTINEL", "REPLICAS", "mymaster")
                return bool(found) and len(found) == 1

            def is_promoted() -> bool:
                with contextlib.suppress(redis.RedisError):  # whoever is promoted drops its clients
                    return bool(copy.call("ROLE")[0] == b"master")
                return False

            await until(knows_both, "the sentinel knows the replica")
            words = {
                "sentinel": "mymaster", "password": Secret(b"pass"), "sentinel_password": Secret(b"watch"),
                "deadline_s": 1.0,
            }  # fmt: skip
            async with stores(2, 1, watcher.port, **words) as fleet:  # the first of them is not there
                assert await take(rate(fleet[0], 100), 40) == 0
                spend = fleet[1].spend("b", "k")
                spend.add("2026-01", 7)
                await until(lambda: fleet[0].spend("b", "k").spent("2026-01") == 7, "both know the sum")
                await until(
                    lambda: (
                        copy.call("INFO", "replication")["master_repl_offset"]
                        >= primary.call("INFO", "replication")["master_repl_offset"] - 200
                    ),
                    "the replica follows",
                )
                primary.stop()
                await until(is_promoted, "the sentinel has promoted the replica")
                await until(lambda: all(store.events["store_lost"] for store in fleet), "noticed")
                await until(lambda: not any(store.is_down for store in fleet), "they have joined the new one")
                spend.add("2026-01", 1)
                await until(lambda: fleet[0].spend("b", "k").spent("2026-01") == 8, "and count there")
    finally:
        primary.stop()
        copy.stop()


# -- revocations


async def test_a_key_revoked_anywhere_is_refused_by_all_and_again_after_redis_lost_everything(tmp_path: Path) -> None:
    """By the command, while sidecars run; after a restart of Redis by what they know; and by one that starts late."""
    environ = {"FLEET": "of-the-whole-fleet"}
    with running(tmp_path / "redis") as server:
        state = {"url": f"redis://127.0.0.1:{server.port}", "fleet_key": {"env": "FLEET"}}
        config = load(settings(tmp_path, {}, state=state), environ)
        async with stores(3, server.port, fleet_key=Secret(b"of-the-whole-fleet")) as fleet:
            await revoke_in_fleet(config, environ, ["aa" * 32, "bb" * 6])
            await until(
                lambda: all(len(store.revoked) == 2 for store in fleet), "all have heard", 5.0
            )  # a second, and a busy machine
            assert fleet[0].fleet <= 3, "whoever revokes is none of the fleet"
            server.stop()
            await until(lambda: all(store.is_down for store in fleet), "noticed")
            assert all(len(store.revoked) == 2 for store in fleet)
            await fleet[0].revoke("cc" * 32)  # while nothing answers
            server.start()
            await until(lambda: all(len(store.revoked) == 3 for store in fleet), "told when it answers again")
            late = Counted(server.port, fleet_key=Secret(b"of-the-whole-fleet"))
            await until(lambda: server.call("HLEN", late._fleet_keys[1]) == 3, "it is all written again")
            await late.start()
            assert late.revoked == {"aa" * 32, "bb" * 6, "cc" * 32}  # known before the first request is let in
            await late.close()


async def test_what_cannot_be_told_to_the_fleet_is_said(tmp_path: Path) -> None:
    config = load(settings(tmp_path, {}, state="redis://127.0.0.1:1"), {})
    with pytest.raises(StartError, match=r"redis://127\.0\.0\.1:1 does not answer .*nothing was revoked"):
        await revoke_in_fleet(config, {}, ["aa" * 32])


async def test_what_a_fleet_revokes_is_bounded(tmp_path: Path) -> None:
    store = Counted(1)
    store.revoked = {f"{number:064x}" for number in range(MAX_REVOKED)}
    await store.revoke("ff" * 32)
    assert len(store.revoked) == MAX_REVOKED
    assert store.events["store_revocations_full"] == 1


# -- budgets


@pytest.mark.parametrize("rule", ["local", "deny", "allow"])
async def test_a_sum_that_nobody_told_is_waited_for_and_without_an_answer_the_rule_decides(
    tmp_path: Path, rule: str
) -> None:
    from outrider.store.base import NEEDS_LEASE, NO_ANSWER

    with running(tmp_path / "redis") as server:
        async with stores(1, server.port, on_error=rule) as (store,):
            store.spend("b", "k").add("2026-01", 500)
            await until(lambda: store.spend("b", "k").is_idle, "told")  # type: ignore[attr-defined]
        async with stores(1, server.port, on_error=rule) as (fresh,):
            spend: Any = fresh.spend("b", "k")
            assert spend.doubt("2026-01") == NEEDS_LEASE
            await spend.borrow(0, 0)
            assert (spend.doubt("2026-01"), spend.spent("2026-01")) == (0, 500)
            server.stop()
            await until(lambda: fresh.is_down, "noticed")
            assert spend.doubt("2026-01") == (NO_ANSWER if rule == "deny" else 0)
            assert spend.doubt("2026-02") == (NO_ANSWER if rule == "deny" else 0)
            server.start()
            await until(lambda: not fresh.is_down, "it has joined again")
            if spend.doubt("2026-02") == NEEDS_LEASE:
                await spend.borrow(0, 0)
            assert spend.doubt("2026-02") == 0


async def test_each_mark_is_said_by_one_of_the_fleet_and_not_again_after_a_restart(tmp_path: Path) -> None:
    said: list[str] = []
    with running(tmp_path / "redis") as server:
        for round_ in range(2):
            async with stores(3, server.port) as fleet:
                for store in fleet:
                    spend: Any = store.spend("b", "k")
                    spend.add("2026-01", 10)
                    for mark in ("50", "80"):
                        spend.say_once("2026-01", mark, lambda mark=mark: said.append(mark))
                    spend.say_once("2026-02", "50", lambda: said.append("next"))
                await until(lambda: len(said) == 3, "all three are said")
                await until(lambda: not any("store mark" in str(task) for task in _tasks()), "nobody asks any more")
            assert sorted(said) == ["50", "80", "next"], round_
        server.stop()
        alone = Counted(server.port)
        await alone.start()
        one: Any = alone.spend("b", "k")
        one.say_once("2026-01", "50", lambda: said.append("alone"))
        await until(lambda: "alone" in said, "rather twice than never")
        await alone.close()


def _tasks() -> set[Any]:
    import asyncio

    return asyncio.all_tasks()
