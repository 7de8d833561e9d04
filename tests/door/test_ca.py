"""The interception CA: its profile before real verifiers, its names, its cache, its leaf key."""

import os
import shutil
import ssl
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.door import ca, ca_files
from outrider.door.ca import CertificateAuthority
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


# -- real clients, each against a CA without and with name constraints


@pytest.fixture(params=[(), ("api.openai.com", "localhost", "127.0.0.1")], ids=["free", "constrained"])
def signer(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path / "ca", now=clock, name_constraints=request.param)


@pytest.mark.parametrize("name", ["api.openai.com", "127.0.0.1"])
def test_curl_accepts_the_leaf(signer: CertificateAuthority, name: str) -> None:
    with tls_server(signer.context_for(name)) as port:
        words = (tool("curl"), "-sS", "--noproxy", "*", "--cacert", str(signer.certificate_path))
        done = subprocess.run(
            (*words, "--resolve", f"{name}:{port}:127.0.0.1", f"https://{name}:{port}/"),
            capture_output=True,
            text=True,
            timeout=120,
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
def test_node_accepts_the_leaf(signer: CertificateAuthority, name: str) -> None:
    clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    with tls_server(signer.context_for(name)) as port:
        done = subprocess.run(
            (tool("node"), "-e", NODE, str(port), name),
            env=clean | {"NODE_EXTRA_CA_CERTS": str(signer.certificate_path)},
            capture_output=True,
            text=True,
            timeout=120,
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
def test_java_accepts_the_leaf_by_the_trust_store(signer: CertificateAuthority, tmp_path: Path, name: str) -> None:
    (tmp_path / "Ask.java").write_text(JAVA)
    store = tmp_path / "store.p12"
    store.write_bytes(trust_store(signer.bundle()))
    options = (f"-Djavax.net.ssl.trustStore={store}", "-Djavax.net.ssl.trustStoreType=PKCS12")
    with tls_server(signer.context_for(name)) as port:
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
        (sys.executable, "-W", "error", "-c", script, *args), capture_output=True, text=True, timeout=120, check=False
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
    assert b"ENCRYPTED" in authority._leaf().pem
    shake_hands(authority.context_for("api.openai.com"), strict_client(authority.certificate_pem), "api.openai.com")
    assert private_keys_under(tmp_path) == [ca_files.KEY_NAME]


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
