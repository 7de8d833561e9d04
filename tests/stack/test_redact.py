"""The layer's own parts: the fast way over bytes, configuration, events that are compared and not parsed."""

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.cli.main import main
from outrider.errors import BadRequestError, ForbiddenError
from outrider.govern.redact.actions import Vault
from outrider.govern.redact.events import Events
from outrider.govern.redact.plan import Catalogue, Plans
from outrider.govern.redact.texts import walk
from outrider.govern.redaction import RedactError, Redaction
from outrider.stack.redact import Redacting, SseRedactor, redact_other, redact_parts, ways_of
from outrider_ext.bodytext import body_text
from outrider_ext.eventholes import NUMBER, PADDING, TEXT, Template, is_plain
from outrider_ext.redacthooks import BodyScan
from support.exchanges import call, exchange, snapshot

PLANS = Plans(Catalogue(), b"k" * 16, lambda *labels: None)
MASKS = PLANS.of((Redaction(detectors=("pii", "secrets")),))
SAYINGS = [
    "Hi ", "ada@", "example.com", " \n", "é", '"', "\\", "4111 1111 ", "1111 1111 ", "sk-proj-", "A1" * 10, "password",
    ": ", "Xk29fjs0Qpz81!aQ", "\t", "/", "😀", "+49 170 1234567",
]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        "x\n4111 1111 1111 1111",
        "\t4111111111111111",
        '"ada@example.com"',
        "\b\f\rada@example.com",
        'config: "password": "Xk29fjs0Qpz81!aQ"',  # quotes belong to the pattern
        "\u2039é ada@example.com",
    ],
)
@pytest.mark.parametrize("to_ascii", [True, False])
def test_what_stands_behind_an_escape_is_hit(value: str, to_ascii: bool) -> None:
    body = json.dumps({"a": value}, ensure_ascii=to_ascii).encode()
    assert body_text(body) is not None
    assert MASKS.request is not None
    assert not BodyScan(MASKS.request.scanner.hits, MASKS, False).is_clean(body)


@settings(deadline=None)
@given(st.lists(st.sampled_from(SAYINGS), max_size=6), st.booleans())
def test_a_body_is_clean_only_if_each_of_its_texts_is(pieces: list[str], to_ascii: bool) -> None:
    value = {"messages": [{"role": "user", "content": "".join(pieces)}, {"content": [{"text": "".join(pieces[::-1])}]}]}
    scanner = MASKS.request.scanner  # type: ignore[union-attr]
    found: list[int] = []

    def visit(text: str, kind: str) -> None:
        found.extend(scanner.hits(text.encode()))

    walk(value, visit)
    is_clean = BodyScan(scanner.hits, MASKS, False).is_clean(json.dumps(value, ensure_ascii=to_ascii).encode())
    assert not (is_clean and found)


def event(text: str, number: int = 1, padding: str = "ab") -> bytes:
    value = {
        "type": "response.output_text.delta", "item_id": "m", "content_index": 0, "delta": text,
        "sequence_number": number, "obfuscation": padding,
    }  # fmt: skip
    return b"event: e\ndata: " + orjson.dumps(value) + b"\n\n"


class OneCall:
    strip_usage = False
    error = None


def redactor() -> SseRedactor:
    redacting = Redacting(MASKS, Vault())
    return SseRedactor(Events(ways_of(redacting)), OneCall(), redacting)  # type: ignore[arg-type]


def texts(out: bytes) -> list[str]:
    return [json.loads(line[6:])["delta"] for line in out.split(b"\n") if line.startswith(b"data: ")]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["Hi ", "ada@", "example.com", " \n", "é", '"q" ', "\\", "411", "1 1111 1111 1111 ", ""]),
        max_size=12,
    )
)
def test_events_that_are_compared_give_what_events_that_are_parsed_give(pieces: list[str]) -> None:
    known, parsed = redactor(), redactor()
    known.run(None, event("start "))  # type: ignore[arg-type]
    parsed.run(None, event("start "))  # type: ignore[arg-type]
    out = {"known": b"", "parsed": b""}
    for number, piece in enumerate(pieces):
        wire = event(piece, number, "x" * (number % 5))
        out["known"] += known.run(None, wire)  # type: ignore[arg-type]
        parsed._known = []
        out["parsed"] += parsed.run(None, wire)  # type: ignore[arg-type]
    out["known"] += known.end(None, b"")  # type: ignore[arg-type]
    out["parsed"] += parsed.end(None, b"")  # type: ignore[arg-type]
    assert texts(out["known"]) == texts(out["parsed"])


