"""What is looked for: one row each.

name: as configuration and metrics have it; in capitals what stands for it. group: `pii`, `secrets`, `network`. pattern:
RE2, bounded; from it follows the *open* pattern, by which a match may begin at the end of a text that goes on, and the
greatest length. check: decides what the pattern found. tail, stop: a match that is as long as its pattern allows
(on_overlong: mask) goes on while bytes are of the class `tail`, and ends behind `stop`.
Rules: where two matches overlap, both are replaced by one; it bears the name of the row that stands first here.
Does not know: texts, actions.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

from outrider.govern.redact import checks
from outrider.govern.redact.patterns import REPEAT_MAX, Pattern

GROUPS: Final = ("pii", "secrets", "network")


@dataclass(frozen=True)
class Detector:
    name: str
    group: str
    pattern: str
    check: checks.Check | None = None
    tail: str = ""
    stop: str = ""
    always_tail: bool = False  # the tail follows whatever the match's length
    max_repeat: int = REPEAT_MAX  # where an unbounded repeat of the pattern ends

    @cached_property
    def parsed(self) -> Pattern:
        return Pattern(self.pattern, self.max_repeat)

    @property
    def label(self) -> str:
        return self.name.upper().replace("-", "_").replace(".", "_")


_COUNT: Final = re.compile(r"\{([0-9]+)\}")
_WORDLIKE: Final = r"[A-Za-z0-9_-]"


def _key(name: str, pattern: str, tail: str = _WORDLIKE, *, drawn: bool = True) -> Detector:
    """A token whose prefix says what it is: found once it is long enough, and then as long as it goes.

    What is drawn at random stands at the pattern's end; a name or a placeholder that begins like a key is none.
    """
    exact = pattern.endswith(r"\b")
    check = None if exact or not drawn else checks.drawn_check(int(_COUNT.findall(pattern)[-1]))
    return Detector(name, "secrets", pattern, check, tail="" if exact else tail, always_tail=not exact)


_LABEL: Final = (
    r"(?:pass(?:word|wd|phrase|code)|pwd|secret(?:[_ -]?key)?|api[_ -]?(?:key|secret|token)|access[_ -]?(?:key|token)|"
    r"auth[_ -]?token|client[_ -]?secret|private[_ -]?key|credentials?|token)"
)

ROWS: Final = (
    # -- secrets first: where a secret and something weaker overlap, it is the secret that counts
    Detector(
        "private_key", "secrets", r"-----BEGIN[ A-Z0-9]{0,40}PRIVATE KEY(?: BLOCK)?-----",
        tail=r"[A-Za-z0-9+/=\s:,.()\\-]", stop=r"-----END[ A-Z0-9]{0,40}-----", always_tail=True,
    ),
    Detector(
        "jwt", "secrets", r"\beyJ[A-Za-z0-9_-]{10,240}\.[A-Za-z0-9_-]{4}", checks.jwt_check, tail=r"[A-Za-z0-9_.-]",
        always_tail=True,
    ),
    _key("anthropic_key", r"\bsk-ant-[A-Za-z0-9_-]{16}"),
    _key("openrouter_key", r"\bsk-or-[A-Za-z0-9_-]{16}"),
    _key("openai_key", r"\bsk-(?:proj-|svcacct-|admin-|None-)?[A-Za-z0-9_-]{20}"),
    _key("aws_access_key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}\b"),
    _key("aws_bearer_key", r"\bABSK[A-Za-z0-9+/=]{60}", r"[A-Za-z0-9+/=]"),
    _key("google_api_key", r"\bAIza[A-Za-z0-9_-]{35}"),
    _key("google_oauth_token", r"\bya29\.[A-Za-z0-9_-]{20}"),
    _key("github_token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})"),
    _key("gitlab_token", r"\bgl(?:pat|ptt|dt|rt|cbt|soat|ft)-[A-Za-z0-9_.-]{20}", r"[A-Za-z0-9_.-]"),
    _key("slack_token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10}"),
    _key(
        "slack_webhook", r"\bhooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/_-]{20}", r"[A-Za-z0-9/_-]",
        drawn=False,
    ),
    _key("stripe_key", r"\b(?:sk|rk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16}"),
    _key("huggingface_token", r"\b(?:hf|api_org)_[A-Za-z0-9]{30}"),
    _key("groq_key", r"\bgsk_[A-Za-z0-9]{40}"),
    _key("xai_key", r"\bxai-[A-Za-z0-9]{40}"),
    _key("perplexity_key", r"\bpplx-[A-Za-z0-9]{40}"),
    _key("replicate_token", r"\br8_[A-Za-z0-9]{30}"),
    _key("npm_token", r"\bnpm_[A-Za-z0-9]{36}"),
    _key("pypi_token", r"\bpypi-[A-Za-z0-9_-]{50}"),
    _key("sendgrid_key", r"\bSG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{30}"),
    _key("twilio_key", r"\bSK[0-9a-f]{32}\b"),
    _key("digitalocean_token", r"\bdo[opr]_v1_[a-f0-9]{64}"),
    _key("azure_storage_key", r"\bAccountKey=[A-Za-z0-9+/]{40}", r"[A-Za-z0-9+/=]"),
    _key("telegram_token", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{32}"),
    _key("databricks_token", r"\bdapi[a-f0-9]{32}"),
    _key("vault_token", r"\bhv[sbr]\.[A-Za-z0-9_-]{24}"),
    _key("outrider_key", r"\boutrider-[A-Za-z0-9_-]{16}"),
    Detector(
        "high_entropy", "secrets",
        r"(?i:(?:\b|_)" + _LABEL
        + r"""["']?(?:\s{0,3}(?:[:=]|=>)\s{0,3}|\s{1,3}is[:\s]{1,3})["'`]?[^\s"'<>,;`]{8,128})""",
        checks.entropy_check, tail=r"""[^\s"'<>,;`]""",
    ),
    # -- what has check digits
    Detector("iban", "pii", r"\b[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}\b", checks.iban_check),
    Detector("payment_card", "pii", r"\b(?:[0-9][ -]?){11,18}[0-9]\b", checks.card),
    Detector(
        "fr_nir", "pii",
        r"\b[1-478][ .-]?[0-9]{2}[ .-]?(?:[0-9]{2})[ .-]?(?:[0-9]{2}|2[ABab])"
        r"(?:[ .-]?[0-9]{3}){2}[ .-]?[0-9]{2}\b",
        checks.nir,
    ),
    Detector(
        "it_codice_fiscale", "pii",
        r"(?i:\b[A-Z]{6}[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[A-Z][0-9LMNPQRSTUV]{3}[A-Z]\b)",
        checks.codice_fiscale,
    ),
    Detector("de_tax_id", "pii", r"\b(?:[0-9]{11}|[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3})\b", checks.german_tax_id),
    Detector("es_dni", "pii", r"\b(?:[0-9]{2}\.?[0-9]{3}\.?[0-9]{3}|[XYZxyz][ -]?[0-9]{7})[ -]?[A-Za-z]\b", checks.dni),
    Detector("us_ssn", "pii", r"\b[0-9]{3}(?:-[0-9]{2}-| [0-9]{2} |[0-9]{2})[0-9]{4}\b", checks.ssn_check),
    Detector("uk_nino", "pii", r"\b[A-Za-z]{2}(?: ?[0-9]{2}){3} ?[A-Da-d]\b", checks.uk_nino),
    # -- the rest
    Detector(
        "email", "pii",
        r"\b[A-Za-z0-9](?:[A-Za-z0-9._%+'-]{0,63})@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,6}[A-Za-z]{2,24}\b",
        checks.email_check,
    ),
    Detector(
        "phone", "pii",
        r"(?:\+|\(\+?|\b)[0-9](?:[ ./-]{0,2}[()]?[ ]?[0-9]){5,16}(?:(?i: ?(?:x|ext\.? ?)[0-9]{1,6}))?\b"
        r"(?:[ ,-]{1,3}\(?(?i:office|fax|mobile|home|cell|work|desk)\b)?",
        checks.phone_check,
    ),
    # A longer run of the same (a fingerprint, an object's id) is taken in whole, so that no part of it is one.
    Detector(
        "mac", "network",
        r"\b[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5,31}|(?:-[0-9A-Fa-f]{2}){5,31})\b",
        checks.mac_check,
    ),
    Detector(
        "ip", "network",
        r"(?:\b[0-9]{1,3}(?:\.[0-9]{1,3}){3,9}\b|(?:\b[0-9A-Fa-f]{1,4}|:):"
        r"(?:[0-9A-Fa-f]{0,4}:){0,32}(?:[0-9A-Fa-f]{1,4}|(?:[0-9]{1,3}\.){3}[0-9]{1,3})?\b)",
        checks.ip_check,
    ),
)  # fmt: skip

BUILT_IN: Final[Mapping[str, Detector]] = MappingProxyType({row.name: row for row in ROWS})
