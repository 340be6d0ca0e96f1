"""`clipcache align` on planted embeddings: two spaces that share nothing but what their anchors say."""

from __future__ import annotations

import hashlib
import json
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cache_entries import make_attributes
from click.testing import CliRunner, Result
from clipcache.cache import write_entry
from clipcache.cache.common.errors import UsageError
from clipcache.cli import cli
from clipcache.score.align.bank import load_bank
from clipcache.score.align.cka import debiased_cka, shared_change
from clipcache.score.align.measure import PICTURE_TEMPLATE, SOUND_TEMPLATE, read_vocabulary
from clipcache.score.align.relative import area_under_curve, pair_scores, representations, retrieval, window_means

DIM = 96
WINDOWS = 4
FRAMES_EACH = 10  # a window of 10 s at one frame a second
HUBS = 12  # anchors that fit everything: a photo of a picture, a sound of a noise
CLAP, CLIP = "clap:tiny", "ViT-B/32"
WEIGHTS = {CLIP: "aa" * 32, CLAP: "bb" * 32}


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


class Planted:
    """Videos about a few things each; pictures and sounds of a thing lie near its anchor, each in its own space."""

    def __init__(self, videos: int = 40, seed: int = 0, rotation: np.ndarray | None = None) -> None:
        rng = np.random.default_rng(seed)
        self.words = read_vocabulary(None)
        spaces = [unit(rng.normal(size=(len(self.words), DIM))) for _ in range(2)]
        hubs = [unit(rng.normal(size=DIM)) for _ in range(2)]
        for anchors, hub in zip(spaces, hubs, strict=True):
            anchors[:HUBS] = unit(anchors[:HUBS] + 3 * hub)
        self.anchors = spaces
        about = [rng.choice(np.arange(HUBS, len(self.words)), WINDOWS, replace=False) for _ in range(videos)]
        self.features = [
            [self._features(rng, spaces[side][things], hubs[side], (FRAMES_EACH, 1)[side]) for things in about]
            for side in range(2)
        ]
        if rotation is not None:  # of the pictures' space, with its own text
            self.anchors[0] = self.anchors[0] @ rotation
            self.features[0] = [features @ rotation for features in self.features[0]]

    @staticmethod
    def _features(rng: np.random.Generator, things: np.ndarray, hub: np.ndarray, rows_each: int) -> np.ndarray:
        rows = np.repeat(things, rows_each, axis=0)
        return rows + 1.5 * hub + rng.normal(0, 0.07, rows.shape)

    def write(self, cache: Path, silent: Sequence[int] = ()) -> None:
        for number, (picture, sound) in enumerate(zip(*self.features, strict=True)):
            self._put(cache, CLIP, number, picture, np.arange(len(picture)) * 1000.0 + 500)
            level = np.where(np.isin(np.arange(WINDOWS), silent), -90.0, -20.0).astype(np.float32)
            quality = {"duration_ms": np.full(WINDOWS, 10_000, np.float32), "rms_db": level}
            self._put(cache, CLAP, number, sound, np.arange(WINDOWS) * 10_000.0, "audio", quality)

    @staticmethod
    def _put(
        cache: Path,
        model: str,
        number: int,
        features: np.ndarray,
        times_ms: np.ndarray,
        kind: str = "video",
        quality: Any = None,
    ) -> None:
        counts = {"frames_expected": len(features), "frames_decoded": len(features), "embed_dim": DIM}
        digest = hashlib.sha256(str(number).encode()).hexdigest()
        made = {"model": model, "weights_sha256": WEIGHTS[model], "source_kind": kind}
        attributes = make_attributes(video_name=f"{number}.mp4", video_sha256=digest, **made, **counts)
        write_entry(cache, attributes, features.astype(np.float32), times_ms, np.arange(len(times_ms)), None, quality)

    def encoder(self, model: str) -> Any:
        side, template = (1, SOUND_TEMPLATE) if model == CLAP else (0, PICTURE_TEMPLATE)
        vectors = {template.format(word): self.anchors[side][k] for k, word in enumerate(self.words)}

        class Encoder:
            def encode_texts(self, prompts: Sequence[str], truncate: bool = False) -> np.ndarray:
                return np.array([vectors[prompt] for prompt in prompts], np.float32)

        return Encoder()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the planted anchors what both text encoders say."""

    def use(planted: Planted) -> None:
        for name, function in (
            ("extract.models.prompts", "load_reference_encoder"),
            ("extract.audio.clap", "load_text_encoder"),
        ):
            module = types.ModuleType(f"clipcache.{name}")
            vars(module)[function] = lambda model, *_, **__: planted.encoder(model)
            monkeypatch.setitem(sys.modules, f"clipcache.{name}", module)

    return use


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, ["align", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(*arguments: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(*arguments, "--format", "json").stdout)
    return found


def own_and_others(found: list[dict[str, Any]]) -> tuple[float, float]:
    return float(np.mean([row["align"] for row in found])), float(np.mean([row["mismatched_align"] for row in found]))


# The measure.


def test_planted_pairs_are_told_from_others(tmp_path: Path, install: Any) -> None:
    planted = Planted()
    planted.write(tmp_path / "features")
    install(planted)
    result = run("--cache", tmp_path / "features")
    line = result.stdout.splitlines()[-1]
    auc = float(line.split("mismatched ")[-1].split(" ")[0])
    assert auc > 0.95, line
    assert "recall@1 " in line
    assert "recall@10 " in line
    found = rows("--cache", tmp_path / "features")
    own, others = own_and_others(found)
    assert own > 0.2
    assert abs(others) < 0.05, "mismatched pairs must lie near 0"
    assert sum(row["rank_of_own_sound"] == 1 for row in found) > 30


def test_raw_cosines_would_not_tell_them() -> None:
    """What the measure is for: the same videos by the cosine of what their anchors say, not standardised."""
    planted = Planted()
    described = [
        [
            unit(features.reshape(WINDOWS, -1, DIM).mean(1)) @ planted.anchors[side].T
            for features in planted.features[side]
        ]
        for side in range(2)
    ]
    raw = pair_scores(*[[unit(scores).astype(np.float32) for scores in side] for side in described])
    found = retrieval(raw)
    assert found is not None
    assert found.mismatched > 0.4, "hubs make everything alike"


def test_rotating_a_space_with_its_text_changes_nothing(tmp_path: Path, install: Any) -> None:
    rotation = np.linalg.qr(np.random.default_rng(5).normal(size=(DIM, DIM)))[0]
    found = []
    for name, planted in (("a", Planted()), ("b", Planted(rotation=rotation))):
        planted.write(tmp_path / name)
        install(planted)
        found.append([row["align"] for row in rows("--cache", tmp_path / name)])
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_silent_windows_do_not_count(tmp_path: Path, install: Any) -> None:
    planted = Planted()
    planted.write(tmp_path / "features", silent=[1, 2])
    install(planted)
    assert {row["windows"] for row in rows("--cache", tmp_path / "features")} == {WINDOWS - 2}
    assert {row["windows"] for row in rows("--cache", tmp_path / "features", "--silence", -100)} == {WINDOWS}


def test_a_silent_video_has_no_score(tmp_path: Path, install: Any) -> None:
    planted = Planted(videos=17)
    planted.write(tmp_path / "features")
    install(planted)
    quiet = {"duration_ms": np.full(WINDOWS, 10_000, np.float32), "rms_db": np.full(WINDOWS, -120, np.float32)}
    planted._put(tmp_path / "features", CLAP, 3, planted.features[1][3], np.arange(WINDOWS) * 1e4, "audio", quiet)
    by_name = {row["video"]: row for row in rows("--cache", tmp_path / "features")}
    assert (by_name["3.mp4"]["align"], by_name["3.mp4"]["windows"]) == (None, 0)
    assert by_name["4.mp4"]["align"] is not None


def test_a_saved_bank_gives_the_same_scores_and_serves_few_videos(tmp_path: Path, install: Any) -> None:
    planted = Planted()
    planted.write(tmp_path / "features")
    install(planted)
    whole = rows("--cache", tmp_path / "features", "--save-bank", tmp_path / "bank.npz")
    assert rows("--cache", tmp_path / "features", "--bank", tmp_path / "bank.npz") == whole
    few = Planted(videos=40)
    few.features = [side[:3] for side in few.features]
    few.write(tmp_path / "few")
    again = rows("--cache", tmp_path / "few", "--bank", tmp_path / "bank.npz")
    assert [row["align"] for row in again] == pytest.approx([row["align"] for row in whole[:3]], abs=1e-6)


def test_a_small_set_needs_a_bank_and_a_middling_one_is_warned_of(tmp_path: Path, install: Any) -> None:
    small, middling = Planted(videos=8), Planted(videos=20)
    small.write(tmp_path / "small")
    middling.write(tmp_path / "middling")
    install(small)
    with pytest.raises(UsageError, match="16 videos or more"):
        run("--cache", tmp_path / "small")
    assert "below 32" in run("--cache", tmp_path / "middling").stderr


def test_a_question_asked_before_loads_no_encoder(
    tmp_path: Path, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = Planted(videos=33)
    planted.write(tmp_path / "features")
    install(planted)
    first = rows("--cache", tmp_path / "features")
    monkeypatch.setattr(planted, "encoder", lambda model: pytest.fail(f"{model} was loaded"))
    assert rows("--cache", tmp_path / "features") == first


@pytest.mark.parametrize("spoil", [b"", b"PK\x03\x04nonsense", None])
def test_a_bank_that_does_not_fit_is_one_sentence(tmp_path: Path, spoil: bytes | None) -> None:
    path = tmp_path / "bank.npz"
    if spoil is None:
        zeros = np.zeros(4)
        np.savez(
            path, items=20, made_with="other", picture_mean=zeros, picture_std=zeros, sound_mean=zeros, sound_std=zeros
        )
    else:
        path.write_bytes(spoil)
    with pytest.raises(UsageError, match="bank") as caught:
        load_bank(path, "expected", 4)
    assert "\n" not in str(caught.value)


def test_without_sound_the_command_that_adds_it_is_named(tmp_path: Path) -> None:
    planted = Planted(videos=1)
    planted._put(tmp_path / "features", CLIP, 0, planted.features[0][0], np.arange(40) * 1000.0)
    planted._put(tmp_path / "features", CLAP, 1, planted.features[1][0], np.arange(4) * 1e4, "audio")
    with pytest.raises(UsageError, match="--audio"):
        run("--cache", tmp_path / "features")


def test_a_short_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("a dog\na cat\n")
    with pytest.raises(UsageError, match="128 things or more"):
        read_vocabulary(tmp_path / "few.txt")
    assert len(set(read_vocabulary(None))) >= 128


# Its parts.


@pytest.mark.parametrize("cut", [1, 3, 50])
def test_window_means_are_those_of_the_frames_in_them(cut: int) -> None:
    rng = np.random.default_rng(0)
    values, times = rng.normal(size=(50, 3)).astype(np.float32), np.sort(rng.uniform(0, 20_000, 50))
    starts, lengths = np.array([0, 2_500, 5_000, 60_000.0]), np.full(4, 5_000.0)  # overlapping, and one beyond the end
    blocks = (values[start : start + cut] for start in range(0, 50, cut))
    found = window_means(blocks, times, starts, lengths)
    for window in range(3):
        inside = (times >= starts[window]) & (times < starts[window] + 5_000)
        np.testing.assert_allclose(found[window], values[inside].mean(0), rtol=1e-4, atol=1e-6)
    assert np.isnan(found[3]).all()


def test_auc_counts_pairs() -> None:
    assert area_under_curve(np.array([3.0, 1.0]), np.array([2.0, 1.0, 0.0])) == pytest.approx((3 + 1.5) / 6)


def test_a_row_that_says_nothing_stays_nothing() -> None:
    from clipcache.score.align.relative import Moments

    scores = np.array([[0.1, 0.5, 0.2], [np.nan] * 3], np.float32)
    found = representations(scores, Moments(np.zeros(3), np.ones(3)))
    assert np.linalg.norm(found[0]) == pytest.approx(1, abs=1e-5)
    assert found[0].sum() == pytest.approx(0, abs=1e-5)
    assert np.isnan(found[1]).all()


def test_unbiased_cka_is_near_zero_for_unrelated_and_one_for_identical() -> None:
    rng = np.random.default_rng(0)
    values = [debiased_cka(rng.normal(size=(30, 512)), rng.normal(size=(30, 512))) for _ in range(50)]
    assert abs(np.mean(values)) < 0.02
    a = rng.normal(size=(30, 64))
    rotated = a @ np.linalg.qr(rng.normal(size=(64, 64)))[0]
    assert debiased_cka(a, a) == pytest.approx(1)
    assert debiased_cka(a, rotated * 7) == pytest.approx(1)


def test_cka_follows_the_formula_term_by_term() -> None:
    """Against the sums written out over all indices (Song et al. 2012, equation 4)."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(6, 4)), rng.normal(size=(6, 5))

    def hsic(x: np.ndarray, y: np.ndarray) -> float:
        k, m, n = x @ x.T, y @ y.T, len(x)
        different = [(i, j, q, r) for i in range(n) for j in range(n) for q in range(n) for r in range(n)]
        different = [t for t in different if len(set(t)) == 4]
        return float(np.mean([k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in different]))

    assert debiased_cka(a, b) == pytest.approx(hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b)), rel=1e-6)


def test_shared_change_is_found_against_shifts_and_needs_windows() -> None:
    rng = np.random.default_rng(1)
    scenes = np.repeat(rng.normal(size=(6, 8)), [3, 7, 4, 8, 2, 6], axis=0)
    a = (scenes @ rng.normal(size=(8, 20)) + rng.normal(0, 0.2, (30, 20))).astype(np.float32)
    b = (scenes @ rng.normal(size=(8, 30)) + rng.normal(0, 0.2, (30, 30))).astype(np.float32)
    found = shared_change(a, b)
    assert found is not None
    assert found.cka > 0.5
    assert found.p_value <= 2 / 30
    assert found.null_mean < found.cka / 2
    assert shared_change(a[:23], b[:23]) is None
    still = shared_change(np.ones((30, 4), np.float32), b)
    assert still is not None
    assert still.cka == 0
