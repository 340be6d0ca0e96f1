"""Sound of what lies elsewhere: the same windows as of a file, by a second copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audio_files import tone, write_sound
from clap_models import write_tiny_clap
from clipcache.extract.audio.run import extract_sounds
from clipcache.extract.options import SoundOptions
from extract_runs import features_of
from web_server import WebServer

pytest.importorskip("transformers")
pytest.importorskip("soxr")


def test_windows_are_those_of_files(server: WebServer, scratch: Path, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    write_sound(path, tone(3.0, 48_000), 48_000, "pcm_s16le")
    clap = write_tiny_clap(tmp_path / "clap")
    options = SoundOptions(weights=clap, device="cpu", num_workers=0, scratch=scratch)
    assert extract_sounds([path], tmp_path / "here", options).extracted == 1
    url = server.add("/tone.wav", path.read_bytes())
    assert extract_sounds([url], tmp_path / "there", options).extracted == 1
    assert list(scratch.iterdir()) == []
    [here], [there] = features_of(tmp_path / "here").values(), features_of(tmp_path / "there").values()
    np.testing.assert_array_equal(here, there)
