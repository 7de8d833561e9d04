"""A labelled set that covers every detector: at least 50 values in their usual surroundings, and at least 100 texts
that look like them and are something else.

Values are drawn (always the same ones) by the rules of who issues them, written here a second time and not taken from
the product. What is drawn as a negative is wrong for certain: a mistyped number has one character changed, and a number
of another kind that happens to pass for a right one is drawn again, since nobody could tell it by its digits.
How often that is a test says.
"""

import base64
import json
import random
import string
from collections.abc import Callable, Iterator
from typing import Final

type Draw = Callable[[random.Random], str]
type Labelled = tuple[str, int, int]  # text, and where in it the value stands

POSITIVES: Final = 60
NEGATIVES: Final = 110
DIGITS: Final = string.digits
HEX: Final = "0123456789abcdef"
ALNUM: Final = string.ascii_letters + string.digits
URL64: Final = ALNUM + "-_"
BASE64: Final = ALNUM + "+/"


def pick(rng: random.Random, alphabet: str, size: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(size))


def one_of(*draws: Draw | str) -> Draw:
    def draw(rng: random.Random) -> str:
        chosen = rng.choice(draws)
        return chosen if isinstance(chosen, str) else chosen(rng)

    return draw


def grouped(text: str, sizes: tuple[int, ...], mark: str) -> str:
    parts, at = [], 0
    for size in sizes:
        parts.append(text[at : at + size])
        at += size
    if at < len(text):
        parts.append(text[at:])
    return mark.join(part for part in parts if part)


def mistyped(right: Draw, alphabet: str = DIGITS, skip: int = 0) -> Draw:
    """One character of its alphabet is another one, behind the first `skip` of them."""

    def draw(rng: random.Random) -> str:
        text = right(rng)
        places = [place for place, char in enumerate(text) if char in alphabet][skip:]
        place = rng.choice(places)
        other = rng.choice([char for char in alphabet if char != text[place]])
        return text[:place] + other + text[place + 1 :]

    return draw


# -- numbers with check digits


def luhn_digit(body: str) -> str:
    total = 0
    for place, char in enumerate(reversed(body)):
        number = int(char) * (2 if place % 2 == 0 else 1)
        total += number // 10 + number % 10
    return str(-total % 10)


def is_luhn(digits: str) -> bool:
    return luhn_digit(digits[:-1]) == digits[-1]


