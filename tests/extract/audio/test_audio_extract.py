"""`extract --audio` and `--model clap` with a tiny CLAP: entries that are right, whole, and scored like frames."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_files import click, on_channels, tone, write_sound
from clap_models import write_tiny_clap
from clipcache import cli
from clipcache.cache import Entry, FeatureCache
from clipcache.cache.common.errors import ModelError, UsageError
from clipcache.cache.verify import verify
from clipcache.extract.audio.clap import SoundEncoder, TextEncoder, load_text_encoder
from clipcache.extract.audio.run import extract_sounds
from clipcache.extract.audio.weights import find_clap
from clipcache.extract.audio.windows import Windows
from clipcache.extract.cluster import work_queue
from clipcache.extract.cluster.claims import Claims
from clipcache.extract.cluster.shards import Shard, number_of
from clipcache.extract.cluster.work_queue import WorkQueue
from clipcache.extract.inputs import HashedItem, Item
from clipcache.extract.options import SoundOptions
from extract_runs import Outcome, read_failures
from video_files import make_video

pytest.importorskip("transformers")
pytest.importorskip("soxr")

Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLAP, saved."""
    return write_tiny_clap(tmp_path_factory.mktemp("models") / "tiny-clap")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command as a person does, on the cache of this test; sound is decoded in this process."""

    def run(command: str, *words: str | os.PathLike[str]) -> Outcome:
        here = ["--num-workers", "0"] if command == "extract" else []
        arguments = [command, "--cache", str(tmp_path / "cache"), "--device", "cpu", *here, *map(os.fspath, words)]
        monkeypatch.setattr(sys, "argv", ["clipcache", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Outcome(int(leaving.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def talking(tmp_path: Path) -> Path:
    """A video of 25 s with a stereo tone."""
    return write_sound(
        tmp_path / "talking.mp4", on_channels(tone(25.0, 44_100), 2), 44_100, "aac", start_s=2, picture=True
    )


def sound_of(cache: Path) -> Entry:
    entries = [entry for entry in FeatureCache(cache) if entry.source_kind == "audio"]
    assert len(entries) == 1
    return entries[0]


def assert_sound(cache: Path) -> None:
    findings = list(verify(FeatureCache(cache)))
    assert findings
    assert [finding for finding in findings if finding.problem] == []


def test_pictures_and_sound_of_one_video_in_one_run(
    run: Run, talking: Path, clap: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    outcome = run("extract", talking, "--audio", "--audio-weights", clap, "--model", "tiny", "--weights", tiny_weights)
    assert (outcome.code, outcome.complaints) == (0, [])
    assert "Items: 1 extracted" in outcome.out
    assert "Sound: 1 extracted" in outcome.out
    assert_sound(tmp_path / "cache")
    picture, sound = sorted(FeatureCache(tmp_path / "cache"), key=lambda entry: entry.source_kind, reverse=True)
    assert (picture.source_kind, sound.source_kind) == ("video", "audio")
    assert picture.video_sha256 == sound.video_sha256
    again = run("extract", talking, "--audio", "--audio-weights", clap, "--model", "tiny", "--weights", tiny_weights)
    assert "0 extracted, 1 cached" in again.out.splitlines()[0]
    assert "0 extracted, 1 cached" in again.out.splitlines()[1]


def test_what_an_entry_of_sound_says(run: Run, talking: Path, clap: Path, tmp_path: Path) -> None:
    assert run("extract", talking, "--model", "clap", "--audio-weights", clap).code == 0
    entry = sound_of(tmp_path / "cache")
    attributes = entry.attributes
    assert (attributes.model, attributes.sampling, attributes.complete) == ("clap:tiny-clap", "all", True)
    assert (attributes.frames_expected, attributes.frames_decoded, len(entry)) == (3, 3, 3)
    assert (attributes.embed_dim, attributes.input_size, attributes.fps) == (512, 480_000, 0.1)
    assert attributes.logit_scale == pytest.approx(1 / 0.07)
    assert (attributes.normalization, attributes.logit_bias) == ("l2", 0.0)
    np.testing.assert_allclose(np.linalg.norm(entry.features.astype(np.float64), axis=1), 1, atol=1e-3)
    assert attributes.source_path == str(talking)
    assert attributes.preprocess == "clap: 48000 Hz mono, window 10 s, hop 10 s, soxr HQ"
    assert (attributes.width, attributes.height, attributes.rotation) == (0, 0, 0)
    assert (attributes.codec, attributes.decoder, attributes.precision) == ("aac", "pyav", "fp32")
    assert attributes.duration_s == pytest.approx(25.0, abs=0.03)
    assert entry.timestamps_ms.tolist() == [0.0, 10_000.0, 20_000.0]
    assert entry.frame_index.tolist() == [0, 1, 2]
    assert entry.quality["duration_ms"][:2].tolist() == [10_000.0, 10_000.0]
    assert entry.quality["duration_ms"][2] == pytest.approx(5_000, abs=30)
    assert entry.quality["rms_db"][0] == pytest.approx(-9.03, abs=0.1)


def test_features_are_those_of_the_model_itself(clap: Path, tmp_path: Path) -> None:
    """Computed by `transformers` alone, from the samples that were written."""
    import torch
    from transformers import ClapFeatureExtractor, ClapModel

    signal = (0.3 * np.random.default_rng(1).standard_normal((1, 48_000 * 14))).astype(np.float32)
    write_sound(tmp_path / "noise.wav", signal, 48_000, "pcm_f32le")
    extract_sounds([tmp_path / "noise.wav"], tmp_path / "cache", SoundOptions(clap, dtype="float32", device="cpu"))
    extractor = ClapFeatureExtractor.from_pretrained(clap)
    spectra = extractor(
        [signal[0, :480_000], signal[0, 480_000:]],
        truncation="rand_trunc",
        padding="repeatpad",
        sampling_rate=48_000,
        return_tensors="pt",
    )
    with torch.inference_mode():
        found = ClapModel.from_pretrained(clap).eval().get_audio_features(spectra["input_features"].float())
    expected = getattr(found, "pooler_output", found).numpy()
    np.testing.assert_allclose(sound_of(tmp_path / "cache").features, expected, atol=1e-5)


def test_every_run_and_every_batch_size_gives_the_same(talking: Path, clap: Path, tmp_path: Path) -> None:
    found = []
    for number, (batch_size, workers) in enumerate([(8, 0), (8, 1), (1, 0), (2, 1)]):
        how = {"device": "cpu", "batch_size": batch_size, "dtype": "float32", "num_workers": workers}
        options = SoundOptions(clap, Windows(5, 2.5), **how)
        extract_sounds([talking], tmp_path / str(number), options)
        found.append(sound_of(tmp_path / str(number)).features)
    assert len(found[0]) == 9
    assert np.array_equal(found[0], found[1])
    np.testing.assert_allclose(found[2], found[0], atol=1e-5)
    np.testing.assert_allclose(found[3], found[0], atol=1e-5)


def test_other_windows_are_another_entry(run: Run, talking: Path, clap: Path, tmp_path: Path) -> None:
    words = ["extract", talking, "--model", "clap", "--audio-weights", clap]
    assert "1 extracted" in run(*words).out
    assert "1 extracted" in run(*words, "--audio-window", "5", "--audio-hop", "2.5").out
    assert "1 cached" in run(*words, "--audio-window", "5", "--audio-hop", "2.5").out
    assert "1 cached" in run(*words).out
    assert sorted(entry.sampling for entry in FeatureCache(tmp_path / "cache")) == ["all", "window=5,hop=2.5"]
    assert_sound(tmp_path / "cache")


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "libmp3lame"), ("m4a", "aac"), ("ogg", "libopus")],
)
def test_audio_files_are_inputs(run: Run, clap: Path, tmp_path: Path, suffix: str, codec: str) -> None:
    (tmp_path / "music").mkdir()
    write_sound(tmp_path / "music" / f"sound.{suffix}", click(1.0, 2.0, 48_000), 48_000, codec)
    assert run("extract", tmp_path / "music", "--model", "clap", "--audio-weights", clap).code == 0
    entry = sound_of(tmp_path / "cache")
    assert (entry.video_name, len(entry)) == (f"sound.{suffix}", 1)


def test_audio_files_beside_videos_get_sound_and_videos_both(
    run: Run, clap: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    write_sound(folder / "sound.wav", tone(1.0, 48_000), 48_000, "pcm_s16le")
    make_video(folder / "mute.mp4", frames=3)
    words = ["--audio", "--audio-weights", clap, "--model", "tiny", "--weights", tiny_weights]
    outcome = run("extract", folder, *words, "--json")
    said = json.loads(outcome.out)
    assert outcome.code == 0
    assert (said["pictures"]["extracted"], said["sound"]["extracted"], said["sound"]["without_audio"]) == (1, 1, 1)


def test_a_missing_track_that_another_run_has_found_out_is_no_failure(
    run: Run, clap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute, cache = make_video(tmp_path / "mute.mp4", frames=3).path, tmp_path / "cache"
    words = ["extract", mute, "--model", "clap", "--audio-weights", clap, "--verbose"]
    assert "1 without audio track" in run(*words).out
    log = cache / "failed.jsonl"
    line = log.read_text()
    log.unlink()
    [model] = cache.glob("*/")
    other = Claims(model)
    other.take(HashedItem(Item(mute, "video"), json.loads(line)["sha256"], 1), Windows().sampling)

    def find_out(_: WorkQueue) -> None:
        log.write_text(line)
        other.close()

    monkeypatch.setattr(WorkQueue, "wait", find_out)
    monkeypatch.setattr(work_queue, "_POLL_S", 0.0)
    outcome = run(*words)
    assert "0 failed, 1 without audio track" in outcome.out
    assert "failed before" not in outcome.out + outcome.err
    assert f"'{mute}': no audio\n" in outcome.err
    assert outcome.code == 0


def test_shards_of_sound_rejoin(run: Run, clap: Path, tiny_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    for number in range(5):
        write_sound(folder / f"{number}.wav", tone(1.0 + number / 8, 48_000), 48_000, "pcm_s16le")
    words = [folder, "--model", "clap", "--audio-weights", clap, "--json"]
    said = [json.loads(run("extract", *words, "--shard", f"{index}/3").out) for index in range(3)]
    expected = [sum(number_of(f"{number}.wav", 3) == index for number in range(5)) for index in range(3)]
    assert [one["extracted"] for one in said] == expected
    assert [one["shard"] for one in said] == ["0/3", "1/3", "2/3"]
    assert len(FeatureCache(tmp_path / "cache")) == 5
    in_python = extract_sounds([folder], tmp_path / "cache", SoundOptions(clap, shard=Shard(1, 3)))
    assert in_python.cached == expected[1]
    full = {number_of(f"{number}.wav", 64) for number in range(5)}
    empty = f"{min(set(range(64)) - full)}/64"
    outcome = run("extract", *words[:1], "--audio", *words[3:], "--weights", tiny_weights, "--shard", empty)
    assert outcome.code == 0, "a shard without items is no error, nor for sound"
    assert {one["shard"] for one in json.loads(outcome.out).values()} == {empty}


def test_no_audio_track_is_recorded_and_no_failure(run: Run, clap: Path, tmp_path: Path) -> None:
    make_video(tmp_path / "mute.mp4", frames=3)
    words = ["extract", tmp_path / "mute.mp4", "--model", "clap", "--audio-weights", clap]
    for _ in range(2):
        outcome = run(*words)
        assert (outcome.code, outcome.complaints) == (0, [])
        assert "0 failed, 1 without audio track" in outcome.out
    assert [one["error"] for one in read_failures(tmp_path / "cache")] == ["NoAudio"]
    assert "no audio" in run(*words, "--dry-run").out


def test_a_folder_of_mute_and_loud_is_scored(run: Run, clap: Path, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    folder.mkdir()
    make_video(folder / "mute.mp4", frames=3)
    write_sound(folder / "sound.wav", tone(1.0, 48_000), 48_000, "pcm_s16le")
    write_sound(folder / "talking.mp4", tone(2.0, 48_000), 48_000, "aac", picture=True)
    run("extract", folder, "--model", "clap", "--audio-weights", clap)
    outcome = run("score", folder, "--text", "rain", "--format", "json")
    assert (outcome.code, outcome.complaints) == (0, [])
    assert sorted(row["video"] for row in json.loads(outcome.out)) == ["sound.wav", "talking.mp4"]
    (tmp_path / "cache" / "failed.jsonl").unlink()
    assert "wholly, in the cache" in run("score", folder, "--text", "rain").err


def test_one_bad_file_never_stops_a_run(run: Run, clap: Path, talking: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF" + bytes(100))
    words = ["extract", tmp_path / "bad.wav", talking, tmp_path / "gone.mp3", "--model", "clap", "--weights", clap]
    outcome = run(*words)
    assert outcome.code == 1
    assert len(outcome.complaints) == 2
    assert "1 extracted, 0 cached, 0 partial, 2 failed" in outcome.out
    assert [Path(one["path"]).name for one in read_failures(tmp_path / "cache")] == ["bad.wav"]
    assert "1 failed before" in run(*words).out
    write_sound(tmp_path / "bad.wav", tone(1.0, 48_000), 48_000, "pcm_s16le")
    assert "1 extracted, 1 cached" in run(*words, "--retry-failed").out


def test_damaged_sound_is_kept_and_said(run: Run, clap: Path, tmp_path: Path) -> None:
    noise = (0.3 * np.random.default_rng(7).standard_normal((1, 400_000))).astype(np.float32)
    path = write_sound(tmp_path / "noisy.m4a", noise, 48_000, "aac")
    content = bytearray(path.read_bytes())
    content[50_000:100_000] = b"\xff" * 50_000
    path.write_bytes(bytes(content))
    outcome = run("extract", path, "--model", "clap", "--audio-weights", clap)
    assert (outcome.code, "1 partial" in outcome.out) == (0, True)
    assert sound_of(tmp_path / "cache").complete is False


def test_scores_of_sound_are_cosines_with_claps_own_text(run: Run, clap: Path, talking: Path, tmp_path: Path) -> None:
    run("extract", talking, "--model", "clap", "--audio-weights", clap, "--dtype", "float32")
    outcome = run("score", "--model", "clap", "--text", "a dog barks", "--format", "json")
    assert outcome.code == 0
    row = json.loads(outcome.out)[0]
    from clipcache.cache import DigestMemo

    prompt = TextEncoder(find_clap(clap, DigestMemo()), "cpu").encode_texts(["a dog barks"])[0]
    features = np.asarray(sound_of(tmp_path / "cache").features, np.float64)
    cosines = features @ prompt / np.linalg.norm(features, axis=1) / np.linalg.norm(prompt)
    assert row["mean_cosine"] == pytest.approx(cosines.mean(), abs=1e-6)
    assert (row["comparison"], row["model"], row["frames"]) == ("audio-to-text", "clap:tiny-clap", 3)


def test_scores_of_sound_name_checkpoint_window_and_hop(run: Run, clap: Path, talking: Path) -> None:
    run("extract", talking, "--model", "clap", "--weights", clap, "--audio-window", "5", "--audio-hop", "2.5")
    outcome = run("score", "--model", "clap:tiny-clap", "--text", "rain")
    assert "Mean CLAP score (audio-to-text)" in outcome.out
    assert "clap:tiny-clap" in outcome.out
    assert "window 5 s, hop 2.5 s" in outcome.out
    table = run("score", "--model", "clap:tiny-clap", "--text", "rain", "--text", "wind")
    assert "CLAP" in table.out
    assert "window 5 s, hop 2.5 s" in table.out


def test_the_weight_of_clipscore_is_not_claps(run: Run, clap: Path, talking: Path) -> None:
    run("extract", talking, "--model", "clap", "--audio-weights", clap)
    outcome = run("score", "--text", "rain", "--metric", "clipscore")
    assert outcome.code == 2
    assert "mean cosine" in outcome.err


def test_sound_is_searched_as_frames_are(run: Run, clap: Path, talking: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(3).standard_normal((1, 48_000 * 30)) * np.linspace(0, 0.3, 48_000 * 30)
    other = write_sound(tmp_path / "noise.wav", noise.astype(np.float32), 48_000, "pcm_f32le")
    run("extract", talking, other, "--model", "clap", "--audio-weights", clap)
    found = json.loads(run("search", "rain", "--format", "json").out)
    cosines = {}
    for row in json.loads(run("score", "--text", "rain", "--per-frame", "--format", "json").out):
        cosines[row["video"], row["timestamp_ms"]] = row["cosine"]
    best = max(cosines, key=lambda key: cosines[key])
    assert (found[0]["video"], found[0]["at_ms"]) == best
    assert found[0]["cosine"] == pytest.approx(cosines[best], abs=1e-6)


def test_time_cuts_sound_as_it_cuts_pictures(run: Run, clap: Path, talking: Path) -> None:
    run("extract", talking, "--model", "clap", "--audio-weights", clap)
    rows = json.loads(run("score", "--text", "rain", "--start", "5", "--per-frame", "--format", "json").out)
    assert [row["timestamp_ms"] for row in rows] == [10_000.0, 20_000.0]


def test_sound_and_images_are_not_compared(run: Run, clap: Path, talking: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    run("extract", talking, "--model", "clap", "--audio-weights", clap)
    outcome = run("score", "--image", tmp_path / "picture.png")
    assert outcome.code == 2
    assert "CLAP encodes sound and text only" in outcome.err


def test_prompts_are_encoded_alike_whatever_their_company(clap: Path) -> None:
    from clipcache.cache import DigestMemo

    encoder = TextEncoder(find_clap(clap, DigestMemo()), "cpu")
    prompts = ["a dog", "This is a sound of people talking, music and an engine", "rain"]
    alone = np.concatenate([encoder.encode_texts([prompt]) for prompt in prompts])
    np.testing.assert_allclose(encoder.encode_texts(prompts), alone, atol=1e-6)
    with pytest.raises(ModelError, match="tokens, more than the 512 tokens"):
        encoder.encode_texts(["rain " * 2000])
    assert encoder.encode_texts(["rain " * 2000], truncate=True).shape == (1, 512)


def test_tensors_of_transformers_4_work_too(
    clap: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Version 4 gives the tensor that version 5 wraps."""
    from clipcache.cache import DigestMemo
    from transformers import ClapModel

    encoder = SoundEncoder(find_clap(clap, DigestMemo()), "cpu")
    window = np.ones(48_000, np.float32)
    wrapped = encoder.encode([window])
    original = ClapModel.get_audio_features
    monkeypatch.setattr(
        ClapModel,
        "get_audio_features",
        lambda self, **inputs: getattr(original(self, **inputs), "pooler_output", None),
    )
    assert np.array_equal(encoder.encode([window]), wrapped)
    assert not recwarn.list


