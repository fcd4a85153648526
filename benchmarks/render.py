"""Measures the renderer over sizes, numbers of Gaussians and threads, one process a row.

python benchmarks/render.py                     a table on standard output
python benchmarks/render.py --json > rows.json  the commands' own objects, as a list
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

WORKLOADS = ((256, 13000), (512, 13000), (512, 30000), (512, 60000))  # size, Gaussians
COLUMNS = (
    "size",
    "num_gaussians",
    "threads",
    "forward_ms",
    "forward_ms_min",
    "backward_ms",
    "backward_ms_min",
    "peak_rss_mb",
)


def measure(backend: str, size: int, num_gaussians: int, num_threads: int, repeats: int) -> dict:
    """The JSON object of one run."""
    flags = {
        "--backend": backend,
        "--size": size,
        "--gaussians": num_gaussians,
        "--channels": 4,
        "--threads": num_threads,
        "--repeats": repeats,
    }
    command = [sys.executable, "-m", "m2dao.cli", "bench", "render", "--json"]
    for flag, value in flags.items():
        command += [flag, str(value)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="cpu", choices=("cpu", "gsplat"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = [
        measure(args.backend, size, num_gaussians, num_threads, args.repeats)
        for size, num_gaussians in WORKLOADS
        for num_threads in args.threads
    ]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print(" | ".join(COLUMNS))
    for row in rows:
        print(" | ".join(str((row | row["hardware"])[column]) for column in COLUMNS))
    print(f"on {rows[0]['hardware']['gpu'] or rows[0]['hardware']['processor']}")


if __name__ == "__main__":
    main()