_NETWORKS: Final = (
    ("4", 16),
    ("4", 13),
    ("51", 16),
    ("55", 16),
    ("2221", 16),
    ("2720", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("65", 16),
    ("3528", 16),
    ("3589", 16),
    ("36", 14),
    ("38", 14),
    ("62", 16),
    ("5018", 16),
    ("6304", 16),
)


def card(rng: random.Random) -> str:
    prefix, size = rng.choice(_NETWORKS)
    body = prefix + pick(rng, DIGITS, size - len(prefix) - 1)
    number = body + luhn_digit(body)
    if rng.random() < 0.4:
        return number
    sizes = (4, 6, 5) if size == 15 else (4, 6, 4) if size == 14 else (4, 4, 4)
    return grouped(number, sizes, rng.choice(" -"))


def imei(rng: random.Random) -> str:
    body = "49" + pick(rng, DIGITS, 12)
    return body + luhn_digit(body)


def plain_digits(size: int) -> Draw:
    """A number of another kind: what would pass for a card by chance is drawn again."""

    def draw(rng: random.Random) -> str:
        while True:
            found = rng.choice("123456789") + pick(rng, DIGITS, size - 1)
            if not is_luhn(found) and not is_tax_id(found) and not is_nir(found):
                return found

    return draw


_IBANS: Final = {
    "DE": "n18",
    "GB": "a4n14",
    "FR": "n10c11n2",
    "NL": "a4n10",
    "ES": "n20",
    "IT": "a1n10c12",
    "CH": "n5c12",
    "BE": "n12",
    "AT": "n16",
    "PL": "n24",
    "PT": "n21",
    "SE": "n20",
    "NO": "n11",
    "DK": "n14",
    "FI": "n14",
    "IE": "a4n14",
    "LU": "n3c13",
}


def iban(rng: random.Random) -> str:
    country = rng.choice(sorted(_IBANS))
    body, form = "", _IBANS[country]
    while form:
        size = len(form) - len(form[1:].lstrip(DIGITS)) - 1
        alphabet = {"n": DIGITS, "a": string.ascii_uppercase, "c": string.ascii_uppercase + DIGITS}[form[0]]
        body += pick(rng, alphabet, int(form[1 : 1 + size]))
        form = form[1 + size :]
    digits = "".join(str(int(char, 36)) for char in body + country + "00")
    text = f"{country}{98 - int(digits) % 97:02}{body}"
    return grouped(text, (4,) * 8, " ") if rng.random() < 0.6 else text


def ssn(rng: random.Random) -> str:
    while (area := rng.randint(1, 899)) == 666:
        pass
    return rng.choice(("{:03}-{:02}-{:04}", "{:03} {:02} {:04}")).format(area, rng.randint(1, 99), rng.randint(1, 9999))


def never_ssn(rng: random.Random) -> str:
    area, group, serial = rng.randint(1, 899), rng.randint(1, 99), rng.randint(1, 9999)
    which = rng.randrange(3)
    if which == 0:
        area = rng.choice((0, 666, *range(900, 1000)))
    elif which == 1:
        group = 0
    else:
        serial = 0
    return f"{area:03}-{group:02}-{serial:04}"


def nino(rng: random.Random) -> str:
    while (prefix := rng.choice("ABCEGHJKLMNOPRSTWXYZ") + rng.choice("ABCEGHJKLMNPRSTWXYZ")) in (
        "BG",
        "GB",
        "KN",
        "NK",
        "NT",
        "TN",
        "ZZ",
    ):
        pass
    number = pick(rng, DIGITS, 6)
    return rng.choice(("{}{}{}{}{}", "{} {} {} {} {}")).format(
        prefix, number[:2], number[2:4], number[4:], rng.choice("ABCD")
    )


def never_nino(rng: random.Random) -> str:
    prefix = rng.choice(("BG", "GB", "KN", "NK", "NT", "TN", "ZZ", "DA", "FA", "QQ", "VA", "AO", "AD", "UB"))
    return f"{prefix}{pick(rng, DIGITS, 6)}{rng.choice('ABCD')}"


_CF_ODD: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)


def codice_fiscale(rng: random.Random) -> str:
    consonants = "BCDFGLMNPRSTVZ"
    day = rng.randint(1, 31) + rng.choice((0, 40))
    body = f"{pick(rng, consonants, 6)}{rng.randint(0, 99):02}{rng.choice('ABCDEHLMPRST')}{day:02}"
    body += f"{rng.choice('ABCDEFGHILMZ')}{rng.randint(100, 999)}"
    total = 0
    for place, char in enumerate(body):
        value = int(char) if char.isdigit() else ord(char) - 65
        total += _CF_ODD[value] if place % 2 == 0 else value
    return body + chr(65 + total % 26)


def tax_digit(body: str) -> str:
    product = 10
    for char in body:
        total = (int(char) + product) % 10 or 10
        product = total * 2 % 11
    return str((11 - product) % 10)


def is_tax_id(digits: str) -> bool:
    return len(digits) == 11 and tax_digit(digits[:10]) == digits[10]


def tax_id(rng: random.Random) -> str:
    while True:
        digits = rng.sample(DIGITS, 10)
        digits[rng.randrange(10)] = rng.choice(digits)
        if digits[0] != "0" and len(set(digits)) == 9:
            break
    body = "".join(digits)
    number = body + tax_digit(body)
    return grouped(number, (2, 3, 3, 3), " ") if rng.random() < 0.5 else number


_DNI: Final = "TRWAGMYFPDXBNJZSQVHLCKE"


