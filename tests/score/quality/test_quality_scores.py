"""Attribute files, and the arithmetic of attribute scores against plain numpy."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from clipcache.cache import Entry
from clipcache.cache.common.errors import ClipcacheError, UsageError
from clipcache.score.compare import FrameSelection
from clipcache.score.quality.aesthetic import AttributeScorer
from clipcache.score.quality.attributes import Attributes, Pair, read_attributes
from clipcache.score.quality.methods import MEASURES, score_videos
from clipcache.score.similarity import unit_rows
from quality_caches import add_measures
from score_caches import make_video, put

THREE = Attributes((Pair("Light", "a", "b"), Pair("depth of field", "c", "d")), ("e", "f", "g"), ("h",))


def test_the_bundled_attributes_are_complete() -> None:
    attributes = read_attributes()
    assert [pair.name for pair in attributes.pairs] == ["composition", "placement", "cropping", "quality"]
    assert "pos_professional_photography" in attributes.score_names
    assert "neg_poor_framing" in attributes.score_names


def test_a_file_of_ones_own_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("pairs:\n  光: {positive: 明るい写真, negative: 暗い写真}\npositive: [lovely]\n", encoding="utf-8")
    attributes = read_attributes(path)
    assert attributes.prompts == ("明るい写真", "暗い写真", "lovely")
    assert attributes.score_names == ("contrast_光", "pos_lovely")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pairs: {a: {positive: x, negative: y}", "not valid YAML, line"),
        ("", "must have the key 'pairs'"),
        ("pairs: {}", "must have the key 'pairs'"),
        ("pairs: {a: {positive: x, negative: y}}\npositve: [z]", "no others"),
        ("pairs: [x, y]", "must map the name of each pair"),
        ("pairs: {a: {positive: x}}", "The pair 'a' .* must have one 'positive' and one 'negative'"),
        ("pairs: {a: x}", "The pair 'a'"),
        ("pairs: {a: {positive: x, negative: ''}}", "the prompt '', which is empty"),
        ("pairs: {a: {positive: x, negative: 3}}", "the prompt 3"),
        ("pairs: {a: {positive: x, negative: y}}\npositive: z", "'positive' .* must be a list"),
        ("pairs: {a: {positive: x, negative: y}}\nnegative: [z, Z!]", "would be called 'neg_z'"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=sentence) as caught:
        read_attributes(path)
    assert "bad.yaml" in str(caught.value)


def test_each_score_is_what_its_definition_says() -> None:
    rng = np.random.default_rng(5)
    features, prompts = rng.normal(size=(20, 16)), rng.normal(size=(8, 16))
    cosines = features @ prompts.T / np.outer(np.linalg.norm(features, axis=1), np.linalg.norm(prompts, axis=1))
    a, b, c, d, e, f, g, h = cosines.T
    scorer = AttributeScorer(THREE, unit_rows(prompts), logit_scale=20.0)
    got = dict(zip([column.name for column in scorer.columns], scorer(unit_rows(features)).T, strict=True))
    odds = [np.exp(20 * p) / (np.exp(20 * p) + np.exp(20 * n)) for p, n in ((a, b), (c, d))]
    expected = {
        "contrast_light": a - b,
        "contrast_depth_of_field": c - d,
        "pos_e": e,
        "pos_f": f,
        "pos_g": g,
        "neg_h": h,
        "weighted": 0.5 * ((a - b) + (c - d)) / 2 + 0.3 * (e + f + g) / 3 - 0.2 * h,
        "contrastive_only": ((a - b) + (c - d)) / 2,
        "mean": ((a - b) + (c - d) + e + f + g - h) / 6,
        "pair_probability_light": odds[0],
        "pair_probability_depth_of_field": odds[1],
        "pair_probability": (odds[0] + odds[1]) / 2,
    }
    assert set(got) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, atol=2e-6, err_msg=name)


def test_attributes_without_single_prompts_count_zero_for_them() -> None:
    scorer = AttributeScorer(Attributes((Pair("p", "a", "b"),)), np.eye(2, dtype=np.float32), logit_scale=100.0)
    got = dict(zip([column.name for column in scorer.columns], scorer(np.eye(2, dtype=np.float32))[0], strict=True))
    assert (got["weighted"], got["contrastive_only"], got["mean"]) == (0.5, 1, 1)
    assert got["pair_probability"] == 1  # and no overflow


def test_the_highest_and_lowest_scores_are_the_ends_of_the_ranges() -> None:
    same = Attributes((Pair("p", "good", "bad"),), ("good",), ("bad",))
    good, bad = np.array([[1, 0]], np.float32), np.array([[-1, 0]], np.float32)
    scorer = AttributeScorer(same, np.concatenate([good, bad, good, bad]), 100.0)
    names = [column.name for column in scorer.columns]
    assert scorer(good)[0, names.index("weighted")] == pytest.approx(1.5)
    assert scorer(bad)[0, names.index("weighted")] == pytest.approx(-1.5)


def test_a_bad_entry_is_named_and_the_others_are_scored(tmp_path: Path) -> None:
    cache = tmp_path / "features"
    bad = put(cache, make_video(tmp_path, "bad.mp4"), np.array([[1, 0], [0, 1]]))
    with h5py.File(bad, "r+") as file:
        file["features"][1] = np.nan
    good = put(cache, make_video(tmp_path, "good.mp4"), np.array([[1, 0], [0, 1]]))
    add_measures(cache, good, {"sharpness": [7, 9]})
    scorer = AttributeScorer(Attributes((Pair("p", "a", "b"),)), np.eye(2, dtype=np.float32), 100.0)
    skipped: list[tuple[Path, ClipcacheError]] = []
    entries = [Entry(bad), Entry(good)]
    scored = list(score_videos(entries, [scorer], FrameSelection(), lambda *what: skipped.append(what), MEASURES[:2]))
    assert [one.video.path for one in scored] == [good]
    assert scored[0].values["contrast_p"].tolist() == [1, -1]
    assert scored[0].values["sharpness"].tolist() == [7, 9]
    assert np.isnan(scored[0].values["contrast"]).all()
    assert [path for path, _ in skipped] == [bad]
    assert "not finite" in str(skipped[0][1])
