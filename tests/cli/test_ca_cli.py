"""`outrider ca` and `outrider env` as a person or a shell runs them."""

import os
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs12

from outrider.cli.env import proxy_url_of, quoted
from outrider.cli.main import main
from outrider.door.ca_files import pem_blocks
from outrider.errors import StartError
from outrider.runtimes import BASE_URLS, VARIABLES


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of the machine's decides what is printed; the working folder holds no configuration."""
    for name in [row.name for row in (*VARIABLES, *BASE_URLS)] + ["ALL_PROXY", "all_proxy", "SSL_CERT_DIR"]:
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("OUTRIDER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_show_makes_the_ca_once_and_prints_what_a_person_compares(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, "ca", "show")
    assert (code, err) == (0, "")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert rows["subject"].startswith("CN=Outrider CA ")
    assert rows["file"] == str(tmp_path / ".outrider" / "ca" / "outrider-ca.pem")
    assert len(rows["sha256"].split(":")) == 32
    facts = orjson.loads(run(capsys, "ca", "show", "--json")[1])
    assert facts["fingerprint_sha256"] == rows["sha256"]
    assert rows["valid"] == f"{facts['not_before']} to {facts['not_after']}"
    assert (facts["permitted"], rows["names"]) == ([], "any")


def test_the_folder_comes_from_dir_or_else_from_the_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(f"version: 1\nca: {{dir: {tmp_path}/configured, name_constraints: true}}\n")
    facts = orjson.loads(run(capsys, "ca", "show", "--json", "--config", str(tmp_path / "mine.yaml"))[1])
    assert facts["path"] == str(tmp_path / "configured" / "outrider-ca.pem")
    assert "api.openai.com" in facts["permitted"]
    facts = orjson.loads(run(capsys, "ca", "show", "--json", "--dir", str(tmp_path / "other"))[1])
    assert facts["path"] == str(tmp_path / "other" / "outrider-ca.pem")


def test_the_bundle_goes_to_a_file_in_both_formats(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "ca", "bundle", "--ca-only", "--out", str(tmp_path / "ca.pem"))[:2] == (0, "")
    certificate = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    assert "Outrider CA" in certificate.subject.rfc4514_string()
    assert main(["ca", "bundle", "--out", str(tmp_path / "all.pem")]) == 0
    blocks = pem_blocks((tmp_path / "all.pem").read_bytes())
    assert (tmp_path / "ca.pem").read_bytes() in blocks
    assert main(["ca", "bundle", "--ca-only", "--format", "p12", "--out", str(tmp_path / "ca.p12")]) == 0
    store = pkcs12.load_pkcs12((tmp_path / "ca.p12").read_bytes(), b"changeit")
    assert [entry.certificate for entry in store.additional_certs] == [certificate]


def test_the_bundle_goes_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["ca", "bundle", "--ca-only"]) == 0
    captured = capfdbinary.readouterr()
    assert len(pem_blocks(captured.out)) == 1
    assert captured.err == b""


def test_a_bundle_that_cannot_be_written_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = run(capsys, "ca", "bundle", "--out", str(tmp_path / "no" / "where.pem"))
    assert (code, out) == (1, "")
    assert err.startswith(f"outrider: Cannot write {tmp_path}/no/where.pem (no such file or directory)")
    assert len(err.splitlines()) == 1


def test_a_ca_is_imported_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = orjson.loads(run(capsys, "ca", "show", "--json", "--dir", str(tmp_path / "theirs"))[1])
    words = ("ca", "import", str(tmp_path / "theirs"), "--dir", str(tmp_path / "ours"))
    code, _, err = run(capsys, *words)
    assert (code, err.split()[0]) == (0, "imported")
    ours = orjson.loads(run(capsys, "ca", "show", "--json", "--dir", str(tmp_path / "ours"))[1])
    assert ours["fingerprint_sha256"] == shown["fingerprint_sha256"]
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "exists already" in err


def test_a_broken_configuration_or_key_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(capsys, "ca", "show", "--config", str(tmp_path / "missing.yaml"))
    assert code == 2
    assert "missing.yaml" in err
    run(capsys, "ca", "show")
    key = tmp_path / ".outrider" / "ca" / "outrider-ca.key.pem"
    key.chmod(0o644)
    code, out, err = run(capsys, "env")
    assert (code, out) == (1, "")
    assert err == f"outrider: {key} can be used by others (mode 0644): run `chmod 600 {key}`.\n"