def dni(rng: random.Random) -> str:
    if rng.random() < 0.3:
        lead = rng.randrange(3)
        number = pick(rng, DIGITS, 7)
        return f"{'XYZ'[lead]}{rng.choice(('', '-'))}{number}{_DNI[int(f'{lead}{number}') % 23]}"
    number = pick(rng, DIGITS, 8)
    shown = grouped(number, (2, 3, 3), ".") if rng.random() < 0.2 else number
    return f"{shown}{rng.choice(('', '-'))}{_DNI[int(number) % 23]}"


def wrong_dni(rng: random.Random) -> str:
    right = dni(rng)
    return right[:-1] + rng.choice(_DNI.replace(right[-1], ""))


def nir_key(body: str) -> int:
    return 97 - int(body.replace("2A", "19").replace("2B", "18")) % 97


def is_nir(digits: str) -> bool:
    return len(digits) == 15 and nir_key(digits[:13]) == int(digits[13:])


def nir(rng: random.Random) -> str:
    department = rng.choice(("2A", "2B", *(f"{number:02}" for number in range(1, 96) if number != 20)))
    body = f"{rng.choice('12')}{rng.randint(0, 99):02}{rng.randint(1, 12):02}{department}{pick(rng, DIGITS, 6)}"
    number = f"{body}{nir_key(body):02}"
    return grouped(number, (1, 2, 2, 2, 3, 3, 2), " ") if rng.random() < 0.6 else number


# -- the other personal data

_FIRST: Final = (
    "ada",
    "jean.luc",
    "maria_rossi",
    "o.connor",
    "li-wei",
    "j.p",
    "info",
    "büro".encode().hex()[:6],
    "x92",
)
_HOSTS: Final = ("example.com", "mail.example.co.uk", "uni-bonn.example.de", "corp.example.museum", "a1.example.io")


def email(rng: random.Random) -> str:
    tag = rng.choice(("", "", "+news", f"{rng.randint(1, 999)}", ".jr"))
    return f"{rng.choice(_FIRST)}{tag}@{rng.choice(_HOSTS)}"


def phone(rng: random.Random) -> str:
    form = rng.choice(
        (
            "+44 20 #### ####",
            "+1-###-###-####",
            "(###) ###-####",
            "###-###-####",
            "+39 06 ### ####",
            "+33 6 ## ## ## ##",
            "+49 30 ########",
            "+91 ##### #####",
            "+34 ### ## ## ##",
            "###.###.####",
            "+1 (###) ###-####",
            "###-###-####x###",
        )
    )
    return "".join(rng.choice("23456789") if char == "#" else char for char in form)


def ipv4(rng: random.Random) -> str:
    return ".".join(str(rng.randint(1, 254)) for _ in range(4)).replace("127.", "126.")


def ipv6(rng: random.Random) -> str:
    words = [f"{rng.randrange(1 << 16):x}" for _ in range(7)]
    if rng.random() < 0.5:
        return "2001:" + ":".join(words)
    return f"2001:db8:{words[0]}::{words[1]}:{words[2]}"


def mac(rng: random.Random) -> str:
    text = rng.choice(":-").join(pick(rng, HEX, 2) for _ in range(6))
    return text.upper() if rng.random() < 0.5 else text


# -- secrets


