"""A configuration from a file and variables: precedence, and every problem at once with its place."""

from pathlib import Path

import pytest

from outrider.config import Config, ConfigError, load, load_again, located
from outrider.config.trust import trust

PLANTED = "sk-proj-PLANTEDplanted0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    return {"HOME": str(tmp_path / "home")}


def write(folder: Path, text: str, name: str = "outrider.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def problems(text: str, tmp_path: Path, environ: dict[str, str]) -> list[str]:
    """The problems of a file, without the file's name."""
    path = write(tmp_path, text, "given.yaml")
    with pytest.raises(ConfigError) as failed:
        load(path, environ)
    assert failed.value.exit_code == 2
    assert str(failed.value) == "\n".join(map(str, failed.value.problems))
    return [str(problem).replace(f"{path}:", "") for problem in failed.value.problems]


def test_no_file_gives_the_embedded_default(tmp_path: Path, home: dict[str, str]) -> None:
    config = load(None, home, tmp_path)
    assert config.source == "<embedded>"
    assert config.path is None
    assert config.listen.proxy == ("127.0.0.1:8484", "[::1]:8484")
    assert config.ca.dir == Path(home["HOME"]) / ".outrider" / "ca"
    assert config.providers == {}


def test_the_flag_beats_the_variable_and_the_variable_beats_the_folder(tmp_path: Path, home: dict[str, str]) -> None:
    write(tmp_path, "http2: tunnel\ntelemetry: {log_level: debug}")
    named = write(tmp_path, "telemetry: {log_level: error}", "named.yaml")
    flag = write(tmp_path, "telemetry: {log_level: warning}", "flag.yaml")
    assert load(None, home, tmp_path).telemetry.log_level == "debug"
    environ = {**home, "OUTRIDER_CONFIG": "named.yaml"}
    assert load(None, environ, tmp_path).source == str(named)
    assert load(flag, environ, tmp_path).telemetry.log_level == "warning"
    environ["OUTRIDER__TELEMETRY__LOG_LEVEL"] = "info"
    assert load(flag, environ, tmp_path).telemetry.log_level == "info"


@pytest.mark.parametrize(
    ("variable", "value", "read"),
    [
        ("OUTRIDER__LISTEN__PROXY", "127.0.0.1:0", lambda c: c.listen.proxy == ("127.0.0.1:0",)),
        ("OUTRIDER__LISTEN__PROXY", "[::1]:8484", lambda c: c.listen.proxy == ("[::1]:8484",)),
        ("OUTRIDER__LISTEN__PROXY", "9000", lambda c: c.listen.proxy == ("127.0.0.1:9000", "[::1]:9000")),
        ("OUTRIDER__LISTEN__ADMIN", "null", lambda c: c.listen.admin == ()),
        ("OUTRIDER__TIMEOUTS__DRAIN_S", "1.5", lambda c: c.timeouts.drain_s == 1.5),
        ("OUTRIDER__CA__NAME_CONSTRAINTS", "true", lambda c: c.ca.name_constraints),
        ("OUTRIDER__TELEMETRY__LOG", "off", lambda c: c.telemetry.log == "off"),
        ("OUTRIDER__PROVIDERS__GROQ__CREDENTIAL__ENV", "K", lambda c: "groq" in c.providers),
        ("OUTRIDER__LIMITS", "[{name: a, requests: 5/s}]", lambda c: [str(x.requests) for x in c.limits] == ["5/s"]),
        ("OUTRIDER__PROVIDERS__MY_LLM__INTERCEPT", "false", lambda c: not c.providers["my-llm"].intercept),
        ("OUTRIDER__EGRESS__ALLOW_PRIVATE__0", "10.1.0.0/16", lambda c: c.egress.allow_private == ("10.1.0.0/16",)),
    ],
)  # fmt: skip
def test_a_variable_stands_over_the_file(tmp_path: Path, home: dict[str, str], variable: str, value: str, read) -> None:
    text = "providers: {my-llm: {kind: vllm, connect_to: 'http://h'}}\negress: {allow_private: [10.0.0.0/8]}"
    path = write(tmp_path, text, "f.yaml")
    assert not read(load(path, home))
    assert read(load(path, {**home, variable: value}))


def test_a_variables_problem_names_the_variable(tmp_path: Path, home: dict[str, str]) -> None:
    environ = {
        **home,
        "OUTRIDER__EGRESS__DEFAULT": "maybe",
        "OUTRIDER__LISTEN__PORT": "1",
        "OUTRIDER__LIMITS__0__NAME": "x",
        "OUTRIDER__CAPS____X": "1",
        "OUTRIDER__HTTP2__DEEP": "1",
    }
    with pytest.raises(ConfigError) as failed:
        load(None, environ, tmp_path)
    said = {problem.where: problem for problem in failed.value.problems}
    assert said["$OUTRIDER__EGRESS__DEFAULT"].sentence == "must be 'tunnel' or 'deny', not 'maybe'"
    assert "unknown key" in said["$OUTRIDER__LISTEN__PORT"].sentence
    assert set(said) == {f"${name}" for name in environ if name != "HOME"}


def test_every_problem_is_reported_at_once_with_file_line_and_key(tmp_path: Path, home: dict[str, str]) -> None:
    text = """\
listn: {}
egress: {default: maybe}
providers:
  openia: {}
  local:
    kind: opnai
    hosts: ["*.com", "a b", "x:99999"]
    connect_to: ftp://x
limits:
  - {name: a, requests: 600/m, providers: [foo]}
  - {requests: 1/s}
  - {name: a, requests: 0/s, burst: 0}
timeouts: {connect_s: "5", tls_s: 400}
caps: {head_bytes: 1.5}
"""
    said = problems(text, tmp_path, home)
    places = [":".join(line.split(":")[:2]) for line in said]
    assert sorted(places) == sorted(
        [
            "1: listn", "2: egress.default", "4: providers.openia", "6: providers.local.kind",
            "7: providers.local.hosts[0]", "7: providers.local.hosts[1]", "7: providers.local.hosts[2]",
            "8: providers.local.connect_to", "10: limits[0].requests", "10: limits[0].providers[0]",
            "11: limits[1].name",
            "12: limits[2].name", "12: limits[2].requests", "12: limits[2].burst", "13: timeouts.connect_s",
            "13: timeouts.tls_s", "14: caps.head_bytes",
        ]
    )  # fmt: skip
    assert "did you mean listen?" in said[0]
    assert "did you mean openai?" in said[2]
    assert [int(line.split(":")[0]) for line in said] == sorted(int(line.split(":")[0]) for line in said)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version: 2", "1: version: must be 1 in this version, not 2"),
        ("state: redis", "1: state.url: must be memory, shm or an address such as redis://redis.internal:6379"),
        ("- a", "1: must be sections"),
        ("a: b: c", "1: is not YAML: a second ': ' on one line"),
        ("listen:\n\tproxy: 1", "2: is not YAML: a tab"),
        ("listen: [", "is not YAML"),
        ("listen:\n  proxy: [::1]:8484", "2: is not YAML"),
        ("http2: deny\nhttp2: deny", "2: http2: is given twice (first in line 1)"),
        ("a: 1\n---\nb: 2", "2: a second document starts here"),
        ("http2: !!python/object:os.system deny", "1: a tag (!name) is not used here"),
        ("http2: *nowhere", "1: an alias (*name) needs an anchor"),
        ("limits: &a [*a]", "1: an alias (*name) needs an anchor"),
        ("listen: 5", "1: listen: must be a section (key: value), not 5"),
        ("providers: {openai: 5}", "1: providers.openai: must be a section"),
        ("providers: []", "1: providers: must be a section (key: value), not a list"),
        ("limits: {a: 1}", "1: limits: must be a list, not a section"),
        ("limits: [{name: a, requests: 1/s, key: [team]}]", "key[0]: must be principal.id, principal.team"),
        ("limits: [{name: a, requests: 1/s, providers: []}]", "providers: needs at least 1 entry"),
        ("usage: {inject_stream_usage: yes}", "must be true or false, not 'yes'"),
        ("listen: {max_connections: true}", "must be a whole number, not true"),
        ("timeouts: {connect_s: 0}", "must be more than 0"),
        ("timeouts: {connect_s: .inf}", "must be a number"),
        ("listen: {proxy: []}", "listen.proxy: needs at least 1 entry"),
        ('listen: {proxy: "unix:run/s"}', "listen.proxy: must be an absolute path after unix:"),
        (f'listen: {{proxy: "unix:/{"x" * 107}"}}', "listen.proxy: has a path of more than 107 bytes"),
        ('listen: {proxy: "unix:/s", admin: "unix:/s"}', "listen.admin: takes unix:/s, which listen.proxy has already"),
        ('listen: {transparent: "unix:/s"}', "listen.transparent: takes redirected TCP connections only"),
        ('{workers: 2, listen: {proxy: "unix:/s"}}', "listen.proxy: cannot be a Unix socket with several workers"),
        ("listen: {unix_mode: 384}", "listen.unix_mode: must be three octal digits in quotes"),
        ("principals: [{id: anonymous}]", "principals[0].id: is what callers are called whom nothing names"),
        ("principals: [{id: a}, {id: a}]", "principals[1].id: is the second principal called 'a'"),
        ("principals: [{id: a, from: {users: [65534]}}]", "principals[0].from.users[0]: must not be 65534"),
        ("principals: [{id: a, uids: [-1]}]", "principals[0].uids[0]: must be a user's or group's number or name"),
        ("principals: [{id: a, uids: [true]}]", "principals[0].uids[0]: must be a user's or group's number or name"),
        ("principals: [{id: a, from: {pod: {}}}]", "principals[0].from.pod: asks for nothing"),
        ("principals: [{id: a, from: {keys: [{hash: x}]}}]", "principals[0].from.keys[0].hash: must be hmac-sha256:"),
        ("virtual_keys: {revoked: [x]}", "virtual_keys.revoked[0]: must be a key's hash"),
        ("listen: {proxy: example.com:80}", "must be an IP address of this machine with a port"),
        ("listen: {proxy: 127.0.0.1:70000}", "needs a port from 0 to 65535"),
        ("listen: {proxy: [localhost:1, '127.0.0.1:1']}", "names the same entry twice"),
        ("listen: {admin: 127.0.0.1:8484}", "listen.admin: takes 127.0.0.1:8484, which listen.proxy has already"),
        ("listen: {proxy: 127.0.0.1:8485}", "listen.proxy: takes 127.0.0.1:8485, which listen.admin has already"),
        ("listen: {allowed_origins: [example.com]}", "must be an origin such as"),
        ("egress: {allow_private: [10.0.0.1/8]}", "must be a network such as 10.0.0.0/8"),
        ("upstream: {proxy: 'https://p:1'}", "upstream.proxy: must be a URL such as http://proxy"),
        ("providers: {v1: {kind: openai}}", "providers.v1: cannot be a provider's name"),
        ("providers: {openai: {kind: anthropic}}", "kind: is not for openai, which is built in"),
        ("providers: {openai: {credential: {env: A, file: B}}}", "needs exactly one of env, file, aws and google"),
        ("providers: {openai: {credential: {}}}", "needs exactly one of env, file, aws and google"),
        ("providers: {openai: {credential: {google: default}}}", "credential.google: is for vertex only"),
        ("providers: {vertex: {project: 'a/b'}}", "vertex.project: must be a Google Cloud project"),
        ("providers: {azure: {api_version: v1}}", "azure.api_version: must be an API version"),
        ("providers: {openai: {credential: {aws: x}}}", "credential.aws: signs for bedrock only"),
        ("providers: {openai: {api_key: x}}", "unknown key; a key itself never stands in the file"),
        ("providers: {openai: {base_url: x}}", "unknown key; use connect_to:"),
        ("providers: {bedrock: {credential: {aws: x}, connect_to: 'http://h'}}", "bedrock.region: is missing"),
        ("providers: {openai: {connect_to: 'http://h/v1'}}", "may not have a path or query"),
        ("providers: {openai: {hosts: ['*']}}", "have '*' as its whole first label"),
        ("providers: {openai: {hosts: [h.x]}, groq: {hosts: [H.x.]}}", "names 'H.x.', which providers.openai claims"),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_sentence_that_says_where_and_what(text: str, says: str, tmp_path: Path, home) -> None:
    said = problems(text, tmp_path, home)
    assert len(said) == 1, said
    assert says in said[0]
    assert ";" in said[0] or "must be" in said[0] or "needs" in said[0]


@pytest.mark.parametrize(
    "text",
    [
        f"providers: {{openai: {{credential: {PLANTED}}}}}",
        f"providers: {{openai: {{credential: {{env: {PLANTED}}}}}}}",
        f"providers: {{openai: {{credential: {{env: [{PLANTED}]}}}}}}",
        f"providers: {{openai: {{api_key: {PLANTED}}}}}",
        f"providers: {{openai: {{{PLANTED}: 1}}}}",
        f"{PLANTED}: 1",
        f"http2: {PLANTED}",
        f"listen: {{proxy: {PLANTED}}}",
        f"providers: {{openai: {{hosts: ['{PLANTED}/x']}}}}",
        f"providers: {{openai: {{connect_to: 'http://u:{PLANTED}@h'}}}}",
        f"upstream: {{proxy: 'ftp://u:{PLANTED}@h'}}",
        f"limits: [{{name: '{PLANTED}!', requests: {PLANTED}, providers: [{PLANTED}]}}]",
        f"version: {PLANTED}\nstate: [{PLANTED}\n",
    ],
)
def test_no_problem_repeats_a_key_that_was_put_in_the_wrong_place(text: str, tmp_path: Path, home) -> None:
    assert "PLANTED" not in "\n".join(problems(text, tmp_path, home))


def test_anchors_and_merge_keys_work(tmp_path: Path, home: dict[str, str]) -> None:
    text = """\
providers:
  a: &base {kind: openai, connect_to: "http://h:1", byok: deny}
  b: {<<: *base, connect_to: "http://h:2"}
  c: *base
"""
    found = load(write(tmp_path, text, "f.yaml"), home).providers
    assert [found[name].connect_to for name in "abc"] == ["http://h:1", "http://h:2", "http://h:1"]
    assert found["b"].byok == "deny"


def test_an_alias_bomb_is_refused_quickly(tmp_path: Path, home: dict[str, str]) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "unfolds to more than" in problems("\n".join(lines), tmp_path, home)[0]


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 200, "- " * 500, "x: [" + "1," * 30_000 + "]"])
def test_deep_and_large_documents_are_refused(text: str, tmp_path: Path, home: dict[str, str]) -> None:
    assert len(problems(text, tmp_path, home)) == 1


