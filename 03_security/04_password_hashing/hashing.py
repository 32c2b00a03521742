"""How a password is kept and checked: HMAC-SHA-384 with a pepper, base64, bcrypt; every refusal takes the same time."""

import base64
import hmac
import os
import re
from dataclasses import dataclass

import bcrypt

LOWEST_COST, HIGHEST_COST = 4, 16  # bcrypt begins at 4; at 16 a hash takes seconds
SHORTEST_PEPPER = 32  # characters
# The label names the step before bcrypt, so that another one can be told from it later. Of the last character of the
# 16-byte salt only two bits count: bcrypt raises ValueError when others are set.
LABEL = "hmac-sha384"
STORED = re.compile(rf"{LABEL}(\$2b\$([0-9]{{2}})\$[./A-Za-z0-9]{{21}}[.Oeu][./A-Za-z0-9]{{31}})")


@dataclass(frozen=True)
class Verdict:
    """Whether a password was right, and whether its hash has a lower cost than the configured one."""

    matches: bool
    is_outdated: bool = False


@dataclass(frozen=True)
class Hasher:
    """Hashes passwords in NFC with a pepper. bcrypt takes 2 to the power of `cost` steps."""

    cost: int
    pepper: bytes

    @classmethod
    def from_environment(cls) -> "Hasher":
        """Read BCRYPT_COST (12 unless set) and PEPPER. Raises ValueError, whose text never has the pepper in it."""
        cost = os.environ.get("BCRYPT_COST", "12")
        if not re.fullmatch("[0-9]{1,2}", cost) or not LOWEST_COST <= int(cost) <= HIGHEST_COST:
            raise ValueError(f"BCRYPT_COST is a whole number from {LOWEST_COST} to {HIGHEST_COST}, not {cost!r}")
        pepper = os.environ.get("PEPPER", "")
        if len(pepper.strip()) < SHORTEST_PEPPER:
            raise ValueError(f"PEPPER is a secret of at least {SHORTEST_PEPPER} characters; it has no default")
        return cls(int(cost), os.fsencode(pepper))

    def hash(self, password: str) -> str:
        """Return what to store for the password: the label, then bcrypt's text with a new salt in it."""
        return LABEL + bcrypt.hashpw(digest(password, self.pepper), bcrypt.gensalt(self.cost)).decode()

    def check(self, password: str, stored: object) -> Verdict:
        """Compare with what is stored. Without a hash that can be read (None, for an unknown user) nothing matches.

        A refusal takes as long as a hash of `self.cost`, whatever is stored (unless its cost is higher).
        """
        known = parse(stored)
        cost, bcrypt_hash = known or (self.cost, dummy_hash(self.cost))
        if bcrypt.checkpw(digest(password, self.pepper), bcrypt_hash) and known:
            return Verdict(matches=True, is_outdated=cost < self.cost)
        self._equalise_time(cost)
        return Verdict(matches=False)

    def _equalise_time(self, cost: int) -> None:
        """Take the time that a check at a lower cost has saved: 2ⁿ + 2ⁿ + 2ⁿ⁺¹ + … + 2ᵐ⁻¹ = 2ᵐ."""
        for step in range(cost, self.cost):
            bcrypt.hashpw(b"", bcrypt.gensalt(step))


def digest(password: str, pepper: bytes) -> bytes:
    """Return 64 bytes for bcrypt, which takes 72 at most, that depend on all of the password and on the pepper.

    In base64, since a raw digest may have a NUL byte, where other implementations of bcrypt stop reading.
    """
    return base64.b64encode(hmac.digest(pepper, password.encode(), "sha384"))


def parse(stored: object) -> tuple[int, bytes] | None:
    """Return the cost and bcrypt's part of a stored hash; None for everything else that may be in the column.

    A cost above the highest is refused too: a hash of cost 31 takes days.
    """
    found = STORED.fullmatch(stored) if isinstance(stored, str) else None
    if found is None or not LOWEST_COST <= int(found[2]) <= HIGHEST_COST:
        return None
    return int(found[2]), found[1].encode()


def dummy_hash(cost: int) -> bytes:
    """Return what reads like a hash of this cost and matches no password. Making it takes no time, checking it does."""
    return bcrypt.gensalt(cost) + b"." * 31