def pem(rng: random.Random) -> str:
    kind = rng.choice(
        ("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
    )
    lines = "\n".join(pick(rng, BASE64, 64) for _ in range(rng.randint(1, 4)))
    return f"-----BEGIN {kind}-----\n{lines}\n{pick(rng, BASE64, 20)}==\n-----END {kind}-----"


def not_pem(rng: random.Random) -> str:
    kind = rng.choice(
        ("CERTIFICATE", "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE REQUEST", "DH PARAMETERS", "X509 CRL")
    )
    return f"-----BEGIN {kind}-----\n{pick(rng, BASE64, 64)}\n-----END {kind}-----"


def url64(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()


def jwt(rng: random.Random) -> str:
    head = {"alg": rng.choice(("HS256", "RS256", "ES384", "none")), "typ": "JWT"}
    if rng.random() < 0.4:
        head = {"typ": "JWT", "kid": pick(rng, ALNUM, 12), **head}
    claims = {"sub": pick(rng, DIGITS, 10), "iat": rng.randint(10**9, 2 * 10**9)}
    return f"{url64(head)}.{url64(claims)}.{pick(rng, URL64, 43)}"


def cursor(rng: random.Random) -> str:
    """What pages of an API are numbered with: base64 of JSON, which is no token."""
    text = url64({"offset": rng.randint(1, 10**6), "id": pick(rng, HEX, 12)})
    return rng.choice((text, f"{text}.{pick(rng, HEX, 8)}", f"v1.{text}"))


def token(prefix: str, alphabet: str, *sizes: int) -> Draw:
    return lambda rng: rng.choice(prefix.split("|")) + pick(rng, alphabet, rng.choice(sizes))


def slack(rng: random.Random) -> str:
    kind = rng.choice("abopsr")
    return f"xox{kind}-{pick(rng, DIGITS, 12)}-{pick(rng, DIGITS, 12)}-{pick(rng, ALNUM, 24)}"


def openai_old(rng: random.Random) -> str:
    return f"sk-{pick(rng, ALNUM, 20)}T3BlbkFJ{pick(rng, ALNUM, 20)}"


KEYS: Final[dict[str, Draw]] = {
    "anthropic_key": token("sk-ant-api03-|sk-ant-admin01-|sk-ant-oat01-", URL64, 93),
    "openrouter_key": token("sk-or-v1-", HEX, 64),
    "openai_key": one_of(openai_old, token("sk-proj-|sk-svcacct-|sk-admin-", URL64, 74, 120, 156)),
    "aws_access_key": token("AKIA|ASIA", "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16),
    "aws_bearer_key": token("ABSK", BASE64, 110, 128),
    "google_api_key": token("AIza", URL64, 35),
    "google_oauth_token": token("ya29.a0", URL64, 80, 160),
    "github_token": one_of(
        token("ghp_|gho_|ghu_|ghs_|ghr_", ALNUM, 36),
        lambda rng: f"github_pat_{pick(rng, ALNUM, 22)}_{pick(rng, ALNUM, 59)}",
    ),
    "gitlab_token": token("glpat-|glptt-|gldt-|glrt-", URL64, 20, 26),
    "slack_token": slack,
    "slack_webhook": lambda rng: (
        f"hooks.slack.com/services/T{pick(rng, ALNUM, 8).upper()}/B{pick(rng, ALNUM, 8).upper()}/{pick(rng, ALNUM, 24)}"
    ),
    "stripe_key": token("sk_live_|sk_test_|rk_live_|whsec_", ALNUM, 24, 32, 99),
    "huggingface_token": token("hf_|api_org_", string.ascii_letters, 34),
    "groq_key": token("gsk_", ALNUM, 52),
    "xai_key": token("xai-", ALNUM, 80),
    "perplexity_key": token("pplx-", ALNUM, 48),
    "replicate_token": token("r8_", ALNUM, 37),
    "npm_token": token("npm_", ALNUM, 36),
    "pypi_token": token("pypi-AgEIcHlwaS5vcmcC", URL64, 150),
    "sendgrid_key": lambda rng: f"SG.{pick(rng, URL64, 22)}.{pick(rng, URL64, 43)}",
    "twilio_key": token("SK", HEX, 32),
    "digitalocean_token": token("dop_v1_|doo_v1_|dor_v1_", HEX, 64),
    "azure_storage_key": lambda rng: f"AccountKey={pick(rng, BASE64, 86)}==",
    "telegram_token": lambda rng: f"{pick(rng, '123456789', 1)}{pick(rng, DIGITS, 9)}:AA{pick(rng, URL64, 33)}",
    "databricks_token": token("dapi", HEX, 32),
    "vault_token": token("hvs.|hvb.|hvr.", URL64, 24, 90),
    "outrider_key": token("outrider-", URL64, 32, 43),
}
# How the words of a name look that begins like a key: packages, classes, placeholders, environment variables.
_WORDS: Final = (
    "circle",
    "container",
    "design",
    "system",
    "button",
    "config",
    "registry",
    "your",
    "token",
    "here",
    "api",
    "server",
    "with",
    "long",
    "hub",
    "download",
    "cache",
    "layout",
    "secret",
    "example",
)


def words(rng: random.Random, mark: str, count: int) -> str:
    return mark.join(rng.choice(_WORDS) for _ in range(count))


def like_key(name: str) -> Draw:
    """What begins as a key of this kind does, or holds one's characters, and is none."""
    sample = KEYS[name](random.Random(name))
    cuts = [place for place, char in enumerate(sample) if char in "-_.=:/"]
    prefix = {
        "aws_access_key": "AKIA",
        "aws_bearer_key": "ABSK",
        "google_api_key": "AIza",
        "twilio_key": "SK",
        "databricks_token": "dapi",
        "telegram_token": "123456789:",
        "slack_token": "xoxb-",
        "azure_storage_key": "AccountKey=",
        "gitlab_token": "glpat-",
        "replicate_token": "r8_",
        "slack_webhook": "hooks.slack.com/",
        "pypi_token": "pypi-",
        "openai_key": "sk-",
        "google_oauth_token": "ya29.",
    }.get(name) or sample[: cuts[-1] + 1]
    if name in ("anthropic_key", "openrouter_key", "github_token", "stripe_key", "sendgrid_key"):
        prefix = sample[: cuts[0] + 1] if name != "anthropic_key" else "sk-ant-"

    def draw(rng: random.Random) -> str:
        which = rng.randrange(6)
        if which == 0:
            return f"{prefix}{pick(rng, ALNUM, rng.randint(1, 6))}"
        if which == 1:
            return f"x{KEYS[name](rng)}" if name != "telegram_token" else f"12:{KEYS[name](rng)[-30:]}"
        if which == 2:
            return f"{prefix}..."
        if which == 3:
            return f"{prefix}{words(rng, '-', rng.randint(4, 7))}"
        if which == 4:
            return f"{prefix}{words(rng, '_', rng.randint(4, 7)).upper()}"
        return f"{prefix}<your {rng.choice(_WORDS)} here>"

    return draw


def secret(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: pick(rng, ALNUM, rng.randint(12, 40)),
            lambda: pick(rng, HEX, 32),
            lambda: pick(rng, ALNUM + "!#$%&*+-_?@^", rng.randint(10, 24)).strip("?!"),
            lambda: f"Tr0ub4dor&{rng.randint(10, 99)}",
            lambda: f"{rng.choice(('Sommer', 'Winter', 'hunter'))}{rng.randint(100, 9999)}!x",
        )
    )()


SECRET_CONTEXTS: Final = (
    "password: {}",
    "DB_PASSWORD={}",
    "my password is {} by the way",
    'api_key = "{}"',
    '{{"client_secret": "{}"}}',
    "export AUTH_TOKEN='{}'",
    "secret_key => '{}'",
    "pwd={}",
    "The passphrase is: {}",
    "access token: {}",
    "spring.datasource.password={}",
    "STRIPE_WEBHOOK_SECRET={}",
    "api-secret: {}",
    "Credentials: {}",
)


def not_secret(rng: random.Random) -> str:
    plain = words(rng, "-", 3)
    return rng.choice(
        (
            "the password is {} for all users".format(
                rng.choice(("required", "optional", "mandatory", "case-sensitive"))
            ),
            f"password: {plain}",
            f"token: <your-{rng.choice(_WORDS)}-token>",
            "password=********",
            f"password=${{{words(rng, '_', 2).upper()}}}",
            f"api_key: os.environ['{words(rng, '_', 2).upper()}']",
            f"the token limit is {rng.randint(1000, 99999)}",
            f"secret: {plain}/{rng.choice(_WORDS)}",
            f"max_tokens={rng.randint(10**3, 10**7)}",
            f"token = {words(rng, '.', 3)}",
            "password: (not set)",
            f"credentials: {words(rng, '_', 4)}",
            f"tokenizer: cl{rng.randint(10, 99)}k_base_{rng.choice(_WORDS)}",
            f"passwordless sign-in {rng.randint(1, 9)}",
            f"secretary: {rng.choice(_WORDS)}{rng.randint(1, 9)}",
            f"the password is at least {rng.randint(8, 64)} characters",
            f"api_key: {{{{ {words(rng, '_', 2)} }}}}",
            f"token: {rng.choice(('null', 'undefined', 'None', 'true'))}",
            "secret: aaaaaaaaaaaaaaaa",
        )
    )


# -- texts that are nobody's


def stamp(rng: random.Random) -> str:
    return rng.choice(
        (
            f"20{rng.randint(10, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T"
            f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}Z",
            f"{rng.randint(10**9, 2 * 10**9)}",
            f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}",
            f"{rng.randint(1, 28):02}.{rng.randint(1, 12):02}.20{rng.randint(10, 29)}",
        )
    )


