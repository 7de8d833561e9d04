"""A labelled set of our own: what each detector has to find, and what looks like it and is something else.

Every value is made up, or from the public examples of who issues such numbers.
"""

PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx2\nq3Zc+/Ab=\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


def _of(size: int, alphabet: str = "aB3dE5gH7jK9mN1pQ") -> str:
    return (alphabet * (size // len(alphabet) + 1))[:size]


# detector -> values, each of which stands in the sentences below
POSITIVE: dict[str, tuple[str, ...]] = {
    "email": ("ada@example.com", "first.last+tag@mail.example.co.uk", "x_1@sub-domain.example.org"),
    "phone": ("+44 20 7946 0958", "(212) 555-0187", "415-555-0132", "+1-202-555-0143x12", "+39 06 1234 5678"),
    "payment_card": ("4111 1111 1111 1111", "5500000000000004", "3400 0000 0000 009", "6011-0000-0000-0004",
                     "30569309025904"),
    "iban": ("DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "FR1420041010050500013M02606", "NO9386011117947"),
    "us_ssn": ("536-22-8726", "219-09-9998"),
    "uk_nino": ("AB 12 34 56 C", "JG103759A"),
    "it_codice_fiscale": ("RSSMRA85T10A562S", "MRTMTT91D08F205J"),
    "de_tax_id": ("86095742719", "47036892816"),
    "es_dni": ("12345678Z", "X1234567L"),
    "fr_nir": ("2 55 08 14 168 025 38", "180126955222380"),
    "ip": ("203.0.113.77", "2001:db8::8a2e:370:7334", "10.24.3.9"),
    "mac": ("00:1A:2B:3C:4D:5E", "a4-83-e7-01-02-03"),
    "private_key": (PEM,),
    "jwt": (JWT,),
    "anthropic_key": (f"sk-ant-api03-{_of(60)}",),
    "openai_key": (f"sk-proj-{_of(48)}", f"sk-{_of(48)}"),
    "openrouter_key": (f"sk-or-v1-{_of(64, 'abcdef0123456789')}",),
    "aws_access_key": ("AKIAIOSFODNN7EXAMPLE",),
    "aws_bearer_key": (f"ABSK{_of(128)}",),
    "google_api_key": (f"AIza{_of(35)}",),
    "github_token": (f"ghp_{_of(36)}", f"github_pat_{_of(60)}"),
    "gitlab_token": (f"glpat-{_of(20)}",),
    "slack_token": (f"xoxb-{_of(11, '0123456789')}-{_of(24)}",),
    "stripe_key": (f"sk_live_{_of(24)}",),
    "huggingface_token": (f"hf_{_of(34)}",),
    "groq_key": (f"gsk_{_of(52)}",),
    "npm_token": (f"npm_{_of(36)}",),
    "sendgrid_key": (f"SG.{_of(22)}.{_of(43)}",),
    "databricks_token": (f"dapi{_of(32, 'abcdef0123456789')}",),
    "telegram_token": (f"123456789:AA{_of(33)}",),
}  # fmt: skip
SENTENCES = ("It is {}.", "{}", "Write {}, please", "({})", "x: {}\nnext line", "«{}»")

# What no detector may take.
NEGATIVE = (
    "The order 4111 1111 1111 1112 has shipped.",
    "Version 1.2.3.4 of the driver came on 2024-11-05 at 10:30:00.",
    "Meeting 12/05/2024 - 14:00, room 305, floor 12, desk 7.",
    "IBAN DE89 3704 0044 0532 0130 01 is mistyped.",
    "The number 123456789 is not a social security number.",
    "ISBN 978-3-16-148410-0 and 0-306-40615-2.",
    "The commit 9fceb02d0ae598e95dc970b74767f19372d6175f fixed it.",
    "uuid 123e4567-e89b-12d3-a456-426614174000",
    "the password is required and the token expired",
    "password: correct-horse-battery",
    "Look at user@localhost or @handle or a@b.",
    "12345678A, 00000000B and AB123456Z are no ids.",
    "std::vector<int> v{1, 2, 3}; a::b::c; ratio 16:9",
    "RSSMRA85T10A562T is off by one.",
    "sk-learn and sk-short are packages; task-sk-ant- is none.",
    "Pi is 3.14159265358979, e is 2.718281828459045.",
    "timestamps 1712345678 and 1712345678901",
    "00:1A:2B:3C:4D is too short, 12:34:56 is a time.",
    "www.example.com/path?id=42#x",
)