def test_a_file_that_cannot_be_read_gets_one_sentence(tmp_path: Path, home: dict[str, str]) -> None:
    for path, says in (
        (tmp_path / "missing.yaml", "cannot be read: no such file"),
        (tmp_path, "cannot be read: is a directory"),
        (write(tmp_path, "#" * (4 << 20) + "#", "big.yaml"), "is larger than 4194304 bytes"),
    ):
        with pytest.raises(ConfigError, match=says):
            load(path, home)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"version: 1\n# \xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.yaml:2: is not UTF-8"):
        load(binary, home)
    binary.write_bytes(b"version: 1\n\x00: 2\n")
    with pytest.raises(ConfigError, match=r"not YAML|does not allow"):
        load(binary, home)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "limits:\nproviders:\n  openai:\nlisten:\n", "\ufeffversion: 1\r\n"]
)
def test_an_empty_key_is_its_default(text: str, tmp_path: Path, home: dict[str, str]) -> None:
    config = load(write(tmp_path, text, "f.yaml"), home)
    assert config.listen == load(None, home, tmp_path).listen
    assert config.limits == ()


def test_relative_paths_start_at_the_files_folder_and_a_tilde_at_the_home(tmp_path: Path, home: dict[str, str]) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    text = "ca: {dir: ./ca}\nproviders: {openai: {credential: {file: ~/key}, upstream_ca: /abs.pem}}"
    config = load(write(folder, text), home, tmp_path)
    openai = config.providers["openai"]
    assert config.ca.dir == folder / "ca"
    assert openai.credential is not None
    assert openai.credential.file == Path(home["HOME"]) / "key"
    assert openai.upstream_ca == Path("/abs.pem")