def version(rng: random.Random) -> str:
    parts = [str(rng.randint(0, 20)) for _ in range(4)]
    return rng.choice(
        (
            f"version {'.'.join(parts)}",
            f"v{'.'.join(parts)}",
            f"Chrome/1{rng.randint(10, 40)}.0.{rng.randint(1000, 7000)}.{parts[0]}",
            f"firmware {'.'.join(parts)}",
            f"release {'.'.join(parts)}",
            f"OID 1.3.6.1.4.1.{rng.randint(1, 60000)}.{parts[0]}",
            f"{'.'.join(parts[:3])}-beta.{parts[3]}",
            f"section {'.'.join([*parts, '7'])}",
        )
    )


def digest(rng: random.Random) -> str:
    return rng.choice(
        (
            pick(rng, HEX, 40),
            pick(rng, HEX, 64),
            f"sha256:{pick(rng, HEX, 64)}",
            pick(rng, HEX, 7),
            f"{pick(rng, HEX, 8)}-{pick(rng, HEX, 4)}-4{pick(rng, HEX, 3)}-a{pick(rng, HEX, 3)}-{pick(rng, HEX, 12)}",
            f"0x{pick(rng, HEX, 16)}",
            f'W/"{pick(rng, HEX, 32)}"',
        )
    )