def test_an_event_is_compared_once_its_like_was_seen() -> None:
    one = redactor()
    one.run(None, event("Hello "))  # type: ignore[arg-type]
    assert one._known
    template = one._known[0][0]
    assert template.match(event("other", 99, "zzz"))
    assert not template.match(event("other").replace(b'"m"', b'"n"'))
    assert not template.match(event("other")[:-3])


def test_an_unfinished_event_at_the_end_is_read() -> None:
    out = redactor().end(None, event("mail ada@example.com")[:-2])  # type: ignore[arg-type]
    assert b"ada@" not in out
    assert texts(out) == ["mail ", "[EMAIL]"]


def test_data_that_is_no_json_is_redacted_as_text() -> None:
    assert redactor().run(None, b"data: ada@example.com\n\ndata: [DONE]\n\n") == b"data: [EMAIL]\n\ndata: [DONE]\n\n"  # type: ignore[arg-type]


def test_a_template_takes_nothing_but_its_holes() -> None:
    template = Template((b'{"n":', b',"p":"', b'","t":"', b'"}'), (NUMBER, PADDING, TEXT))
    assert template.match(b'{"n":12,"p":"","t":"a\\"b"}')
    assert (template.start, template.end, template.escaped) == (20, 24, True)
    for wrong in (b'{"n":012,"p":"","t":"a"}', b'{"n":,"p":"","t":"a"}', b'{"n":1,"p":"\\"","t":"a"}',
                  b'{"n":1,"p":"","t":"a"',
                  b'{"n":1,"p":"","t":"a"}}', b'{"n":1,"p":"","t":"a\n"}', b'{"n":1,"p":"","t":"a\\', b""):  # fmt: skip
        assert not template.match(wrong)
    with pytest.raises(ValueError, match="one text"):
        Template((b"", b""), (NUMBER,))


def test_what_is_plain_stands_in_json_as_it_is() -> None:
    assert is_plain("é x".encode())
    assert not is_plain(b'"') and not is_plain(b"\\") and not is_plain(b"\n")  # noqa: PT018


def test_bodies_that_are_no_json_object() -> None:
    redact = MASKS.request_text(Vault())
    assert redact_other(b'["ada@example.com"]', redact) == b'["[EMAIL]"]'
    assert redact_other(b'{"a":"ada@example.com"}\n{"b":"\\nada@example.com"}\n', redact) == (
        b'{"a":"[EMAIL]"}\n{"b":"\\n[EMAIL]"}\n'
    )
    assert redact_other(b"mail ada@example.com", redact) == b"mail [EMAIL]"
    assert redact_other(b"\xff\xfe ada@example.com", redact) == b"\xff\xfe ada@example.com"
    with pytest.raises(BadRequestError, match="boundary"):
        redact_parts(b"", b"multipart/form-data", redact)


# -- configuration


def config_problems(tmp_path: Path, redact: dict[str, Any]) -> list[str]:
    with pytest.raises(RedactError) as caught:
        snapshot(tmp_path, {}, redact=redact)
    return caught.value.problems