RESTRICTED = """\
egress: {default: deny}
upstream: {proxy: "http://evil:1", ca: evil.pem, pool_max_idle: 1}
ca: {dir: ./ca}
providers:
  openai: {credential: {env: K}, hosts: [evil.com], connect_to: "http://evil", upstream_ca: evil.pem, byok: deny}
listen: {allowed_origins: ["http://evil"]}
principals: [{id: evil, from: {users: [0]}}]
anonymous: deny
proxy_token: ignore
virtual_keys: {hmac_key: known}
cache: {semantic: {onnx: {model: evil.onnx, tokenizer: evil.json}}}
"""


def test_a_file_that_was_only_found_may_not_say_where_secrets_go(tmp_path: Path, home: dict[str, str]) -> None:
    path = write(tmp_path, RESTRICTED)
    with pytest.raises(ConfigError) as failed:
        load(None, home, tmp_path)
    assert {problem.key for problem in failed.value.problems} == {
        "egress", "upstream.proxy", "upstream.ca", "ca.dir", "providers.openai.credential", "providers.openai.hosts",
        "providers.openai.connect_to", "providers.openai.upstream_ca", "listen.allowed_origins",
        "principals", "anonymous", "proxy_token", "virtual_keys", "cache.semantic.onnx",
    }  # fmt: skip
    assert all("outrider trust" in problem.sentence for problem in failed.value.problems)
    assert str(failed.value).startswith("outrider.yaml:1: egress: ")
    assert load(path, home).source == str(path)
    assert load(None, {**home, "OUTRIDER_CONFIG": str(path)}, tmp_path).source == str(path)


