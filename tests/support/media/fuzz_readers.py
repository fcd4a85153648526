"""Lets atheris look for bytes that our own readers of file headers do not survive.

    pip install 'm2dao[fuzz]'
    python -m tests.support.media.fuzz_readers --seconds 60 --seed 7

Every input is read, or refused by MediaError. Atheris keeps what breaks that as ``crash-*`` in the working folder.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["m2dao.media.survey"]):
    from m2dao.media.survey import joined, kinds, sizes

from m2dao.errors import MediaError
from tests.support.media.fuzz import make_files

MAX_BYTES = 20_000


def read(path: Path) -> None:
    """What our own code reads of a file before any library does."""
    with contextlib.suppress(MediaError):
        kinds.kind_of(path)
        if path.stat().st_size:
            kinds.lacks_index(path)
            kinds.dolby_vision_profile(path)
        for part in joined.find_parts(path):
            assert 0 <= part.start <= part.end
    sizes.vp8_size(path.read_bytes()[:16])
    sizes.vp9_size(path.read_bytes()[:16])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-readers-"))
    corpus, path = folder / "corpus", Path("/dev/shm") / f"fuzz-readers-{os.getpid()}"
    corpus.mkdir()
    make_files(corpus)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    options = [f"-max_total_time={args.seconds}", f"-seed={args.seed}", f"-max_len={MAX_BYTES}", "-timeout=60"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], one)
    try:
        atheris.Fuzz()
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
