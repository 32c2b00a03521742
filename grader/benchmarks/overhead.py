"""What nox and the isolated check cost on top of bare pytest, for one exercise whose environment exists already.

Run it as `python grader/benchmarks/overhead.py [EXERCISE [ROUNDS]]` with a Python that has nox. The three commands take
turns, so that a machine that slows down slows them all; what counts are the differences of medians within one run.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def seconds(command: list[str]) -> float:
    """How long a command takes. Raises CalledProcessError when it fails: a failing run is not a measurement."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def main(name: str = "01_crud_api", rounds: str = "7") -> None:
    [folder] = ROOT.glob(f"[0-9]*/{name}")
    programs = ROOT / ".nox" / name / ("Scripts" if sys.platform == "win32" else "bin")
    nox = [sys.executable, "-m", "nox", "-s"]
    commands = {
        "bare pytest": [str(programs / "pytest"), "-q", str(folder)],
        "bare pytest, isolated": [str(programs / "pytest"), "-q", "--isolated", str(folder)],
        f"nox -s {name}": [*nox, name],
        f"nox -s check -- {name}": [*nox, "check", "--", name, "--solution", str(folder)],
    }
    for command in reversed(commands.values()):  # also makes the environment, once
        seconds(command)
    times: dict[str, list[float]] = {label: [] for label in commands}
    for _ in range(int(rounds)):
        for label, command in commands.items():
            times[label].append(seconds(command))
    floor = statistics.median(times["bare pytest"])
    print("| Command | Median, s | Against bare pytest, s | Ratio |\n| --- | ---: | ---: | ---: |")
    for label, measured in times.items():
        median = statistics.median(measured)
        print(f"| {label} | {median:.2f} | {median - floor:+.2f} | {median / floor:.2f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
