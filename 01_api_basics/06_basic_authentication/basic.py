"""The Basic scheme of RFC 7617: what a client sends in Authorization, and the challenge that asks for it."""

import base64
import re
import unicodedata
from dataclasses import dataclass, field

CHALLENGE = 'Basic realm="users", charset="UTF-8"'
# NFC makes one character of four at most, so that no right name and password are longer. It takes time in proportion to
# the square of what it is given: a few hundred kilobytes would keep the whole server busy for minutes.
LONGEST_TEXT = 4 * (64 + 1 + 72)
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f"


@dataclass(frozen=True)
class Credentials:
    """A name and a password in NFC. The password stays out of `repr`, and so out of logs."""

    username: str
    password: str = field(repr=False)


def parse(header: str | None) -> Credentials | None:
    """Return what `Basic BASE64(username:password)` says, or None when the header says anything else.

    None stands for every defect: no header, another scheme, bad base64, bad UTF-8, no colon, control characters
    (RFC 7617 §2). Two Authorization headers reach a WSGI app as one with a comma, which base64 does not have.
    """
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        # validate: without it, whatever is not base64 is skipped. All three errors to come here are ValueErrors:
        # text that is not ASCII, what is not base64, and bytes that are not UTF-8.
        text = base64.b64decode(encoded.strip(" "), validate=True).decode("utf-8")
    except ValueError:
        return None
    username, colon, password = text.partition(":")  # the first colon: a password may hold others
    if not colon or len(text) > LONGEST_TEXT or re.search(f"[{CONTROL_CHARACTERS}]", text):
        return None
    return Credentials(to_nfc(username), to_nfc(password))


def to_nfc(text: str) -> str:
    """Return the text in Normalization Form C: one é, whichever keyboard it came from (RFC 7617 §2.1)."""
    return unicodedata.normalize("NFC", text)