def test_fused_checkpoints_are_refused(run: Run, tmp_path: Path, talking: Path) -> None:
    fused = write_tiny_clap(tmp_path / "fused", fused=True)
    outcome = run("extract", talking, "--model", "clap", "--audio-weights", fused)
    assert outcome.code == 1
    assert "is a fused CLAP" in outcome.err


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path, talking: Path, clap: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(clap, tmp_path / "half"))
    weights = load_file(folder / "model.safetensors")
    del weights["audio_projection.linear1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lacks weights"):
        extract_sounds([talking], tmp_path / "cache", SoundOptions(folder, device="cpu"))


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_damaged_models_are_one_sentence(run: Run, tmp_path: Path, talking: Path, clap: Path, damage: str) -> None:
    import shutil

    folder = Path(shutil.copytree(clap, tmp_path / "damaged"))
    (folder / damage).write_text("{")
    outcome = run("extract", talking, "--model", "clap", "--audio-weights", folder)
    assert outcome.code == 1
    assert len(outcome.complaints) == 1
    assert "damaged" in outcome.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--audio-window", "5"], "--audio, or --model clap"),
        (["--model", "clap:other"], "--audio-weights"),
        (["--model", "clap", "--audio-weights", "nowhere"], "not a folder"),
        (["--model", "clap", "--audio-weights", "nowhere", "--fps", "1"], "--audio-window"),
        (["--audio", "--audio-window", "11"], "between 0.1 and 10"),
        (["--audio", "--audio-hop", "0.05"], "seconds"),
    ],
)
def test_requests_that_make_no_sense(run: Run, talking: Path, words: list[str], sentence: str) -> None:
    outcome = run("extract", talking, *words)
    assert outcome.code in (1, 2)
    assert len(outcome.complaints) == 1
    assert sentence in outcome.err


