"""No secret lies in the repository: detect-secrets looks; what is harmless stands in .secrets.baseline, so labelled.

A finding that is no secret: `detect-secrets scan --no-verify --baseline .secrets.baseline` adds it, and
`detect-secrets audit .secrets.baseline` asks whether it is one.
"""

import json
import subprocess
import sys
from pathlib import Path

from detect_secrets.core import baseline
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings

from grader.exercises import ROOT

BASELINE = ".secrets.baseline"


def leaks(root: Path = ROOT) -> list[str]:
    """What looks like a secret in the files that git has or would take, a line each.

    Raises FileNotFoundError without a baseline, subprocess.CalledProcessError outside of a git checkout.
    """
    with default_settings():  # and then the baseline's
        known = baseline.load(json.loads((root / BASELINE).read_text(encoding="utf-8")))
        found = SecretsCollection(root=str(root))
        found.scan_files(*files(root))
    harmless = {(secret.filename, secret.secret_hash) for _, secret in known if secret.is_secret is False}
    leaks = {  # two detectors may find the same one
        (file, secret.line_number): f"{file}:{secret.line_number}: this looks like a secret ({secret.type.lower()})"
        for file, secret in found
        if (file, secret.secret_hash) not in harmless
    }
    return [leaks[where] for where in sorted(leaks)]


def files(root: Path) -> list[str]:
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=root, check=True, capture_output=True, text=True).stdout
    return [name for name in names.split("\0") if name and (root / name).is_file() and name != BASELINE]


if __name__ == "__main__":
    print("\n".join(problems := leaks()), file=sys.stderr)
    sys.exit(bool(problems))
