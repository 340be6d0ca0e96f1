"""`clipcache models` and `clipcache doctor`: numbers that can be counted again, and a remedy for everything broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from clipcache.cache import show_progress
from clipcache.cache.common.errors import ModelError
from clipcache.extract.machine import codec_check, doctor
from clipcache.extract.machine.command import doctor as doctor_command
from clipcache.extract.machine.command import models as models_command
from clipcache.extract.models import listing, weights
from clipcache.extract.models.weights import DEMO_MODEL, OPENAI_MODELS
from tiny_models import write_tiny_weights


def run(command: click.Command, *arguments: object) -> Result:
    with show_progress():  # as the program does
        result = CliRunner().invoke(command, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for downloads, empty."""
    monkeypatch.setattr(weights, "download_folder", lambda: tmp_path / "home")
    return tmp_path / "home"


# models


def test_a_pattern_that_fits_nothing_is_said(home: Path) -> None:
    result = run(models_command, "nope")
    assert (result.exit_code, "No model is named like 'nope'" in result.stderr) == (1, True)


def test_models_says_where_weights_are_or_come_from(home: Path) -> None:
    text = run(models_command).stdout.splitlines()
    assert text[0].split() == ["MODEL", "DIM", "PIXELS", "GFLOPS", "WEIGHTS"]
    assert [line.split()[0] for line in text[1:11]] == [*OPENAI_MODELS, DEMO_MODEL]
    rows = {row["name"]: row for row in json.loads(run(models_command, "--json").stdout)}
    assert rows["ViT-B/32"] == {
        "name": "ViT-B/32",
        "embed_dim": 512,
        "input_size": 224,
        "gflops": 8.82,
        "weights": rows["ViT-B/32"]["weights"],
        "present": False,
    }
    assert rows["ViT-B/32"]["weights"].startswith("https://openaipublic.azureedge.net/clip/models/40d365715913")
    assert rows["demo"]["present"]
    assert Path(rows["demo"]["weights"]).is_file()

    home.mkdir()
    (home / "ViT-B-32.pt").write_bytes(b"weights")
    (row,) = json.loads(run(models_command, "ViT-B/3*", "--json").stdout)
    assert (row["weights"], row["present"]) == (str(home / "ViT-B-32.pt"), True)


def test_what_is_said_of_the_demo_model_is_true() -> None:
    model = weights.load_clip(weights.find_weights(DEMO_MODEL, None, weights.DigestMemo()))
    (row,) = listing.list_models(DEMO_MODEL)
    assert (row.embed_dim, row.input_size) == (model.text_projection.shape[1], model.visual.input_resolution)


def test_a_pattern_that_fits_nothing_fails() -> None:
    assert run(models_command, "nothing*").exit_code == 1


def test_open_clips_models_are_listed_with_their_cost() -> None:
    pytest.importorskip("open_clip")
    rows = {row.name: row for row in listing.list_models("open_clip:ViT-B-32")}
    row = rows["open_clip:ViT-B-32/laion2b_s34b_b79k"]
    assert (row.embed_dim, row.input_size, row.gflops) == (512, 224, 8.82)
    assert row.present or row.weights == "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    assert "open_clip:ViT-B-32/openai" not in rows  # it would be refused: the other activation


# doctor


def ready(tmp_path: Path, *arguments: object) -> Result:
    return run(doctor_command, "--cache", tmp_path / "features", "--device", "cpu", *arguments)


def test_a_machine_that_runs_these_tests_is_ready(tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    result = ready(tmp_path, "--model", "demo")
    lines = result.stdout.splitlines()
    assert len(lines) == 10
    assert all(line.startswith("ok ") for line in lines), result.stdout
    assert result.exit_code == 0
    assert sorted(tmp_path.iterdir()) == before


def look(findings: str, about: str) -> dict[str, Any]:
    return next(finding for finding in json.loads(findings) if finding["about"] == about)


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the looks that take seconds."""
    monkeypatch.setattr(doctor, "CODECS", ())
    monkeypatch.setattr(doctor, "_look_at_workers", lambda: doctor.Finding("workers", "left out"))


@pytest.mark.usefixtures("only")
def test_missing_weights_are_a_problem_with_three_ways_out(tmp_path: Path, home: Path) -> None:
    result = ready(tmp_path, "--json")
    assert result.exit_code == 1
    finding = look(result.stdout, "weights")
    assert not finding["ok"]
    assert "https://openaipublic" in finding["remedy"]
    assert "--weights" in finding["remedy"]
    home.mkdir()
    (home / "ViT-B-32.pt").write_bytes(b"half of a download")
    assert "damaged" in look(ready(tmp_path, "--json").stdout, "weights")["found"]
    tiny = write_tiny_weights(tmp_path / "tiny.pt")
    assert "tiny.pt" in look(ready(tmp_path, "--json", "--model", "mine", "--weights", tiny).stdout, "weights")["found"]


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize(
    ("arguments", "about", "remedy"),
    [
        (["--model", "nonsense"], "weights", "--weights"),
        (["--weights", "nowhere.pt"], "weights", "check --weights"),
        (["--device", "tpu"], "device", "choose auto, cpu"),
        (["--model", "hf-hub:org/name"], "weights", "https://huggingface.co/org/name"),
    ],
)
def test_a_wrong_request_is_a_finding(tmp_path: Path, arguments: list[str], about: str, remedy: str) -> None:
    pytest.importorskip("open_clip")
    result = ready(tmp_path, "--json", *arguments)
    assert result.exit_code == 1
    assert remedy in look(result.stdout, about)["remedy"]


@pytest.mark.usefixtures("only")
def test_a_cache_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    finding = look(ready(tmp_path, "--json", "--model", "demo").stdout, "cache")
    assert "cannot be written" in finding["found"]
    assert "--cache" in finding["remedy"]


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("operator torchvision::nms does not exist\nand a long trace")


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize(("about", "remedy"), [("torch", "torchvision"), ("decord", "pip install decord2")])
def test_a_broken_package_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, about: str, remedy: str
) -> None:
    monkeypatch.setattr(doctor.importlib, "import_module", broken)
    finding = look(ready(tmp_path, "--json", "--model", "demo").stdout, about)
    assert not finding["ok"]
    assert remedy in finding["remedy"]
    assert "\n" not in finding["found"]


def test_a_codec_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "decodes", lambda path: path.stem != "vp9")
    finding = doctor._look_at_codecs()
    assert "failed vp9" in finding.found
    assert "pip install" in finding.remedy


def test_a_codec_without_an_encoder_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CODECS", (codec_check.Codec("h264", {"no_such_encoder": {}}),))
    finding = doctor._look_at_codecs()
    assert "for lack of an encoder: h264" in finding.found
    assert not finding.remedy


@pytest.mark.parametrize("damage", ["truncated", "empty"])
def test_a_video_that_lacks_frames_does_not_count_as_decoded(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.bin"
    assert codec_check.make_video(path, codec_check.Codec("mpeg4", {"mpeg4": {}}))
    assert codec_check.decodes(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] if damage == "truncated" else b"")
    assert not codec_check.decodes(path)


def test_errors_of_the_library_part_into_finding_and_remedy() -> None:
    def fail() -> doctor.Finding:
        raise ModelError("The weights are gone", "fetch them again")

    assert doctor._without_failing("weights", fail) == doctor.Finding(
        "weights", "The weights are gone", "fetch them again"
    )
    assert "force-reinstall" in doctor._without_failing("PyAV", broken).remedy
