"""Ten people who do not exist, for comparisons: no two alike, and what each does is known."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from m2dao.commands.bench.cast import cast, film_cast
from m2dao.errors import ConfigError
from m2dao.presenter.incidents import INCIDENTS
from m2dao.tts import synthesise


def test_the_ten_differ_in_face_age_beard_glasses_and_language():
    roles = cast()
    assert len({role.person.name for role in roles}) == len(roles) == 10
    assert len({role.person.language for role in roles}) >= 7
    assert len({role.person.skin for role in roles}) >= 3
    assert len({role.person.hair for role in roles}) >= 3
    worn = [role.incidents for role in roles]
    assert {name for each in worn for name in each} == {"beard", "glasses"} <= set(INCIDENTS)
    assert any(not each for each in worn)


@pytest.mark.parametrize("role", cast()[2:], ids=lambda role: role.person.name)
def test_everybody_speaks_and_closes_the_lips(role):
    person = role.person
    speech = synthesise(person.sentence, person.voice, language=person.language)
    assert np.isfinite(speech.waveform).all()
    assert np.abs(speech.waveform).max() > 0.05
    assert sum(phone.symbol in "mbp" for phone in speech.phones if phone.symbol) >= 4


def test_films_have_their_truth_beside_them_and_are_made_once(tmp_path):
    told = []
    (film,) = film_cast(tmp_path, 1, seconds=1, size=64, on_progress=lambda what, share: told.append(what))
    truth = load_file(film.with_suffix(".truth.safetensors"))
    assert len(truth["closed"]) == 25
    assert told
    told.clear()
    assert film_cast(tmp_path, 1, seconds=1, size=64, on_progress=lambda what, share: told.append(what)) == [film]
    assert not told
    with pytest.raises(ConfigError, match="presenters"):
        film_cast(tmp_path, 11, seconds=2, size=64, on_progress=lambda what, share: None)
