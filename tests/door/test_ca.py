"""The interception CA: its files, its profile under real verifiers, its cache."""

import contextlib
import errno
import os
import shutil
import ssl
import stat
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.door import ca, ca_files
from outrider.door.ca import CertificateAuthority, import_authority
from outrider.door.ca_profile import certificate_pem_of, issue_leaf
from outrider.errors import BadRequestError, CredentialUnavailableError, ForbiddenError, OverloadedError, StartError
from outrider.runtimes import trust_store
from support.authority import Clock, shake_hands, strict_client, tls_server

NAMES = ("api.openai.com", "*.openai.azure.com", "127.0.0.1", "::1", "a" * 60 + ".example.com", "localhost")


@pytest.fixture
def clock() -> Clock:
    return Clock.real()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path / "ca", now=clock)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed.")
    return found


def leaf_of(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def asked_name(name: str) -> str:
    return name.replace("*", "my-resource")


# -- the profile, before verifiers


@pytest.mark.parametrize("name", NAMES)
def test_a_strict_python_client_accepts_the_leaf_of_every_kind_of_name(
    authority: CertificateAuthority, name: str
) -> None:
    done = shake_hands(authority.context_for(name), strict_client(authority.certificate_pem), asked_name(name))
    assert done.version() == "TLSv1.3"


def test_a_leaf_is_good_for_no_other_name(authority: CertificateAuthority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(
            authority.context_for("api.openai.com"), strict_client(authority.certificate_pem), "api.anthropic.com"
        )


def test_tls_1_1_is_refused_and_1_2_is_spoken(authority: CertificateAuthority) -> None:
    client = strict_client(authority.certificate_pem)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake_hands(authority.context_for("api.openai.com"), client, "api.openai.com").version() == "TLSv1.2"
    assert authority.context_for("api.openai.com").minimum_version == ssl.TLSVersion.TLSv1_2


def test_of_the_protocols_that_a_client_offers_http_1_1_is_chosen(authority: CertificateAuthority) -> None:
    client = strict_client(authority.certificate_pem)
    client.set_alpn_protocols(["h2", "http/1.1"])
    done = shake_hands(authority.context_for("api.openai.com"), client, "api.openai.com")
    assert done.selected_alpn_protocol() == "http/1.1"


@pytest.mark.parametrize("name", NAMES)
def test_openssl_verifies_the_leaf_strictly(authority: CertificateAuthority, tmp_path: Path, name: str) -> None:
    (tmp_path / "leaf.pem").write_bytes(authority.mint(name))
    kind = "-verify_ip" if ":" in name or name[0].isdigit() else "-verify_hostname"
    files = ("-CAfile", str(authority.certificate_path), str(tmp_path / "leaf.pem"))
    words = (tool("openssl"), "verify", "-x509_strict", "-purpose", "sslserver", kind, asked_name(name), *files)
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_leaf_has_the_profile_that_verifiers_ask_for(authority: CertificateAuthority) -> None:
    leaf, root = leaf_of(authority.mint("api.openai.com")), authority.certificate
    found = {type(extension.value): extension for extension in leaf.extensions}
    root_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert found[x509.AuthorityKeyIdentifier].value.key_identifier == root_id
    assert list(found[x509.ExtendedKeyUsage].value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert found[x509.KeyUsage].value.digital_signature
    assert not found[x509.BasicConstraints].value.ca
    assert not found[x509.SubjectAlternativeName].critical
    assert leaf.subject.rfc4514_string() == "CN=api.openai.com"
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == timedelta(hours=25)
    assert leaf_of(authority.mint("api.openai.com")).serial_number != leaf.serial_number


def test_the_root_signs_leaves_and_no_further_ca(authority: CertificateAuthority) -> None:
    found = {type(extension.value): extension for extension in authority.certificate.extensions}
    assert (found[x509.BasicConstraints].value.ca, found[x509.BasicConstraints].value.path_length) == (True, 0)
    assert found[x509.BasicConstraints].critical
    assert found[x509.KeyUsage].critical
    assert isinstance(authority.certificate.public_key(), ec.EllipticCurvePublicKey)


def test_a_name_of_64_characters_is_no_common_name(authority: CertificateAuthority) -> None:
    long, fits = "a" * 52 + ".example.com", "a" * 51 + ".example.com"
    assert len(long) == 64
    assert not leaf_of(authority.mint(long)).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert leaf_of(authority.mint(fits)).subject.get_attributes_for_oid(NameOID.COMMON_NAME)


# -- real clients


@pytest.mark.parametrize("name", ["api.openai.com", "127.0.0.1"])
def test_curl_accepts_the_leaf(authority: CertificateAuthority, name: str) -> None:
    with tls_server(authority.context_for(name)) as port:
        words = (tool("curl"), "-sS", "--noproxy", "*", "--cacert", str(authority.certificate_path))
        done = subprocess.run(
            (*words, "--resolve", f"{name}:{port}:127.0.0.1", f"https://{name}:{port}/"),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.stdout, done.stderr) == ("ok", "")


NODE = """
const [port, name] = process.argv.slice(1);
const options = {host: "127.0.0.1", port, path: "/", servername: name.includes("1") ? undefined : name};
require("https").get(options, (r) => r.on("data", (d) => process.stdout.write(d)))
  .on("error", (e) => { console.error(e.code); process.exit(1); });
"""


@pytest.mark.parametrize("name", ["api.openai.com", "127.0.0.1"])
def test_node_accepts_the_leaf(authority: CertificateAuthority, name: str) -> None:
    clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    with tls_server(authority.context_for(name)) as port:
        done = subprocess.run(
            (tool("node"), "-e", NODE, str(port), name),
            env=clean | {"NODE_EXTRA_CA_CERTS": str(authority.certificate_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stdout, done.returncode) == ("ok", 0), done.stderr


JAVA = """
import java.net.URI;
import java.net.http.*;
public class Ask {
  public static void main(String[] args) throws Exception {
    var request = HttpRequest.newBuilder(URI.create(args[0])).build();
    System.out.print(HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body());
  }
}
"""


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_java_accepts_the_leaf_by_the_trust_store(authority: CertificateAuthority, tmp_path: Path, name: str) -> None:
    (tmp_path / "Ask.java").write_text(JAVA)
    store = tmp_path / "store.p12"
    store.write_bytes(trust_store(authority.bundle()))
    options = (f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12")
    with tls_server(authority.context_for(name)) as port:
        done = subprocess.run(
            (
                tool("java"),
                *options,
                "-Djavax.net.ssl.trustStorePassword=changeit",
                str(tmp_path / "Ask.java"),
                f"https://{name}:{port}/",
            ),
            env={key: value for key, value in os.environ.items() if key != "JAVA_TOOL_OPTIONS"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    if "compiler" in done.stderr.lower():
        pytest.skip("This Java is a runtime without a compiler.")
    assert (done.stdout, done.returncode) == ("ok", 0), done.stderr


# -- names


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "*",
        "*.com",
        "a..b",
        "-a.com",
        "a.*.com",
        "*a.example.com",
        "münchen.de",
        "a b.com",
        "a/b",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x7f.1",
        "a" * 64 + ".com",
        "a." * 127 + "com",
        "a\x00.com",
        "::g",
        "user@a.com",
    ],
)
def test_what_cannot_stand_in_a_certificate_is_refused(authority: CertificateAuthority, name: str) -> None:
    with pytest.raises(BadRequestError):
        authority.mint(name)
    with pytest.raises(BadRequestError):
        authority.context_for(name)


def test_spellings_of_one_name_share_one_context(authority: CertificateAuthority) -> None:
    assert authority.context_for("API.OpenAI.com.") is authority.context_for("api.openai.com")
    assert authority.context_for("[::1]") is authority.context_for("0:0:0:0:0:0:0:1")


# -- the cache


def test_a_context_is_made_once_until_it_nears_its_end(authority: CertificateAuthority, clock: Clock) -> None:
    first = authority.context_for("api.openai.com")
    clock.advance(hours=22, minutes=59)
    assert authority.context_for("api.openai.com") is first
    clock.advance(minutes=2)
    second = authority.context_for("api.openai.com")
    assert second is not first
    assert authority.context_for("api.openai.com") is second


def test_a_clock_set_far_back_does_not_hand_out_a_leaf_from_the_future(
    authority: CertificateAuthority, clock: Clock
) -> None:
    first = authority.context_for("api.openai.com")
    clock.advance(hours=-2)
    assert authority.context_for("api.openai.com") is not first


def test_the_least_recently_used_context_leaves_first(
    authority: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca, "CONTEXTS_MAX", 3)
    kept = authority.context_for("a.example.com")
    gone = authority.context_for("b.example.com")
    authority.context_for("c.example.com")
    assert authority.context_for("a.example.com") is kept
    authority.context_for("d.example.com")
    assert authority.context_for("a.example.com") is kept
    assert authority.context_for("b.example.com") is not gone


def test_threads_that_ask_at_once_share_one_context(authority: CertificateAuthority) -> None:
    barrier = threading.Barrier(8)
    found: list[ssl.SSLContext] = []

    def ask() -> None:
        barrier.wait()
        found.append(authority.context_for("api.openai.com"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(context) for context in found}) == 1


def test_a_flood_of_unexpected_names_is_limited_and_expected_ones_are_not(
    authority: CertificateAuthority, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority, "_context", lambda chain: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    authority.expect(["API.openai.com", "*.openai.azure.com"])
    for number in range(ca.STRANGERS_BURST):
        authority.context_for(f"h{number}.example.com")
    with pytest.raises(OverloadedError):
        authority.context_for("one-too-many.example.com")
    assert authority.context_for("h1.example.com")
    assert authority.context_for("api.openai.com")
    assert authority.context_for("*.openai.azure.com")
    clock.advance(seconds=0.5)
    assert authority.context_for("one-too-many.example.com")


def test_a_leaf_never_outlives_the_ca_and_an_expired_ca_signs_nothing(tmp_path: Path, clock: Clock) -> None:
    authority = CertificateAuthority.open(tmp_path, now=clock, days=1)
    clock.advance(hours=20)
    assert leaf_of(authority.mint("api.openai.com")).not_valid_after_utc == authority.not_after
    context = authority.context_for("api.openai.com")
    clock.advance(hours=1)
    assert authority.context_for("api.openai.com") is context
    clock.advance(hours=4)
    with pytest.raises(CredentialUnavailableError, match="expired"):
        authority.context_for("api.openai.com")


# -- the leaf key


def private_keys_under(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.rglob("*")) if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]


def test_only_the_ca_key_lies_on_disk(authority: CertificateAuthority, tmp_path: Path) -> None:
    authority.context_for("api.openai.com")
    assert private_keys_under(tmp_path) == [ca_files.KEY_NAME]
    assert leaf_of(authority.mint("a.example.com")).public_key() != authority.certificate.public_key()


def in_another_process(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-W", "error", "-c", script, *args), capture_output=True, text=True, timeout=60, check=False
    )


OPENS = """
import sys
from pathlib import Path
from outrider.door.ca import CertificateAuthority, utc_now
authority = CertificateAuthority.open(Path(sys.argv[1]), now=utc_now)
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" and isinstance(args[0], str) else None)
authority.context_for("api.openai.com")
print(opened)
"""


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="There is no memfd on this system.")
def test_making_a_context_opens_no_file_by_name(tmp_path: Path) -> None:
    done = in_another_process(OPENS, str(tmp_path))
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


HARDENED = """
import ctypes, os, sys
from pathlib import Path
from outrider.door.ca import CertificateAuthority, utc_now
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: /proc/self belongs to root from now on
authority = CertificateAuthority.open(Path(sys.argv[1]), now=utc_now)
print(authority.context_for("api.openai.com").num_tickets)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_DUMPABLE is Linux's.")
def test_a_process_that_cannot_be_dumped_still_makes_contexts(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    folder.mkdir()
    if os.geteuid() == 0:
        for path in (folder, *folder.parents):  # pytest's folders are 0700 and root's
            if path.stat().st_uid == 0 and path.is_relative_to("/tmp") and path != Path("/tmp"):
                path.chmod(0o755)
        os.chown(folder, 65534, 65534)
    done = in_another_process(HARDENED, str(folder))
    if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("The user nobody cannot read this checkout.")
    assert done.stdout.strip() == "1", done.stderr


def test_without_memfd_the_key_is_encrypted_in_a_file_without_a_name(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ca, "_has_memfd", lambda: False)
    authority = CertificateAuthority.open(tmp_path, now=clock)
    assert b"ENCRYPTED" in authority._leaf_key_pem
    shake_hands(authority.context_for("api.openai.com"), strict_client(authority.certificate_pem), "api.openai.com")
    assert private_keys_under(tmp_path) == [ca_files.KEY_NAME]


# -- its files


def test_the_ca_is_made_once_private_and_then_loaded(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "deep" / "ca"
    made = CertificateAuthority.open(folder, now=clock)
    loaded = CertificateAuthority.open(folder, now=clock)
    assert loaded.fingerprint_sha256 == made.fingerprint_sha256
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "outrider-ca.key.pem").stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["outrider-ca.key.pem", "outrider-ca.pem"]


def test_the_fingerprint_is_the_one_that_openssl_prints(authority: CertificateAuthority) -> None:
    words = (tool("openssl"), "x509", "-noout", "-fingerprint", "-sha256", "-in", str(authority.certificate_path))
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert printed.strip().endswith("=" + authority.fingerprint_sha256)


RACER = """
import sys
from pathlib import Path
from outrider.door.ca import CertificateAuthority, utc_now
print("ready", flush=True)
sys.stdin.readline()
print(CertificateAuthority.open(Path(sys.argv[1]), now=utc_now).fingerprint_sha256)
"""


def test_processes_that_start_at_once_end_with_one_ca(tmp_path: Path) -> None:
    words = (sys.executable, "-c", RACER, str(tmp_path / "ca"))
    with contextlib.ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )
            for _ in range(4)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        outputs = [racer.communicate(timeout=60) for racer in racers]
    assert len({fingerprint for fingerprint, _ in outputs}) == 1, outputs
    assert sorted(path.name for path in (tmp_path / "ca").iterdir()) == ["outrider-ca.key.pem", "outrider-ca.pem"]


def test_a_key_without_its_certificate_gets_one(tmp_path: Path, clock: Clock) -> None:
    made = CertificateAuthority.open(tmp_path, now=clock)
    made.certificate_path.unlink()  # as a crash between the two files leaves it
    again = CertificateAuthority.open(tmp_path, now=clock)
    assert again.certificate.public_key() == made.certificate.public_key()
    assert again.fingerprint_sha256 != made.fingerprint_sha256


def test_a_ca_near_its_end_is_renewed_on_the_same_key_and_old_trust_holds(tmp_path: Path, clock: Clock) -> None:
    old = CertificateAuthority.open(tmp_path, now=clock, days=10)
    clock.advance(days=8)
    assert CertificateAuthority.open(tmp_path, now=clock, days=10).fingerprint_sha256 == old.fingerprint_sha256
    clock.advance(days=1, hours=2)
    new = CertificateAuthority.open(tmp_path, now=clock, days=10)
    assert new.fingerprint_sha256 != old.fingerprint_sha256
    assert new.not_after == clock() + timedelta(days=10)
    assert (new.subject, new.certificate.public_key()) == (old.subject, old.certificate.public_key())
    leaf = leaf_of(new.mint("api.openai.com"))
    leaf.verify_directly_issued_by(old.certificate)
    assert new.is_former(old.certificate_pem)
    assert not new.is_former(new.certificate_pem)


def test_a_renewal_that_cannot_be_written_waits_while_the_old_one_is_good(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = CertificateAuthority.open(tmp_path, now=clock, days=10)

    def full(fd: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "fsync", full)
    clock.advance(days=9, hours=12)
    assert CertificateAuthority.open(tmp_path, now=clock).fingerprint_sha256 == old.fingerprint_sha256
    clock.advance(days=1)
    with pytest.raises(StartError, match="read-only"):
        CertificateAuthority.open(tmp_path, now=clock)


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StartError, match=r"no space left on device.*free some space") as caught:
        CertificateAuthority.open(tmp_path, now=clock)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_can_read_is_refused(authority: CertificateAuthority, clock: Clock, mode: int) -> None:
    key = authority.directory / "outrider-ca.key.pem"
    key.chmod(mode)
    with pytest.raises(StartError, match=r"can be used by others.*chmod 600"):
        CertificateAuthority.open(authority.directory, now=clock)


def test_a_key_of_another_user_is_refused(authority: CertificateAuthority, clock: Clock) -> None:
    if os.geteuid() != 0:
        pytest.skip("Only root can give a file away.")
    os.chown(authority.directory / "outrider-ca.key.pem", 12345, -1)
    with pytest.raises(StartError, match="another user"):
        CertificateAuthority.open(authority.directory, now=clock)


def break_key(folder: Path) -> None:
    (folder / "outrider-ca.key.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")


def empty_key(folder: Path) -> None:
    (folder / "outrider-ca.key.pem").write_bytes(b"")


def encrypt_key(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    pem = key.private_bytes(*form, serialization.BestAvailableEncryption(b"secret"))
    (folder / "outrider-ca.key.pem").write_bytes(pem)


def break_certificate(folder: Path) -> None:
    (folder / "outrider-ca.pem").write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def lose_key(folder: Path) -> None:
    (folder / "outrider-ca.key.pem").unlink()


def swap_key(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "outrider-ca.key.pem").write_bytes(ca_files.key_pem(key))


def folder_for_key(folder: Path) -> None:
    lose_key(folder)
    (folder / "outrider-ca.key.pem").mkdir(mode=0o700)


def dangling_key(folder: Path) -> None:
    lose_key(folder)
    (folder / "outrider-ca.key.pem").symlink_to(folder / "nowhere")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_key, "no usable private key"),
        (empty_key, "no usable private key"),
        (encrypt_key, "without passphrase"),
        (break_certificate, "no PEM certificate"),
        (lose_key, "lost its key"),
        (swap_key, "does not belong to the key"),
        (folder_for_key, "Cannot read"),
        (dangling_key, "Cannot read"),
    ],
)
def test_damaged_files_are_one_sentence_and_stay_untouched(
    authority: CertificateAuthority, clock: Clock, damage: object, words: str
) -> None:
    assert callable(damage)
    damage(authority.directory)
    before = sorted(path.name for path in authority.directory.iterdir())
    with pytest.raises(StartError, match=words) as caught:
        CertificateAuthority.open(authority.directory, now=clock)
    assert str(authority.directory) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in authority.directory.iterdir()) == before


def test_a_file_in_the_folders_place_is_one_sentence(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "ca").write_text("")
    with pytest.raises(StartError, match="not a folder"):
        CertificateAuthority.open(tmp_path / "ca", now=clock)


def test_a_clock_behind_the_ca_is_told(authority: CertificateAuthority, clock: Clock) -> None:
    clock.advance(days=-3)
    with pytest.raises(StartError, match="clock"):
        CertificateAuthority.open(authority.directory, now=clock)


# -- name constraints


@pytest.fixture
def constrained(tmp_path: Path, clock: Clock) -> CertificateAuthority:
    hosts = ("api.openai.com", "*.openai.azure.com", "bedrock-runtime.*.amazonaws.com")
    return CertificateAuthority.open(tmp_path / "ca", now=clock, name_constraints=hosts)


@pytest.mark.parametrize(
    "name", ["api.openai.com", "*.openai.azure.com", "bedrock-runtime.us-east-1.amazonaws.com", "my.openai.azure.com"]
)
def test_a_constrained_ca_serves_the_names_that_it_permits(constrained: CertificateAuthority, name: str) -> None:
    shake_hands(constrained.context_for(name), strict_client(constrained.certificate_pem), asked_name(name))


@pytest.mark.parametrize("name", ["www.example.com", "openai.com", "notapi.openai.com", "127.0.0.1", "::1"])
def test_a_constrained_ca_is_worthless_for_other_names(
    constrained: CertificateAuthority, clock: Clock, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ForbiddenError):
        constrained.mint(name)
    forged = issue_leaf(  # what a thief of the key would do
        constrained._key,
        constrained.certificate,
        key=ec.generate_private_key(ec.SECP256R1()).public_key(),
        name=name,
        now=clock(),
        end=clock() + timedelta(hours=1),
    )
    (tmp_path / "leaf.pem").write_bytes(certificate_pem_of(forged))
    words = (tool("openssl"), "verify", "-CAfile", str(constrained.certificate_path), str(tmp_path / "leaf.pem"))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "subtree violation" in done.stdout + done.stderr


def test_other_constraints_make_a_new_certificate_on_the_same_key(
    constrained: CertificateAuthority, clock: Clock
) -> None:
    same = CertificateAuthority.open(
        constrained.directory,
        now=clock,
        name_constraints=["bedrock-runtime.*.amazonaws.com", "*.openai.azure.com", "API.openai.com"],
    )
    assert same.fingerprint_sha256 == constrained.fingerprint_sha256
    free = CertificateAuthority.open(constrained.directory, now=clock)
    assert free.permitted == frozenset()
    assert free.certificate.public_key() == constrained.certificate.public_key()
    only_address = CertificateAuthority.open(constrained.directory, now=clock, name_constraints=["127.0.0.1"])
    shake_hands(only_address.context_for("127.0.0.1"), strict_client(only_address.certificate_pem), "127.0.0.1")
    with pytest.raises(ForbiddenError):
        only_address.mint("api.openai.com")


def test_a_constraint_that_would_permit_a_whole_top_level_domain_is_refused(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(StartError, match="too wide"):
        CertificateAuthority.open(tmp_path, now=clock, name_constraints=["*.com"])


# -- other people's CAs


def mitmproxy_folder(folder: Path, clock: Clock, *, days: int = 3650) -> Path:
    """A CA as mitmproxy writes it: RSA, key and certificate in one file, no path length, EKU serverAuth."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    words = ((NameOID.COMMON_NAME, "mitmproxy"), (NameOID.ORGANIZATION_NAME, "mitmproxy"))
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in words])
    uses = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock() - timedelta(days=2))
        .not_valid_after(clock() + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **uses), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    both = folder / "mitmproxy-ca.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    both.write_bytes(key.private_bytes(*form) + certificate_pem_of(certificate))
    both.chmod(0o600)
    return folder


def test_mitmproxys_folder_is_used_as_it_is(tmp_path: Path, clock: Clock) -> None:
    folder = mitmproxy_folder(tmp_path / "mitmproxy", clock)
    authority = CertificateAuthority.open(folder, now=clock)
    assert "mitmproxy" in authority.subject
    shake_hands(authority.context_for("api.openai.com"), strict_client(authority.certificate_pem), "api.openai.com")
    assert [path.name for path in folder.iterdir()] == ["mitmproxy-ca.pem"]


def test_mitmproxys_ca_is_imported_and_its_trust_holds(tmp_path: Path, clock: Clock) -> None:
    folder = mitmproxy_folder(tmp_path / "mitmproxy", clock)
    original = CertificateAuthority.open(folder, now=clock)
    imported = import_authority(folder, tmp_path / "ca", now=clock)
    assert imported.fingerprint_sha256 == original.fingerprint_sha256
    assert imported.certificate_path == tmp_path / "ca" / "outrider-ca.pem"
    assert stat.S_IMODE((tmp_path / "ca" / "outrider-ca.key.pem").stat().st_mode) == 0o600
    shake_hands(imported.context_for("api.openai.com"), strict_client(original.certificate_pem), "api.openai.com")
    clock.advance(days=3500)
    renewed = CertificateAuthority.open(tmp_path / "ca", now=clock)
    assert renewed.fingerprint_sha256 != original.fingerprint_sha256
    leaf = leaf_of(renewed.mint("a.example.com"))
    leaf.verify_directly_issued_by(original.certificate)


def test_an_import_never_replaces_a_ca(authority: CertificateAuthority, tmp_path: Path, clock: Clock) -> None:
    folder = mitmproxy_folder(tmp_path / "mitmproxy", clock)
    with pytest.raises(StartError, match="exists already"):
        import_authority(folder, authority.directory, now=clock)
    again = CertificateAuthority.open(authority.directory, now=clock)
    assert again.fingerprint_sha256 == authority.fingerprint_sha256


def test_an_import_of_nothing_or_of_an_expired_ca_is_refused(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(StartError, match="holds no CA"):
        import_authority(tmp_path / "empty", tmp_path / "ca", now=clock)
    folder = mitmproxy_folder(tmp_path / "mitmproxy", clock, days=10)
    clock.advance(days=11)
    with pytest.raises(StartError, match="expired"):
        import_authority(folder, tmp_path / "ca", now=clock)
    with pytest.raises(StartError, match="expired"):
        CertificateAuthority.open(folder, now=clock)
    assert not (tmp_path / "ca").exists()


def test_an_intermediate_travels_with_its_leaves(tmp_path: Path, clock: Clock) -> None:
    root_key = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    root = ca.issue_ca(root_key, clock(), days=30)
    own = ca.issue_ca(key, clock(), days=30)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
    )
    for extension in own.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    root_id = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id)
    intermediate = builder.add_extension(aki, critical=False).sign(root_key, hashes.SHA256())
    (tmp_path / "outrider-ca.key.pem").write_bytes(ca_files.key_pem(key))
    (tmp_path / "outrider-ca.key.pem").chmod(0o600)
    (tmp_path / "outrider-ca.pem").write_bytes(certificate_pem_of(intermediate))
    authority = CertificateAuthority.open(tmp_path, now=clock)
    assert len(ca_files.pem_blocks(authority.mint("api.openai.com"))) == 2
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=authority.certificate_pem.decode())
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    shake_hands(authority.context_for("api.openai.com"), client, "api.openai.com")