def test_trust_is_for_one_content_at_one_path_and_a_list_only_we_can_write(
    tmp_path: Path, home: dict[str, str]
) -> None:
    path = write(tmp_path, RESTRICTED)
    trusted = trust(path, home)
    assert trusted.stat().st_mode & 0o777 == 0o600
    assert load(None, home, tmp_path).egress.default == "deny"
    trusted.chmod(0o666)
    with pytest.raises(ConfigError):
        load(None, home, tmp_path)
    trusted.chmod(0o600)
    write(tmp_path, RESTRICTED + "# changed\n")
    with pytest.raises(ConfigError):
        load(None, home, tmp_path)
    trust(path, home)
    assert load(None, home, tmp_path).egress.default == "deny"
    assert len(trusted.read_text().splitlines()) == 1
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(elsewhere, path.read_text())
    with pytest.raises(ConfigError):
        load(None, home, elsewhere)


def test_a_variable_may_set_what_a_found_file_may_not(tmp_path: Path, home: dict[str, str]) -> None:
    write(tmp_path, "http2: tunnel")
    assert load(None, {**home, "OUTRIDER__EGRESS__DEFAULT": "deny"}, tmp_path).egress.default == "deny"


def test_a_proxys_password_is_a_secret(tmp_path: Path, home: dict[str, str]) -> None:
    config = load(None, {**home, "OUTRIDER__UPSTREAM__PROXY": f"http://user:{PLANTED}@Proxy.example:3128"}, tmp_path)
    proxy = config.upstream.proxy
    assert proxy is not None
    assert (proxy.host, proxy.port, str(proxy)) == ("proxy.example", 3128, "http://****@proxy.example:3128")
    assert proxy.origin == "http://proxy.example:3128"
    assert proxy.authorization is not None
    assert proxy.authorization.expose().startswith(b"Basic ")
    assert "PLANTED" not in repr(config)
    config = load(None, {**home, "OUTRIDER__UPSTREAM__PROXY": "http://[fd00::1]"}, tmp_path)
    assert config.upstream.proxy is not None
    assert config.upstream.proxy.origin == "http://[fd00::1]:80"


