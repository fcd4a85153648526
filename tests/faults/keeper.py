"""The keeper of the site: the real one, but its fits are small work.

python -m tests.faults.keeper
"""

from __future__ import annotations

import sys

from cluster.keeper.__main__ import main

LEASE_S = 4.0  # how long a fit worker of the site may be silent

if __name__ == "__main__":
    sys.exit(
        main(
            work="tests.support.small_work:small_fit",
            job_flags=("--lease-s", str(LEASE_S), "--steps-every-s", "0"),
        )
    )
