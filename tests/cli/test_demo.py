"""`outrider demo` as a process, and how it shows itself."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from outrider.cli.demo import environment, median
from outrider.cli.demo_screen import Screen, masked

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_demo_shows_the_whole_job_without_key_or_network_and_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="The demo's app needs the openai SDK.")
    pytest.importorskip("anthropic", reason="The demo's app needs the anthropic SDK.")
    (tmp_path / "tmp").mkdir()
    own = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
        "OPENAI_API_KEY": "sk-users-own-0123456789",
        "OPENAI_BASE_URL": "http://127.0.0.1:9/v1",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "OUTRIDER_CONFIG": "/no/such.yaml",
    }
    done = subprocess.run(
        [sys.executable, "-m", "outrider", "demo"],
        env=own,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout
    assert "\x1b" not in text
    assert "users-own" not in text
    assert re.search(r"my OPENAI_API_KEY    is sk-outrider-\S{2}…\S{4}\n", text)
    assert re.search(r"provider  got POST api\.openai\.com/v1/chat/completions .*Bearer sk-demo-openai…", text)
    assert re.search(r"provider  got POST api\.anthropic\.com/v1/messages .*sk-demo-anthro…", text)
    assert "counted 14 input and 14 output tokens of openai" in text
    assert said_by(text) == ["claude-sonnet-4-6", "gpt-4o", "gpt-4o"]
    down, failover = text.index("answered 503: it is down\n"), text.index("\nfailover  gpt-4o goes on to anthropic/")
    again, memory = text.index("and once more:"), text.index("\ncache     asked before: answered from memory")
    assert text.index("asking gpt-4o:") < down < failover < again < memory
    assert "RateLimitError 429" in text
    assert re.search(r"median overhead \d+ µs", text)
    shown = README.read_text().partition("```text\n== Outrider")[2].partition("```")[0]
    assert shape_of(f"== Outrider{shown}") == shape_of(text)
    assert not list((tmp_path / "tmp").iterdir())
    assert not (tmp_path / ".outrider").exists()


def said_by(text: str) -> list[str]:
    """Who served the answers of gpt-4o, as the SDK read it."""
    return re.findall(r"^app         Echo: .* \(says (\S+)\)$", text, re.M)


def shape_of(text: str) -> list[str]:
    """Its lines without what another run says differently: keys, ports, times, how full the limit was."""
    text = re.sub(r"sk-\S+", "KEY", text)
    return sorted(re.sub(r"\d+(\.\d+)?", "0", line).rstrip() for line in text.splitlines())


def test_without_the_sdks_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'openai' else real(name, *a)\n"
        "from outrider.cli.main import main; sys.exit(main(['demo']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "outrider: the demo's app needs the SDK of openai: pip install 'outrider[demo]'\n"


def test_nothing_of_the_users_keys_proxies_or_settings_enters_the_demo(tmp_path: Path) -> None:
    own = {
        "PATH": "/bin",
        "OPENAI_API_KEY": "mine",
        "GROQ_API_KEY": "mine",
        "https_proxy": "mine",
        "SSL_CERT_FILE": "mine",
    }
    environ = environment(own, tmp_path)
    assert "mine" not in environ.values()
    assert environ["PATH"] == "/bin"
    assert environ["HOME"] == str(tmp_path)


def test_a_line_of_ours_never_cuts_a_line_of_the_apps() -> None:
    out = io.StringIO()
    screen = Screen(out)
    for piece in ("one ", "two", " three\nfour", "\n"):
        screen.app(piece)
        screen.say("sidecar", "seen")
    assert out.getvalue() == (
        "app       one two three\nsidecar   seen\nsidecar   seen\napp       four\nsidecar   seen\nsidecar   seen\n"
    )


def test_a_terminal_gets_colours_and_the_same_words() -> None:
    rich = pytest.importorskip("rich", reason="Rich is not installed.")
    assert rich
    out = io.StringIO()
    screen = Screen(out, rich=True)
    screen.title("title")
    screen.app("[bold]not markup\n")
    screen.table("numbers", ("a", "b"), [("1", "2")])
    for words in ("title", "[bold]not markup", "numbers", "1", "2"):
        assert words in out.getvalue()


def test_keys_are_shown_with_their_middle_left_out() -> None:
    assert masked("Bearer sk-demo-openai-0123456789abcdef!") == "Bearer sk-demo-openai…cdef!"
    assert masked("no key") == "no key"


@pytest.mark.parametrize(
    ("counts", "value"),
    [([0, 0, 0], 0.0), ([4, 0, 0], 0.5), ([1, 2, 0], 1.25), ([0, 0, 3], 2.0), ([2, 2, 0], 1.0)],
)
def test_the_median_of_a_histogram_lies_within_its_cell(counts: list[int], value: float) -> None:
    assert median((1.0, 2.0), counts) == value
