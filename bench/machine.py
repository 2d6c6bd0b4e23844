"""What a result depends on besides the programs: the machine, its noise, and the versions of what was measured."""

import json
import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")

PROBE = """
import importlib.metadata, importlib.util, json, platform, sys
found = {"Python": platform.python_implementation() + " " + platform.python_version()}
for pair in sys.argv[1:]:
    distribution, module = pair.split(":")
    if importlib.util.find_spec(module) is None:
        continue
    try:
        found[distribution] = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        found[distribution] = "from a source tree"
print(json.dumps(found))
"""


def versions(python: str, packages: dict[str, str]) -> dict[str, str]:
    """Ask an interpreter for its version and those of the packages that it has.

    Args:
        python: the interpreter that runs the contenders.
        packages: distribution names and the module of each.
    """
    pairs = [f"{distribution}:{module}" for distribution, module in packages.items()]
    # Away from here, so that no file of this directory is taken for a package.
    probe = subprocess.run([python, "-c", PROBE, *pairs], capture_output=True, text=True, check=True, cwd="/")
    found: dict[str, str] = json.loads(probe.stdout)
    return found


def node_versions(directory: Path) -> dict[str, str]:
    """Tell the version of Node.js and that of ws, as installed in the directory; nothing where one is missing."""
    package = directory / "node_modules" / "ws" / "package.json"
    if not package.exists() or shutil.which("node") is None:
        return {}
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return {"Node.js": node.stdout.strip(), "ws (Node.js)": json.loads(package.read_text())["version"]}


def find_redis() -> str:
    """Find the program of a server of Redis, also where not every user's PATH looks; empty where there is none."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    return shutil.which("redis-server", path=path) or ""


def redis_version(program: str) -> str:
    """Tell the version of a server of Redis."""
    words = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return next((word.removeprefix("v=") for word in words if word.startswith("v=")), "unknown")


def cpu_model() -> str:
    """Name the processor, as the kernel does."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_gib() -> float:
    """Tell the memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30


def describe() -> dict[str, str]:
    """Describe the machine for the report."""
    return {
        "CPU": f"{cpu_model()}, {os.cpu_count()} cores",
        "memory": f"{memory_gib():.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
    }


def choose_cores() -> tuple[int, int]:
    """Choose the core of the measured process and that of its peer; the same one where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1], cores[0]


def raise_descriptor_limit() -> int:
    """Allow this process and its children as many open files as may be; tell how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def user_memory_kib(pid: int) -> float:
    """Tell the resident anonymous memory of a process: what it allocated, without files and the kernel's part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return float(line.split()[1])
    raise RuntimeError("smaps_rollup has no line 'Anonymous:'")


def peak_memory_mib(pid: int) -> float:
    """Tell the most resident memory that a process has had, shared files included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    raise RuntimeError("status has no line 'VmHWM:'")


class Noise:
    """How much of the machine others took since this was made: other programs, and the host of a virtual machine."""

    def __init__(self) -> None:
        self._all, self._busy, self._stolen = self._read()
        self._own = self._own_seconds()

    @staticmethod
    def _read() -> tuple[float, float, float]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        user, nice, system, _idle, _io_wait, interrupt, soft_interrupt, stolen = fields
        busy = user + nice + system + interrupt + soft_interrupt
        return sum(fields) / TICK, busy / TICK, stolen / TICK

    @staticmethod
    def _own_seconds() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in used)

    def shares(self) -> dict[str, float]:
        """Tell both as shares of all CPU time. Children that still run count as others."""
        total, busy, stolen = self._read()
        elapsed = total - self._all or 1.0
        own = self._own_seconds() - self._own
        return {
            "other programs": max(0.0, (busy - self._busy - own) / elapsed),
            "stolen by the host": (stolen - self._stolen) / elapsed,
        }
