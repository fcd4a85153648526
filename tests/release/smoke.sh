#!/usr/bin/env bash
# smoke.sh WHEEL PYTHON: does the wheel work in a clean environment, away from the checkout? First as an image that serves
# installs it, then with what fitting needs. Versions are those of requirements.lock.
set -euo pipefail
wheel=$(realpath "$1")
python=$2
lock=$(realpath "$(dirname "$0")/../../requirements.lock")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
unset PYTHONPATH VIRTUAL_ENV
"$python" -m venv env
install() { env/bin/python -m pip install --quiet --disable-pip-version-check --constraint "$lock" "$1"; }

echo "== base: what serves"
install "$wheel"
env/bin/m2dao --version
for command in m2dao m2dao-cluster m2dao-train m2dao-serve; do env/bin/$command --help > /dev/null; done
env/bin/python -c "import serve_apps.app, m2dao.identity.talker; from cluster.state import jobs"

echo "== with fit and demo: from a synthetic recording to a speaking video"
install "$wheel[fit,demo]"
env/bin/m2dao presenter --out recordings --person mira --seconds 8 --size 256
env/bin/m2dao prepare recordings/mira.mp4 --out capture --size 128
env/bin/m2dao fit capture --out identity --size 64 --steps 30
env/bin/m2dao presenter --out speech --person omar --speech-only --sentence "This wheel can speak."
env/bin/m2dao render identity --audio speech/omar.wav --out speaking.mp4
env/bin/m2dao inspect speaking.mp4 --json
echo "== $(basename "$wheel") works"
