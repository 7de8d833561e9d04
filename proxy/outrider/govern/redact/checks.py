"""Validators: whether what a pattern found is what it looks like, by the check digits and rules of who issues it.

Rules: a check takes (the match's bytes, the bytes before it) and returns the part that counts as (low, high), None for
nothing; most take the whole match. It never raises, whatever the bytes are.
Sources: ISO/IEC 7812 (Luhn), ISO 13616 (IBAN), SSA (numbers never issued), HMRC NIM39110, DM 23/12/1976 (codice
fiscale), BZSt (Steuer-ID, ISO 7064 MOD 11,10), Real Decreto 1553/2005 (DNI), INSEE (NIR).
Does not know: streams, actions.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Final

from outrider.govern.redact.entropy import bits_per_char

type Span = tuple[int, int]
type Check = Callable[[bytes, bytes], Span | None]

_SEPARATORS: Final = re.compile(rb"[ .\-]")


def _whole(ok: Callable[[str], bool]) -> Check:
    def check(found: bytes, before: bytes) -> Span | None:
        return (0, len(found)) if ok(found.decode("utf-8", "replace")) else None

    return check


def _longest(found: bytes, lengths: frozenset[int], ok: Callable[[bytes], bool]) -> Span | None:
    """The longest beginning that ends with a group of digits and that, without its separators, has one of the lengths
    and `ok` takes.
    """
    ends = [*(separator.start() for separator in _SEPARATORS.finditer(found)), len(found)]
    digits = _SEPARATORS.sub(b"", found)
    for separators, end in reversed(list(enumerate(ends))):
        if end - separators in lengths and ok(digits[: end - separators]):
            return 0, end
    return None


# -- numbers with check digits


def luhn(digits: bytes) -> bool:
    total = 0
    for place, byte in enumerate(reversed(digits)):
        number = byte - 48
        if place % 2:
            number = number * 2 - 9 if number > 4 else number * 2
        total += number
    return total % 10 == 0


# First digits and lengths of the networks that issue payment cards; without them one number in ten would do.
_CARDS: Final = (
    (re.compile(rb"4"), (13, 16, 19)),
    (re.compile(rb"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),
    (re.compile(rb"3[47]"), (15,)),
    (re.compile(rb"3(?:0[0-5]|[689])"), (14, 16, 17, 18, 19)),
    (re.compile(rb"6(?:011|4[4-9]|5|2)"), (16, 17, 18, 19)),
    (re.compile(rb"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),
    (re.compile(rb"2131|1800"), (15,)),
    (re.compile(rb"5018|5020|5038|5893|6304|6759|676[1-3]|50|5[6-9]|6[0-9]"), (12, 13, 14, 15, 16, 17, 18, 19)),
)


_CARD_WORDS: Final = re.compile(
    rb"(?i)\b(?:card|visa|mastercard|amex|maestro|diners|discover|jcb|carta|karte|tarjeta)\b"
)


_CARD_LENGTHS: Final = frozenset(range(12, 20))
_FULL_CARD_DIGITS: Final = 15


def _issued(digits: bytes) -> frozenset[int]:
    """How long a card that begins like this may be, as far as its issuer is known."""
    return frozenset(length for prefix, lengths in _CARDS if prefix.match(digits) for length in lengths)


def _is_number_of_card(digits: bytes) -> bool:
    return luhn(digits) and len(set(digits)) > 1


def card(found: bytes, before: bytes) -> Span | None:
    """With a word beside it that says that it is one, the issuer need not be known."""
    lengths = _CARD_LENGTHS if _CARD_WORDS.search(before) else _issued(_SEPARATORS.sub(b"", found[:8]))
    if not lengths or _DECIMAL.search(before[-2:]) or _IBAN_LEAD.search(before[-40:]):
        return None
    if _JOINED.search(before[-5:]):
        lengths = frozenset(length for length in lengths if length >= _FULL_CARD_DIGITS)
    sizes = [len(group) for group in _SEPARATORS.split(found)]
    return _longest(found, lengths, lambda digits: _is_number_of_card(digits) and _is_card_grouping(sizes, len(digits)))


_DECIMAL: Final = re.compile(rb"[0-9][.,]$")
_IBAN_LEAD: Final = re.compile(rb"\b[A-Za-z]{2}[0-9]{2} (?:[0-9A-Za-z]{4} ){0,6}$")  # of a mistyped one
# The end of a longer number or name: a short card number within it is one by chance.
_JOINED: Final = re.compile(rb"[0-9A-Za-z]-$|[0-9]{4} $")


def _is_card_grouping(sizes: list[int], digits: int) -> bool:
    """Groups of four and more, or all alike: what is written in small groups of several sizes is another number."""
    kept: list[int] = []
    for size in sizes:
        if sum(kept) >= digits:
            break
        kept.append(size)
    return min(kept[:-1], default=4) >= 4 or len(set(kept[:-1])) == 1


_TAX_ID_LENGTH: Final = frozenset({11})


def german_tax_id(found: bytes, before: bytes) -> Span | None:
    return _longest(found, _TAX_ID_LENGTH, is_german_tax_id)


# ISO 13616 registry: country -> length.
_IBAN: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip


def iban_check(found: bytes, before: bytes) -> Span | None:
    """The country says how long it is; what follows in the same breath is not part of it."""
    length = _IBAN.get(found[:2].decode("ascii", "replace").upper())
    if length is None:
        return None
    kept, end = 0, -1
    while kept < length and end + 1 < len(found):
        end += 1
        kept += found[end] not in b" -"
    if kept != length or (end + 1 < len(found) and chr(found[end + 1]).isalnum()):
        return None
    text = re.sub(rb"[ -]", b"", found[: end + 1]).decode("ascii", "replace").upper()
    moved = text[4:] + text[:4]
    if not moved.isalnum() or not moved.isascii():
        return None
    return (0, end + 1) if int("".join(str(int(char, 36)) for char in moved)) % 97 == 1 else None


def is_ssn(text: str) -> bool:
    """Never issued: area 000, 666 and 9xx, group 00, serial 0000, and those that advertisements made known."""
    digits = re.sub(r"\D", "", text)
    if len(digits) != 9 or digits[:3] in ("000", "666") or digits[0] == "9" or digits[3:5] == "00":
        return False
    return digits[5:] != "0000" and digits not in ("078051120", "219099999", "123456789") and len(set(digits)) > 1


_SSN_WORDS: Final = re.compile(rb"(?i)\b(?:ssn|social\s+security|soc(?:ial)?\.?\s*sec)\b")


def ssn_check(found: bytes, before: bytes) -> Span | None:
    if not is_ssn(found.decode("ascii", "replace")):
        return None
    plain = found.isdigit()
    return (0, len(found)) if not plain or _SSN_WORDS.search(before) else None


def is_nino(text: str) -> bool:
    plain = re.sub(r"[ -]", "", text).upper()
    prefix = plain[:2]
    if prefix in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ"):
        return False
    return plain[0] not in "DFIQUV" and plain[1] not in "DFIOQUV" and plain[8] in "ABCD"


_CF_ODD: Final = dict(
    zip(
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16,
         10, 22, 25, 24, 23),
        strict=True,
    )
)  # fmt: skip


def is_codice_fiscale(text: str) -> bool:
    plain = text.upper()
    total = sum(_CF_ODD[char] for char in plain[0:15:2])
    total += sum(int(char) if char.isdigit() else ord(char) - 65 for char in plain[1:15:2])
    return chr(65 + total % 26) == plain[15]


def is_german_tax_id(digits: bytes) -> bool:
    """Eleven digits; among the first ten one stands two or three times (and one or two never)."""
    if len(digits) != 11 or digits[:1] == b"0":
        return False
    counts = sorted(digits[:10].count(byte) for byte in set(digits[:10]))
    if counts[-1] not in (2, 3) or counts.count(2) + counts.count(3) != 1:
        return False
    product = 10
    for byte in digits[:10]:
        total = (byte - 48 + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == digits[10] - 48


_DNI: Final = "TRWAGMYFPDXBNJZSQVHLCKE"


def is_dni(text: str) -> bool:
    """DNI and NIE: the letter is the number modulo 23."""
    plain = re.sub(r"[ .\-]", "", text).upper()
    number = plain[:-1].replace("X", "0", 1).replace("Y", "1", 1).replace("Z", "2", 1)
    return number.isdigit() and _DNI[int(number) % 23] == plain[-1]


def is_nir(text: str) -> bool:
    """French social security number: 97 minus the number modulo 97; 2A and 2B are Corsica."""
    plain = re.sub(r"[ .\-]", "", text).upper()
    if len(plain) != 15:
        return False
    number = plain[:13].replace("2A", "19").replace("2B", "18")
    return number.isdigit() and plain[13:].isdigit() and 97 - int(number) % 97 == int(plain[13:])


# -- addresses


def is_ip(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not address.is_unspecified and not address.is_loopback


_VERSION: Final = re.compile(
    rb"(?i)(?:\b(?:version|release|firmware|driver|build|section|chapter|rev)\s|\bv|\d\.|\bchrome/|\bsafari/|/)$"
)


_PAIRS: Final = re.compile(rb"(?:^|[^0-9A-Za-z])[0-9A-Fa-f]{1,4}:$")

_SLICE: Final = re.compile(rb"[0-9]{0,4}::[0-9]{0,4}")  # a[1::2]


def ip_check(found: bytes, before: bytes) -> Span | None:
    """Not a version number ("v1.2.3.4", "version 1.2.3.4"), and not a part of a longer dotted number."""
    if _VERSION.search(before[-12:]) or _SLICE.fullmatch(found) or (b":" in found and _PAIRS.search(before[-6:])):
        return None
    while found:  # a full stop or a colon that ends the sentence was taken in
        if is_ip(found.decode("ascii", "replace")):
            return 0, len(found)
        if found[-1:] not in (b".", b":"):
            return None
        found = found[:-1]
    return None


def mac_check(found: bytes, before: bytes) -> Span | None:
    """Six pairs: more of them are a fingerprint."""
    return (0, len(found)) if len(found) == 17 and not re.search(rb"[0-9A-Fa-f]{2}[:-]$", before[-3:]) else None


# What names of files end with, and no domain does.
_FILES: Final = re.compile(rb"(?i)\.(?:png|jpe?g|gif|svg|webp|ico|css|js|json|html|xml|ya?ml|toml|txt|pdf)$")


def email_check(found: bytes, before: bytes) -> Span | None:
    """Not a file's name, as in logo@2x.png."""
    return None if _FILES.search(found) else (0, len(found))


