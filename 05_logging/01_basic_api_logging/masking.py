"""Replaces what must not be in a log by `***`: what has a sensitive name, and what looks like a secret."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qsl, unquote

MASK = "***"
DEEPEST = 20

# A name is sensitive when it contains one of these. `discard` is then masked as well: that costs less than a leak.
SENSITIVE = re.compile(
    "password|passwd|passphrase|pwd|secret|token|authorization|cookie|session|credential|signature"
    "|apikey|accesskey|privatekey|card|cvv|cvc|email"
)

# What looks like a secret in a text. Each pattern takes time in proportion to the text: repetitions are possessive
# (`++`), so that none is tried twice, and a lookbehind lets a run of letters be tried from its start only. Without
# them a header of 60,000 letters, made for it, would keep the process busy for minutes. JWT has a plain `*` before
# `eyJ`, which ends where `eyJ` begins: Python 3.11.2 does not match a possessive group with a lookahead in it.
URL_USER = re.compile(r"(?<=://)(?:[^/?#\s@]*+@)++")
JWT = re.compile(r"(?<![\w-])((?:(?!eyJ)[\w-])*)eyJ[\w-]*+(?:\.[\w-]*+){2,4}")
BEARER = re.compile(r"(bearer(?:\s|\+|%20)++)[\w.~+/=-]{16,}+", re.IGNORECASE)
EMAIL = re.compile(r"(?<![\w.+&'-])(['&]*+)[\w.+&'-]++(?:@|%40)[\w-]++(?:\.[\w-]++)++")

# A pattern is tried on texts that contain one of its hints, in lower case: most contain none, and that is seen sooner.
PATTERNS: list[tuple[tuple[str, ...], re.Pattern[str], str]] = [
    (("://",), URL_USER, f"{MASK}@"),
    (("eyj",), JWT, rf"\1{MASK}"),
    (("bearer",), BEARER, rf"\1{MASK}"),
    (("@", "%40"), EMAIL, rf"\1{MASK}"),
]

# `name=`, `"name": ` or `\"name\": `, and the value behind it: a list, an object, a text in quotes (with as many
# backslashes before the last quote as before the first), or all up to whitespace, `&` or a quote.
NAME = re.compile(r"""(?<![\w.%\[\]-])([\w.%\[\]-]++)(?:\s{0,3}=|\\*+["']\]?\s{0,3}[:=])\s{0,3}""")
VALUE = re.compile(
    r"""\[[^\]]*+\]?|\{[^}]*+\}?|b?(\\*+)(["'])(?s:.*?)(?:(?<!\\)\1\2|\Z)|(?:(?:basic|bearer)\s)?[^\s&"']++""",
    re.IGNORECASE,
)

BETWEEN = r"(?:[ +-]|%20)"
CARD = re.compile(
    rf"(?<![^\W_])(?=((?:[2-6][0-9]{{12,18}}|[2-6][0-9]{{3}}(?:{BETWEEN}[0-9]{{4}}){{3}}"
    rf"|3[0-9]{{3}}{BETWEEN}[0-9]{{6}}{BETWEEN}[0-9]{{5}})(?![^\W_])))"
)


def mask(value: object, depth: int = 0) -> object:
    """Return a copy without secrets that JSON can express: no NaN, no unpaired surrogates, no more than 20 levels."""
    if isinstance(value, Mapping | list | tuple) and depth == DEEPEST:
        return MASK
    match value:
        case Mapping():
            masked: dict[str, object] = {}
            for name, item in value.items():
                key = mask_text(str(name))
                if key in masked:  # two names that are masked alike
                    key = f"{key} ({len(masked) + 1})"
                masked[key] = mask_named(str(name), item, depth + 1)
            return masked
        case list() | tuple():
            return [mask(item, depth + 1) for item in value]
        case None | bool():
            return value
        case int() | float() if abs(value) < math.inf and mask_text(str(value)) == str(value):  # NaN is not less either
            return value
    return mask_text(str(value))


def mask_named(name: str, value: object, depth: int = 0) -> object:
    """Mask the whole value when its name is sensitive."""
    return MASK if is_sensitive(name) else mask(value, depth)


def is_sensitive(name: str) -> bool:
    """Only the name's letters and digits count, in lower case."""
    return SENSITIVE.search(re.sub(r"[^a-z0-9]", "", name.lower())) is not None


def mask_text(text: str) -> str:
    """Mask the parts of a text that look like a secret, and replace unpaired surrogates, which UTF-8 does not have."""
    text = text.encode(errors="replace").decode()
    if any(sign in text for sign in "=\"'"):
        text = cover(text, values_of_sensitive_names(text))
    lowered = text.lower()
    for hints, pattern, replacement in PATTERNS:
        if any(hint in lowered for hint in hints):
            text = pattern.sub(replacement, text)
    return cover(text, card_numbers(text))


def values_of_sensitive_names(text: str) -> Iterator[tuple[int, int]]:
    """Where the values are in `name=value` and `"name": "value"`."""
    end = 0
    for found in NAME.finditer(text):
        if found.end() >= end and is_sensitive(unquote(found[1])) and (value := VALUE.match(text, found.end())):
            end = value.end()
            yield value.span()


def card_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Where the card numbers are; two may overlap, since a number before one can look like its beginning."""
    return (found.span(1) for found in CARD.finditer(text) if passes_luhn(found[1]))


def cover(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Put `***` in place of these spans, which come in the order of their starts."""
    parts, done = [], 0
    for start, end in spans:
        if start >= done:
            parts += [text[done:start], MASK]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def passes_luhn(number: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, Luhn's formula)."""
    digits = [int(digit) for digit in re.sub(r"%20|[^0-9]", "", number)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def by_name(pairs: str) -> dict[str, list[str]]:
    """A query or a form, decoded: the values of each name."""
    values: dict[str, list[str]] = {}
    for name, value in parse_qsl(pairs, keep_blank_values=True):
        values.setdefault(name, []).append(value)
    return values


def parse_body(content_type: str, body: bytes | bytearray) -> object:
    """A whole body as JSON or a form; None for any other, since only what has names can be masked by them."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "application/x-www-form-urlencoded":
        return by_name(body.decode(errors="replace"))
    if media_type == "application/json" or media_type.endswith("+json"):
        try:
            parsed: object = json.loads(body)
        except (ValueError, RecursionError):
            return None
        return parsed
    return None
