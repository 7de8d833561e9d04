"""The CA's files: made once, private, whole or not at all; other people's CAs; the system's roots."""

import contextlib
import errno
import os
import shutil
import ssl
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from outrider.door import ca, ca_files
from outrider.door.ca import CertificateAuthority, import_authority
from outrider.door.ca_profile import certificate_pem_of
from outrider.errors import StartError
from support.authority import Clock, shake_hands, strict_client


@pytest.fixture
def clock() -> Clock:
    return Clock.real()


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path / "ca", now=clock)


def leaf_of(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed.")
    return found


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
        outputs = [racer.communicate(timeout=120) for racer in racers]
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
