"""What other programs may use by `from m2dao import ...`, and the example that shows it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import m2dao
from m2dao.media.audio import read_audio
from m2dao.media.video import read_frames
from m2dao.presenter import make_recording, speak
from m2dao.timeline import SAMPLES_PER_FRAME

ROOT = Path(__file__).parents[2]
PUBLIC = ["Capture", "Talker", "evaluate", "fit", "prepare"]  # a name taken away breaks other people's programs


def test_the_public_names_are_these_and_no_others():
    assert sorted(m2dao.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(m2dao))
    assert all(callable(getattr(m2dao, name)) for name in PUBLIC)
    with pytest.raises(AttributeError, match="no attribute 'perform'"):
        _ = m2dao.perform


def test_each_name_loads_its_own_part_of_the_engine_and_no_other():
    program = (
        "from m2dao import Capture; import sys; print(*(name for name in sys.modules if name.startswith('m2dao.')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert [name for name in ran.stdout.split() if name.startswith(("m2dao.identity", "m2dao.training"))] == []


def readme_example():
    """The first block of Python in the README."""
    found = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found, "the README shows no example"
    return found[1]


def test_the_example_of_the_readme_makes_a_film_from_a_recording(tmp_path, monkeypatch):
    """As written, but for a recording of six seconds and a fit of 20 steps at 64 pixels."""
    example, fit = readme_example(), m2dao.fit
    video, *_, film = re.findall(r'"([\w./-]+\.mp4)"', example)
    (sound,) = re.findall(r'"([\w./-]+\.wav)"', example)
    made = make_recording(tmp_path / "presenter", person="mira", seconds=6, size=224)
    made.video.rename(tmp_path / video)
    speak("Nobody has ever met me.", "omar", tmp_path / sound)
    small = {"minutes": None, "steps": 20, "size": 64}
    monkeypatch.setattr(m2dao, "fit", lambda *args, **options: fit(*args, **options | small))
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    assert len(list(read_frames(tmp_path / film))) == len(read_audio(tmp_path / film)) // SAMPLES_PER_FRAME > 25