# -- phones

_PHONE_WORDS: Final = re.compile(
    rb"(?i)(?:phone|tel|telefon[eo]?|telephone|mobile|mob|cell|fax|desk|call|calling|ring|dial|reach|text|sms|whatsapp|"
    rb"contact|messages? to|handy|m[o\xc3]\S{0,2}vil|portable|phone number is|registered|answering at|"
    rb"me (?:at|on))\b[^\n0-9]{0,24}\n?[^\n0-9]{0,4}$"
)
_PHONE_AFTER: Final = re.compile(rb"(?i)[ ,-]{1,3}\(?(?:office|fax|mobile|home|cell|work|desk)$")
_EXTENSION: Final = re.compile(rb"(?i) ?(?:x|ext\.? ?)\d{1,6}$")
_NANP: Final = re.compile(rb"(?:(?:\+|00)?1[-. ]?)?(?:\(\d{3}\) ?|\d{3}[-.])\d{3}[-. ]\d{4}$")
_PAREN: Final = re.compile(rb"\(0?\d{1,4}\) ?\d{3,4}[ -]?\d{3,4}$")
_DATE: Final = re.compile(rb"(?:\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}|\d{1,2}[-./ ]\d{1,2}[-./ ]\d{4})$")


def phone_check(found: bytes, before: bytes) -> Span | None:
    """By its shape alone where that is a phone's (+, brackets, NNN-NNN-NNNN), else by the words beside it."""
    after = _PHONE_AFTER.search(found)
    body = found[: after.start()] if after else found
    extension = _EXTENSION.search(body)
    core = body[: extension.start()] if extension else body
    digits = sum(48 <= byte <= 57 for byte in core)
    if not 7 <= digits <= 16 or before[-1:] in (b".", b"/", b"=", b"#", b"_", b"$", b"-"):
        return None
    if core[:1] == b"+" or _NANP.match(core) or _PAREN.match(core) or after:
        return 0, len(body)
    if core[:3] == b"001" and b"-" in core:
        return 0, len(body)
    if _DATE.match(core) or not _PHONE_WORDS.search(before):
        return None
    return 0, len(body)