def fingerprint(rng: random.Random) -> str:
    return ":".join(pick(rng, HEX, 2) for _ in range(rng.choice((4, 5, 16, 20, 32))))


def order(rng: random.Random) -> str:
    return rng.choice(
        (
            f"ORD-{pick(rng, DIGITS, 8)}",
            f"INV{pick(rng, DIGITS, 10)}",
            f"PO {pick(rng, DIGITS, 6)}-{pick(rng, DIGITS, 3)}",
            f"SKU {pick(rng, string.ascii_uppercase, 3)}-{pick(rng, DIGITS, 5)}",
            f"1Z{pick(rng, ALNUM.upper(), 6)}",
            f"#{pick(rng, DIGITS, 9)}",
        )
    )


def amount(rng: random.Random) -> str:
    return rng.choice(
        (
            f"{rng.randint(1, 999)},{rng.randint(100, 999)},{rng.randint(100, 999)}.{rng.randint(10, 99)}",
            f"{rng.uniform(-90, 90):.6f}, {rng.uniform(-180, 180):.6f}",
            f"{rng.random():.15f}",
            f"{rng.randint(1990, 2010)}-{rng.randint(2011, 2030)}",
            f"{rng.randint(10, 99)} of {rng.randint(100, 999)}",
        )
    )


def isbn(rng: random.Random) -> str:
    return f"ISBN 978-{rng.randint(0, 9)}-{pick(rng, DIGITS, 4)}-{pick(rng, DIGITS, 4)}-{rng.randint(0, 9)}"


def not_email(rng: random.Random) -> str:
    name = rng.choice(_WORDS)
    return rng.choice(
        (
            f"{name}@localhost",
            f"@{name}_{rng.choice(_WORDS)}",
            f"{name}@{rng.randint(2, 3)}x.png",
            f"@{name}/{rng.choice(_WORDS)}",
            f"{name}@{rng.randint(1, 20)}.{rng.randint(0, 9)}.{rng.randint(0, 9)}",
            f"{name} at example dot com",
            f"{name}@",
            f"user@{name}",
            f"{name}@.com",
            f"{rng.randint(1, 9)} apples @ {rng.randint(1, 9)}.50",
            f"icon-{name}@2x.svg",
            f"@app.route('/{name}')",
            f"{name}@{name}@{rng.randint(1, 9)}",
        )
    )