# -- env: every format by what reads it


def shell_variables(shell: str, script: str, **more: str) -> dict[str, str]:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed.")
    base = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]} | more
    done = subprocess.run((found,), input=script + "\nenv -0\n", env=base, capture_output=True, text=True, check=True)
    return dict(item.split("=", 1) for item in done.stdout.split("\0") if "=" in item)


@pytest.mark.parametrize("shell", ["sh", "fish"])
def test_what_env_prints_is_what_the_shell_sets(capsys: pytest.CaptureFixture[str], tmp_path: Path, shell: str) -> None:
    place = ("--dir", str(tmp_path / "it's a folder"))
    wanted = orjson.loads(run(capsys, "env", "--format", "json", *place)[1])
    script = run(capsys, "env", "--format", shell, *place)[1]
    found = shell_variables(shell, script)
    assert {name: found[name] for name in wanted} == wanted
    for name in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
        assert Path(wanted[name]).is_file()


HOSTILE = {"A": "a'b\"c $HOME `id` \\ \\' | & ; # !x *", "B": "", "C": "-n", "D": "two\nlines", "E": "%s é"}


@pytest.mark.parametrize("shell", ["sh", "fish"])
def test_no_value_escapes_its_quotes(shell: str) -> None:
    found = shell_variables(shell, quoted(HOSTILE, shell))
    assert {name: found[name] for name in HOSTILE} == HOSTILE


def test_an_env_file_takes_values_as_they_are_and_no_line_break() -> None:
    assert quoted({"A": "a'b $c|d", "B": ""}, "docker") == "A=a'b $c|d\nB=\n"
    with pytest.raises(ValueError, match="D holds a line break"):
        quoted(HOSTILE, "docker")


def test_the_docker_and_json_forms_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    lines = run(capsys, "env", "--format", "docker")[1].splitlines()
    assert dict(line.split("=", 1) for line in lines) == orjson.loads(run(capsys, "ca", "env", "--format", "json")[1])


def test_curl_reads_the_printed_variables(capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed.")
    script = run(capsys, "env", "--proxy", "http://127.0.0.1:1")[1] + "\ncurl -sv https://api.openai.com/ || true\n"
    done = subprocess.run(
        ("sh",), input=script, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True
    )
    assert "127.0.0.1:1" in done.stderr.replace(" port ", ":")
    assert "error setting certificate" not in done.stderr


def test_base_urls_need_no_ca_and_follow_the_configuration(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "version: 1\nlisten: {proxy: '0.0.0.0:9000'}\nproviders: {bedrock: {region: us-east-1}}\n"
    )
    code, out, _ = run(capsys, "env", "--base-url", "--format", "json", "--config", str(tmp_path / "c.yaml"))
    values = orjson.loads(out)
    assert code == 0
    assert values["OPENAI_BASE_URL"] == "http://127.0.0.1:9000/openai/v1"
    assert values["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] == "http://127.0.0.1:9000/bedrock"
    assert "AZURE_OPENAI_ENDPOINT" not in values
    assert not (tmp_path / ".outrider").exists()


def test_what_was_not_merged_is_said_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet.example,.openai.com")
    code, out, err = run(capsys, "env", "--format", "json")
    assert code == 0
    assert orjson.loads(out)["NO_PROXY"] == "localhost,127.0.0.1,::1,intranet.example"
    assert err.splitlines() == [
        "outrider: NO_PROXY entry '.openai.com' is left out: it covers a provider, or httpx would fail on it."
    ]


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8484", "https://127.0.0.1:8484", "http://", "http://h:x", "http://h:1/p", "http://h"]
)
def test_a_proxy_that_is_no_proxy_url_is_refused(capsys: pytest.CaptureFixture[str], url: str) -> None:
    code, out, err = run(capsys, "env", "--proxy", url)
    assert (code, out) == (2, "")
    assert "http://127.0.0.1:8484" in err


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1:8484", "http://127.0.0.1:8484"),
        ("[::1]:8484", "http://[::1]:8484"),
        ("0.0.0.0:1", "http://127.0.0.1:1"),
        ("[::]:1", "http://[::1]:1"),
    ],
)
def test_a_listener_is_reached_by_an_address_of_this_machine(address: str, url: str) -> None:
    assert proxy_url_of((address,)) == url


def test_a_free_port_cannot_be_named_beforehand() -> None:
    with pytest.raises(StartError, match="--proxy"):
        proxy_url_of(("127.0.0.1:0",))