# -- secrets


def entropy_check(found: bytes, before: bytes) -> Span | None:
    """The value beside a word like `password`: what follows the sign between them, if it looks drawn at random."""
    split = re.match(rb"""(?is)[a-z_ -]{2,40}["']?(?:\s{0,3}(?:[:=]|=>)\s{0,3}|\s{1,3}is[:\s]{1,3})["'`]?""", found)
    if split is None:
        return None
    low, value = split.end(), found[split.end() :]
    for quote in ("»", "”", "’"):
        value = value.removesuffix(quote.encode())
    value = value.rstrip(b".!?:)")
    if "‹".encode() in value or value.startswith((b"${", b"{{", b"$(")):  # a pseudonym or a variable is no secret
        return None
    text = value.decode("utf-8", "replace")
    kinds = sum(any(test(char) for char in text) for test in (str.islower, str.isupper, str.isdigit))
    kinds += any(not char.isalnum() for char in text)
    enough = (len(value) >= 8 and kinds >= 3) or (len(value) >= 12 and kinds >= 2)
    if not enough or bits_per_char(value) < 2.75 or re.fullmatch(rb"[A-Za-z]+(?:[-_./][A-Za-z]+)*", value):
        return None
    return low, low + len(value)


# No text is a word in two ways: a pattern that can cut one up differently tries all ways, 2^n of them.
_WORD: Final = rb"(?:[A-Z]?[a-z]*|[A-Z]{2,})"
_WORDS: Final = re.compile(_WORD + rb"(?:[-_.]" + _WORD + rb")*")


def drawn_check(count: int) -> Check:
    """The last `count` bytes of what was found look drawn at random: a digit, or letters of both cases in a word."""

    def check(found: bytes, before: bytes) -> Span | None:
        return None if _WORDS.fullmatch(found[-count:]) else (0, len(found))

    return check


def jwt_check(found: bytes, before: bytes) -> Span | None:
    """Three parts, the first of which is base64url of a JSON object that names an algorithm."""
    import base64

    head = found.split(b".", 1)[0]
    try:
        plain = base64.urlsafe_b64decode(head + b"=" * (-len(head) % 4))
    except ValueError:
        return None
    return (0, len(found)) if plain[:1] == b"{" and b'"alg"' in plain else None


uk_nino: Final = _whole(is_nino)
codice_fiscale: Final = _whole(is_codice_fiscale)
dni: Final = _whole(is_dni)
nir: Final = _whole(is_nir)
