"""A Ray of a program's own: nothing of it stays behind."""

import json
import subprocess
import sys

_PROGRAM = """
import json, os
from cluster.compute.client import private_ray

names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_USAGE_STATS_ENABLED")
os.environ["RAY_AUTH_MODE"] = "of the site"
look = lambda: {name: os.environ.get(name) for name in names}
before = look()
with private_ray():
    import ray
    inside, answer = look(), ray.get(ray.remote(lambda: 6 * 7).remote())
print(json.dumps({"before": before, "inside": inside, "answer": answer, "after": look()}))
"""


def test_variables_are_what_they_were_when_it_is_gone():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=180, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["answer"] == 42
    assert found["inside"]["RAY_AUTH_MODE"] == "token"
    assert found["inside"]["RAY_AUTH_TOKEN_PATH"]
    assert found["after"] == found["before"]