# -- roots


def test_the_bundle_is_the_systems_roots_and_this_ca(authority: CertificateAuthority, tmp_path: Path) -> None:
    roots = tmp_path / "roots.pem"
    roots.write_bytes(b"# a comment\r\n" + authority.mint("root.example.com").replace(b"\n", b"\r\n"))
    bundle = ca_files.pem_blocks(authority.bundle({"SSL_CERT_FILE": str(roots)}))
    assert len(bundle) == 2
    assert bundle[-1] == authority.certificate_pem


def test_a_bundle_of_ours_is_no_system_root(authority: CertificateAuthority) -> None:
    ours = authority.directory / "trust" / "bundle.pem"
    ours.parent.mkdir()
    ours.write_bytes(authority.mint("forgotten.example.com"))
    assert ours.read_bytes() not in authority.bundle({"SSL_CERT_FILE": str(ours)})


def test_roots_in_a_folder_are_read(tmp_path: Path, authority: CertificateAuthority) -> None:
    for number in range(3):
        (tmp_path / f"{number}.pem").write_bytes(authority.mint(f"h{number}.example.com"))
    (tmp_path / "README").write_text("nothing")
    assert len(ca_files.read_certificates(tmp_path)) == 3
    assert ca_files.read_certificates(tmp_path / "missing") == []