def test_every_problem_of_the_section_is_said_at_once(tmp_path: Path) -> None:
    problems = config_problems(
        tmp_path,
        {
            "always": [{"detectors": ["pii", "nobody"]}],
            "patterns": {"open": {"pattern": "id-[0-9]+"}, "email": {"pattern": "x"}, "bad": {"pattern": "("}},
            "words": {"none": [], "gone": str(tmp_path / "no-such-file")},
            "key": {"file": str(tmp_path / "no-key")},
        },
    )
    said = dict(problem.split(": ", 1) for problem in problems)
    assert set(said) == {
        "redact.patterns.open.pattern", "redact.patterns.email.pattern", "redact.patterns.bad.pattern",
        "redact.words.none", "redact.words.gone", "redact.key.file", "redact.always.0.detectors",
    }  # fmt: skip
    assert "has no bound" in said["redact.patterns.open.pattern"]
    assert "'nobody'" in said["redact.always.0.detectors"]


def test_check_names_the_key_of_a_pattern_without_a_bound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "outrider.yaml"
    path.write_text("version: 1\nredact:\n  patterns:\n    mine: {pattern: 'a+'}\n")
    assert main(["check", "--config", str(path)]) == 2
    assert "redact.patterns.mine.pattern" in capsys.readouterr().err


def test_own_patterns_and_words_are_detectors(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("Bluebird\nNight Heron\n")
    (tmp_path / "key").write_text("0123456789abcdef")
    one = snapshot(
        tmp_path,
        {},
        redact={
            "always": [{"detectors": ["ticket", "projects"], "action": "hash"}],
            "patterns": {"ticket": {"pattern": "T-[0-9]{3,9}"}},
            "words": {"projects": str(tmp_path / "words")},
            "key": {"file": str(tmp_path / "key")},
        },
    )
    layer = next(layer for layer in one._layers if type(layer).__name__ == "Redact")
    plan = layer._plan(None)
    first, second = (plan.request_text(Vault())(b"T-123 of Bluebird, T-123", "text") for _ in range(2))
    assert first == second
    assert first.startswith(b"[TICKET:")
    assert first.count(first[:21]) == 2
    assert b"[PROJECTS:" in first


def test_nothing_configured_costs_no_layer(tmp_path: Path) -> None:
    assert not any(type(layer).__name__ == "Redact" for layer in snapshot(tmp_path, {})._layers)


def test_the_strictest_action_counts() -> None:
    plan = PLANS.of((Redaction(detectors=("email",)), Redaction(detectors=("pii",), action="block")))
    assert plan.request is not None
    assert set(plan.request.actions) == {"block"}


# -- what was found


def test_a_call_knows_how_often_what_was_redacted(tmp_path: Path) -> None:
    one = snapshot(
        tmp_path, {}, redact={"always": [{"detectors": ["email", "payment_card"], "action": "pseudonymise"}]}
    )
    body = b'{"model":"m","messages":[{"role":"user","content":"a@example.com, b@example.com, 4111 1111 1111 1111"}]}'
    for sent, wanted in ((body, {"EMAIL": 2, "PAYMENT_CARD": 1}), (b'{"model":"m","messages":[]}', None)):
        head = b"POST /openai/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:8484\r\n\r\n"
        x = exchange(head, body=sent)
        route = one.router.find(x)
        assert route is not None
        asked = call(route)
        for hook in (*route.request_hooks, *route.body_hooks):
            assert hook(x, asked) is None
        assert asked.redacted == wanted


def test_what_is_found_in_the_answer_counts_too_and_what_is_turned_back_does_not() -> None:
    plan = PLANS.of(
        (Redaction(detectors=("email",), action="pseudonymise"), Redaction(detectors=("ip",), where=("answer",)))
    )
    vault = Vault()
    text = plan.request_text(vault)(b"mail a@example.com", "text")
    assert vault.redacted == {"EMAIL": 1}
    out = plan.answer_stream(vault)("text").finish(b"to " + text + b" at 192.0.2.7")
    assert out == b"to mail a@example.com at [IP]"
    assert vault.redacted == {"EMAIL": 1, "IP": 1}


def test_what_is_blocked_is_counted() -> None:
    vault = Vault()
    with pytest.raises(ForbiddenError):
        PLANS.of((Redaction(detectors=("email",), action="block"),)).request_text(vault)(b"a@example.com", "text")
    assert vault.redacted == {"EMAIL": 1}