def test_without_the_extra_one_sentence_says_what_to_install(
    run: Run, talking: Path, clap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "soxr" else found(name, *rest))
    outcome = run("extract", talking, "--model", "clap", "--audio-weights", clap)
    assert outcome.code == 2
    assert outcome.complaints == ["clipcache: Sound needs soxr; install with: pip install 'clipcache[audio]'"]


def test_a_checkpoint_that_cannot_be_fetched_is_one_sentence(
    run: Run, talking: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", refuse)
    outcome = run("extract", talking, "--model", "clap")
    assert outcome.code == 1
    assert len(outcome.complaints) == 1
    assert "no route to host" in outcome.err
    assert "--audio-weights" in outcome.err


def test_a_published_checkpoint_is_used_from_its_folder(
    run: Run, talking: Path, clap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(clap))
    assert run("extract", talking, "--model", "clap").code == 0
    assert sound_of(tmp_path / "cache").model == "clap:laion/clap-htsat-unfused"


def test_longer_windows_than_the_model_hears_never_reach_it(clap: Path) -> None:
    from clipcache.cache import DigestMemo

    encoder = SoundEncoder(find_clap(clap, DigestMemo()), "cpu")
    for length in (0, 480_001):
        with pytest.raises(AssertionError):
            encoder.encode([np.zeros(length, np.float32)])


def test_pictures_alone_are_no_sound(tmp_path: Path, clap: Path) -> None:
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    with pytest.raises(UsageError, match="no video and no audio file"):
        extract_sounds([tmp_path / "picture.png"], tmp_path / "cache", SoundOptions(clap))


@pytest.mark.parametrize("kind", [str, Path])
def test_every_path_may_be_a_str_or_a_path(kind: Any, talking: Path, clap: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{talking}\n")
    options = SoundOptions(kind(clap), device="cpu")
    summary = extract_sounds([kind(talking)], kind(tmp_path / "a"), options, list_file=kind(tmp_path / "list.txt"))
    assert summary.extracted == 1
    entry = sound_of(tmp_path / "a")
    encoder = load_text_encoder(entry.model, entry.weights_sha256, directory=kind(clap), device="cpu")
    assert encoder.encode_texts(["rain"]).shape == (1, entry.features.shape[1])


def test_a_cache_that_cannot_be_made_is_one_sentence(run: Run, talking: Path, clap: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = tmp_path / "file" / "cache"
    outcome = run("extract", talking, "--model", "clap", "--audio-weights", clap, "--cache", cache)
    sentence = f"clipcache: Cannot make the cache '{cache}': Not a directory; choose another --cache."
    assert (outcome.code, outcome.complaints) == (1, [sentence])


def test_a_verbose_run_says_each_failure_once(run: Run, talking: Path, clap: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF" + bytes(100))
    outcome = run("extract", "-v", tmp_path / "bad.wav", talking, "--model", "clap", "--audio-weights", clap)
    assert outcome.err.count(f"'{tmp_path / 'bad.wav'}': failed: ") == 1
    assert f"'{talking}': 3 windows of 25.0 s of sound" in outcome.err
    assert outcome.complaints == []