def not_ip(rng: random.Random) -> str:
    return rng.choice(
        (
            version(rng),
            f"{rng.randint(256, 999)}.{rng.randint(1, 254)}.1.1",
            "127.0.0.1",
            "0.0.0.0",
            "::1",
            f"std::{rng.choice(_WORDS)}::{rng.choice(_WORDS)}",
            f"ratio {rng.randint(1, 30)}:{rng.randint(1, 30)}",
            f"{rng.randint(1, 23)}:{rng.randint(10, 59)}:{rng.randint(10, 59)}",
            f"{rng.randint(1, 99)}.{rng.randint(1, 99)}.{rng.randint(1, 99)}",
            f"a[::{rng.randint(2, 9)}]",
            f"key::{rng.choice(_WORDS)}",
            f"{rng.randint(1, 99)}.{rng.randint(1, 99)}.",
        )
    )


SENTENCES: Final = (
    "Please check {} for me.",
    "{}",
    "It is {}, as I said",
    "({})",
    '{{"value": "{}"}}',
    "log: got {} from the client",
    "| {} | open |",
    "> {}\nthanks",
    "Siehe {} bitte",
    "«{}»",
)
CONTEXTS: Final[dict[str, tuple[str, ...]]] = {
    "phone": (
        "Call me on {} tomorrow",
        "Tel. {}",
        "phone: {}",
        "My number is {}.",
        "{}",
        "Ring {} after six",
        "mobile {}, please",
    ),
    "email": ("Write to {}.", "From: <{}>", "mailto:{}?subject=x", '{{"email":"{}"}}', "{}", "contact {}, thanks"),
    "payment_card": (
        "My card is {}, exp 04/27",
        "Visa {}",
        "{}",
        "charge {} please",
        "card_number={}",
        "PAN {} CVV 123",
    ),
    "iban": ("Transfer it to {}.", "IBAN: {}", "{}", "account {} at the bank", '{{"iban":"{}"}}'),
    "us_ssn": ("SSN {}", "my social security number is {}", "{}", "ssn={}", "Employee {}, born 1980"),
    "uk_nino": ("NI number {}", "{}", "National insurance: {}.", "nino={}"),
    "it_codice_fiscale": ("Codice fiscale {}", "C.F. {}", "{}", "cf={}"),
    "de_tax_id": ("Steuer-ID {}", "{}", "IdNr.: {}", "Meine Steuernummer ist {}."),
    "es_dni": ("DNI {}", "mi NIE es {}", "{}", "dni={}"),
    "fr_nir": ("numéro de sécurité sociale {}", "NIR {}", "{}", "Sécu : {}."),
    "ip": ("from {} port 443", "ping {}", "{}", "host={}", "server {}, down", "[{}]"),
    "mac": ("MAC {}", "ether {} txqueuelen", "{}", "hwaddr={}"),
    "private_key": ("Here it is:\n{}\nthanks", "{}", 'key = """{}"""', "ssh key {}"),
    "high_entropy": SECRET_CONTEXTS,
}
KEY_CONTEXTS: Final = (
    "export API_KEY={}",
    "Authorization: Bearer {}",
    '{{"key": "{}"}}',
    "my key is {} ok?",
    "{}",
    "curl -H 'x-api-key: {}' http://a",
    "client = Client(api_key='{}')",
    "key={}&x=1",
    "`{}`",
    "ERROR invalid key {} (401)",
)

