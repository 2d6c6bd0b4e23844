"""Fuzz the protocol through the Python boundary: `make fuzz`, or this file with --help.

Each target runs in a process of its own, so that a crash, too, is a find: the input that is under way stands in a
file. An input whose behaviour is new joins the corpus of the run and is changed further. `--engine atheris` leaves the
choice to libFuzzer instead, guided by the coverage of the Python code (`pip install atheris`; not with the sanitizers,
which it brings itself).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import mmap
import subprocess
import sys
import time
import traceback
from pathlib import Path
from random import Random

ROOT = Path(__file__).parent.parent.parent
sys.path[0] = str(ROOT)

from tests.fuzz.mutation import mutate, seeds  # noqa: E402
from tests.fuzz.targets import TARGETS  # noqa: E402

#: Where finds are written.
FINDS = ROOT / "build" / "fuzz"
#: The longest input, in bytes, with room for its length.
ROOM = 1 << 16
#: Seconds that a process may take beyond its time before it counts as hanging.
PATIENCE = 60


def main() -> int:
    """Fuzz every target for its share of the time, or run one input again."""
    parser = argparse.ArgumentParser(description="Fuzz lapwing.protocol.")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("--target", choices=sorted(TARGETS), action="append", help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the random numbers")
    parser.add_argument("--engine", choices=["own", "atheris"], default="own")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run the input of this file, with one --target")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    targets: list[str] = options.target or sorted(TARGETS)
    if options.again is not None:
        print(TARGETS[targets[0]](options.again.read_bytes()))
        return 0
    if options.worker:
        return work(targets[0], options.seconds, options.seed, options.engine)
    FINDS.mkdir(parents=True, exist_ok=True)
    print(f"{options.seconds:g} s, seed {options.seed}", flush=True)
    share = options.seconds / len(targets)
    return sum([watch(target, share, options.seed, options.engine) for target in targets]) and 1


def watch(target: str, seconds: float, seed: int, engine: str) -> int:
    """Run a target in a process of its own, and keep the input upon which it ended. Returns whether there was one."""
    command = [sys.executable, __file__, "--worker", "--target", target, "--seconds", str(seconds), "--engine", engine]
    under_way(target).unlink(missing_ok=True)
    try:
        status: object = subprocess.run(
            [*command, "--seed", str(seed)], timeout=seconds + PATIENCE, check=False
        ).returncode
    except subprocess.TimeoutExpired:
        status = "hanging"
    if status == 0:
        return 0
    held = under_way(target).read_bytes() if under_way(target).exists() else bytes(4)
    data = held[4 : 4 + int.from_bytes(held[:4], "big")]
    find = FINDS / f"{target}-{hashlib.sha256(data).hexdigest()[:12]}"
    find.write_bytes(data)
    print(f"{target} ended with {status}. Again, after the same variables: {sys.executable} {__file__} "
          f"--target {target} --again {find}", flush=True)  # fmt: skip
    return 1


def under_way(target: str) -> Path:
    """The file with the input that is being run."""
    return FINDS / f"{target}.current"


def work(target: str, seconds: float, seed: int, engine: str) -> int:
    """Run inputs until the time is over; anything that a target raises ends the process."""
    FINDS.mkdir(parents=True, exist_ok=True)
    with under_way(target).open("wb+") as file:
        file.truncate(ROOM)
        with mmap.mmap(file.fileno(), ROOM) as held:
            if engine == "atheris":
                return work_with_atheris(target, seconds, held)
            return work_alone(target, seconds, Random(f"{target} {seed}"), held)


def work_alone(target: str, seconds: float, random: Random, held: mmap.mmap) -> int:
    """Change inputs of the corpus at random; what behaves in a new way joins it."""
    run = TARGETS[target]
    corpus = seeds(target)
    known = set()
    runs = 0
    end = time.monotonic() + seconds
    pending = list(corpus)
    while time.monotonic() < end:
        # Newer inputs are more promising: they are what the last discovery led to.
        chosen = corpus[-1 - int(len(corpus) * random.random() ** 2)]
        data = pending.pop() if pending else mutate(target, chosen, random.choice(corpus), random)
        held[: 4 + len(data)] = len(data).to_bytes(4, "big") + data
        try:
            behaviour = run(data)
        except Exception:  # noqa: BLE001 - whatever is not documented is a find
            print(traceback.format_exc()[-3000:], file=sys.stderr)
            return 1
        runs += 1
        if behaviour not in known:
            known.add(behaviour)
            corpus.append(data)
    print(f"{target}: {runs} inputs, {len(known)} behaviours, nothing found", flush=True)
    return 0


def work_with_atheris(target: str, seconds: float, held: mmap.mmap) -> int:
    """Have libFuzzer choose the inputs."""
    atheris = importlib.import_module("atheris")
    for name in ("url", "extension", "http", "handshake"):
        module = importlib.import_module(f"lapwing.protocol.{name}")
        for each in vars(module).values():
            if getattr(each, "__module__", None) == module.__name__ and hasattr(each, "__code__"):
                atheris.instrument_func(each)
    run = TARGETS[target]

    def one_input(data: bytes) -> None:
        held[: 4 + len(data)] = len(data).to_bytes(4, "big") + data
        run(data)

    corpus = FINDS / f"corpus-{target}"
    corpus.mkdir(exist_ok=True)
    for i, seed in enumerate(seeds(target)):
        (corpus / f"seed-{i}").write_bytes(seed)
    arguments = [f"-max_total_time={max(int(seconds), 1)}", "-max_len=20000", f"-artifact_prefix={FINDS}/", str(corpus)]
    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