def test_a_config_knows_where_each_key_was_set(tmp_path: Path, home: dict[str, str]) -> None:
    path = write(tmp_path, "version: 1\nproviders:\n  openai:\n    byok: deny\n", "f.yaml")
    config = load(path, {**home, "OUTRIDER__HTTP2": "tunnel"})
    assert config.where("providers", "openai", "byok") == f"{path}:4"
    assert config.where("providers", "openai", "hosts") == f"{path}:3"
    assert config.where("http2") == "$OUTRIDER__HTTP2"
    assert config.where("caps", "head_bytes") == str(path)
    assert str(located(config, ["providers.openai.hosts: no."])) == f"{path}:3: providers.openai.hosts: no"


def test_a_config_is_frozen(tmp_path: Path, home: dict[str, str]) -> None:
    config = load(None, home, tmp_path)
    with pytest.raises(ValueError, match="frozen"):
        config.http2 = "tunnel"  # type: ignore[misc]
    assert Config().http2 == "deny"


def test_a_found_file_is_trusted_no_more_at_a_reload_than_at_the_start(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    path = tmp_path / "outrider.yaml"
    path.write_text("egress: null\n")
    config = load(None, environ, tmp_path)
    assert config.only_found
    path.write_text("providers: {openai: {connect_to: 'http://127.0.0.1:1'}}\n")
    with pytest.raises(ConfigError, match="may not set this"):
        load_again(config, environ)
    trust(path, environ)
    assert load_again(config, environ).providers["openai"].connect_to == "http://127.0.0.1:1"
    path.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_again(config, environ)


def test_a_named_file_is_loaded_again_as_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("http2: deny\n")
    config = load(path, {}, tmp_path)
    path.write_text("egress: {default: deny}\n")
    assert not config.only_found
    assert load_again(config, {}).egress.default == "deny"
