"""What each field may hold: it is normalised first, then checked, and then refused or taken, never repaired."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# In no field: control characters, line separators, lone surrogates (which UTF-8 does not have), and bidirectional
# control characters, which make a text look as if its characters stood in another order (https://trojansource.codes).
NEVER = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
LINES = r"\t\n\r"
# Two names that look the same should be the same.
INVISIBLE = r"\u00ad\u061c\u180e\u200b\u200e\u200f\u2060-\u2064\ufeff"

# RFC 5321 §4.1.2 without quoted names and address literals; RFC 1035 §2.3.1 for host names.
ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST = rf"(?=[A-Za-z0-9.-]{{1,253}}(?:[:/?#]|$)){LABEL}(?:\.{LABEL})*"
PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5]))))"  # to 65535
# What RFC 3986 allows: no white space, no double quote, no backslash (a slash to browsers), and no @ before the host.
REST = r"(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*"
# re.ASCII: without it, IGNORECASE takes U+017F for the s of https, and to a browser it is another letter.
HTTP_URL = re.compile(rf"https?://{HOST}(?::{PORT})?(?:[/?]{REST})?(?:#{REST})?", re.ASCII | re.IGNORECASE)

# NFC can shorten a text to a quarter. It also takes time in proportion to the square of the length of what it is given.
NORMALISED_FROM = 4


class InvalidError(Exception):
    """Something that was sent breaks a rule; `problems` has the rule for each wrong field, and never its value."""

    def __init__(self, problems: dict[str, str]) -> None:
        super().__init__(problems)
        self.problems = problems


@dataclass(frozen=True)
class Field:
    """The rule of a field; `form` is what it is normalised to, and `length` counts characters afterwards."""

    pattern: re.Pattern[str]
    length: range
    rule: str
    form: Literal["NFC", "NFKC"] = "NFC"

    def read(self, value: object) -> str | None:
        """Return the value in its normal form, or None when it breaks the rule."""
        if not isinstance(value, str) or len(value) > NORMALISED_FROM * self.length[-1]:
            return None
        text = unicodedata.normalize(self.form, value)
        return text if len(text) in self.length and self.pattern.fullmatch(text) else None


AUTHOR = Field(
    re.compile(rf"(?!\s)[^{NEVER}{LINES}{INVISIBLE}]+(?<!\s)"),
    range(1, 101),
    "1 to 100 characters on one line, none of them invisible, without white space at the ends",
    form="NFKC",
)
EMAIL = Field(
    re.compile(rf"(?=.{{1,64}}@){ATOM}(?:\.{ATOM})*@{LABEL}(?:\.{LABEL})+"),
    range(3, 255),
    "an address like ann@example.com, at most 254 characters",
)
BODY = Field(
    re.compile(rf"[^{NEVER}]*[^{NEVER}\s][^{NEVER}]*"),
    range(1, 2001),
    "1 to 2000 characters, not only white space, without control characters",
)
WEBSITE = Field(HTTP_URL, range(1, 501), "a URL like https://example.com/path, at most 500 characters")
QUERY = Field(re.compile(rf"[^{NEVER}{LINES}]*"), range(101), "at most 100 characters on one line")


def read_fields(sent: Mapping[str, object], fields: Mapping[str, Field]) -> dict[str, str]:
    """Return the values of these fields, and no others that were sent. Raises InvalidError."""
    values = {name: field.read(sent.get(name)) for name, field in fields.items()}
    problems = {name: fields[name].rule for name, value in values.items() if value is None}
    if problems:
        raise InvalidError(problems)
    return {name: value for name, value in values.items() if value is not None}


def validate(sent: object) -> dict[str, str]:
    """Return the fields of a comment, ready to be stored. Raises InvalidError."""
    sent = sent if isinstance(sent, Mapping) else {}
    fields = {"author": AUTHOR, "email": EMAIL, "body": BODY}
    if sent.get("website") not in (None, ""):  # a form sends the fields that were left blank, too
        fields["website"] = WEBSITE
    return read_fields(sent, fields)


def is_http_url(value: str | None) -> bool:
    """Whether this may become a link. Asked again on the way out: the table may hold what this app did not write."""
    return WEBSITE.read(value) == value is not None