VALUES: Final[dict[str, Draw]] = {
    "private_key": pem,
    "jwt": jwt,
    **KEYS,
    "high_entropy": secret,
    "iban": iban,
    "payment_card": card,
    "fr_nir": nir,
    "it_codice_fiscale": codice_fiscale,
    "de_tax_id": tax_id,
    "es_dni": dni,
    "us_ssn": ssn,
    "uk_nino": nino,
    "email": email,
    "phone": phone,
    "mac": mac,
    "ip": one_of(ipv4, ipv4, ipv6),
}
LOOKALIKES: Final[dict[str, Draw]] = {
    "private_key": one_of(
        not_pem, "the line BEGIN PRIVATE KEY is missing", lambda rng: f"-----BEGIN {words(rng, ' ', 2).upper()}-----"
    ),
    "jwt": one_of(
        cursor, lambda rng: f"eyJ{pick(rng, URL64, 30)}", lambda rng: f"{pick(rng, URL64, 20)}.{pick(rng, URL64, 20)}.x"
    ),
    **{name: like_key(name) for name in KEYS},
    "high_entropy": not_secret,
    "iban": one_of(
        mistyped(iban, skip=2),
        lambda rng: f"{pick(rng, string.ascii_uppercase, 2)}{pick(rng, DIGITS, 2)}",
        order,
        digest,
    ),
    "payment_card": one_of(mistyped(card), imei, plain_digits(16), plain_digits(13), isbn, stamp, digest, order),
    "fr_nir": one_of(mistyped(nir, skip=1), plain_digits(15), stamp, order),
    "it_codice_fiscale": one_of(
        mistyped(codice_fiscale, string.ascii_uppercase, skip=8),
        lambda rng: pick(rng, ALNUM.upper(), 16),
        order,
        digest,
    ),
    "de_tax_id": one_of(mistyped(lambda rng: tax_id(rng).replace(" ", "")), plain_digits(11), stamp, order),
    "es_dni": one_of(
        wrong_dni,
        lambda rng: f"{pick(rng, DIGITS, 8)}{rng.choice('IOU')}",
        order,
    ),
    "us_ssn": one_of(
        never_ssn,
        lambda rng: pick(rng, "123456789", 9),
        lambda rng: f"{pick(rng, DIGITS, 5)}-{pick(rng, DIGITS, 4)}",
        lambda rng: f"{pick(rng, DIGITS, 3)}-{pick(rng, DIGITS, 2)}-{pick(rng, DIGITS, 3)}",
        stamp,
        order,
    ),
    "uk_nino": one_of(
        never_nino,
        lambda rng: f"AB{pick(rng, DIGITS, 6)}{rng.choice('EFGHXYZ')}",
        lambda rng: f"AB{pick(rng, DIGITS, 5)}C",
        order,
        lambda rng: f"CE{pick(rng, DIGITS, 7)}A",
    ),
    "email": not_email,
    "phone": one_of(
        stamp,
        order,
        amount,
        isbn,
        version,
        digest,
        lambda rng: f"id {pick(rng, DIGITS, 10)}",
        lambda rng: f"ticket {pick(rng, DIGITS, 7)}",
        lambda rng: f"{pick(rng, DIGITS, 4)} {pick(rng, DIGITS, 4)}",
    ),
    "mac": one_of(
        fingerprint,
        stamp,
        lambda rng: pick(rng, HEX, 12),
        lambda rng: "-".join(pick(rng, HEX, 2) for _ in range(5)),
        lambda rng: f"gg:{fingerprint(rng)[:11]}",
    ),
    "ip": not_ip,
}


def positives(name: str, draw: str = "") -> Iterator[Labelled]:
    """draw: another one, for other values in the same surroundings."""
    rng = random.Random(f"{name} +{draw}")
    contexts = CONTEXTS.get(name, KEY_CONTEXTS if name in KEYS or name == "jwt" else SENTENCES)
    for at in range(POSITIVES):
        value, context = VALUES[name](rng), contexts[at % len(contexts)]
        before = context.partition("{}")[0].replace("{{", "{")
        text = context.format(value)
        yield text, len(before), len(before) + len(value)


def negatives(name: str, draw: str = "") -> Iterator[str]:
    rng = random.Random(f"{name} -{draw}")
    for at in range(NEGATIVES):
        yield SENTENCES[at % len(SENTENCES)].format(LOOKALIKES[name](rng))
