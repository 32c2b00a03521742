"""What a new password may be (NIST SP 800-63B-4 §3.1.1.2): long enough and not easily guessed. No other rules."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

SERVICE_NAME = "Corner Shop"
SHORTEST, LONGEST = 15, 128  # code points in NFC
MOST_SENT = 4 * LONGEST  # NFC makes one code point of four at most; it is slow for long texts, so this comes first


class WeakPasswordError(Exception):
    """The password is not accepted. The text is the reason, without the password, and may be shown to the user."""


@dataclass(frozen=True)
class Policy:
    """Refuses the common passwords (already folded) and context-specific words."""

    common: frozenset[str]

    @classmethod
    def read(cls, file: Path) -> "Policy":
        """Read the common passwords from a UTF-8 file with one in each line."""
        return cls(frozenset(fold(line) for line in file.read_text(encoding="utf-8").splitlines()))

    def check(self, password: str, name: str, email: str) -> None:
        """Check a new password in NFC for the user with this name and email address. Raises WeakPasswordError.

        The whole password is compared, never a part of it.
        """
        if not SHORTEST <= len(password) <= LONGEST:
            raise WeakPasswordError(f"use {SHORTEST} to {LONGEST} characters, for example four or five random words")
        if fold(password) in self.common:
            raise WeakPasswordError("this is a common password: attackers try it first")
        context = (name, email, email.partition("@")[0], SERVICE_NAME)
        if letters(password) in {letters(text) for text in context} - {""}:
            raise WeakPasswordError("this is your name, your email address or the name of this service")


def normalize(password: str) -> str:
    """Return the password in NFC: one é, whichever keyboard it came from.

    Raises ValueError for a lone surrogate: JSON can write one, and UTF-8, so also a hash, cannot.
    """
    if re.search("[\ud800-\udfff]", password):
        raise ValueError("a lone surrogate is not a character")
    return unicodedata.normalize("NFC", password)


def fold(text: str) -> str:
    """Return the text as it is compared with others: without case and without compatibility forms, such as ﬁ for fi."""
    return unicodedata.normalize("NFKC", text).casefold()


def letters(text: str) -> str:
    """Return the letters and digits of the folded text."""
    return "".join(filter(str.isalnum, fold(text)))
