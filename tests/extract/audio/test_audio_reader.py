"""The audio reader against known signals: each is found where it is, as loud as it is."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from audio_files import click, found_at_s, on_channels, tone, write_sound
from clipcache.cache.common.errors import MediaError, NoAudioError
from clipcache.extract.audio.reader import Piece, open_sound, place

SEEDED = np.random.default_rng(7)


def heard(path: Path) -> np.ndarray:
    with open_sound(path) as sound:
        return np.concatenate(list(sound.blocks()))


def decibel(samples: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(samples.astype(np.float64) ** 2)))


CODECS = [
    ("wav", "pcm_s16le", 0.0002),
    ("flac", "flac", 0.0002),
    ("mp3", "libmp3lame", 0.001),
    ("mp4", "aac", 0.001),
    ("m4a", "aac", 0.001),
    ("mkv", "libopus", 0.002),
    ("ogg", "libopus", 0.002),
    # Nothing in a transport stream says how many samples the encoder put in front: 1024.
    ("ts", "aac", 0.025),
]


@pytest.mark.parametrize(("suffix", "codec", "tolerance_s"), CODECS)
def test_a_click_is_found_where_it_is(tmp_path: Path, suffix: str, codec: str, tolerance_s: float) -> None:
    path = write_sound(tmp_path / f"click.{suffix}", click(5.0, 8.0, 48_000), 48_000, codec)
    assert found_at_s(heard(path)) == pytest.approx(5.0, abs=tolerance_s)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("start_s", [0, 3])
def test_a_click_is_found_beside_the_picture(tmp_path: Path, suffix: str, start_s: int) -> None:
    path = tmp_path / f"video.{suffix}"
    write_sound(path, click(5.0, 8.0, 48_000), 48_000, "aac", start_s=start_s, picture=True)
    assert found_at_s(heard(path)) == pytest.approx(5.0, abs=0.0015)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_layout(tmp_path: Path, rate: int, channels: int) -> None:
    signal = on_channels(click(5.0, 6.5, rate), channels)
    samples = heard(write_sound(tmp_path / "click.wav", signal, rate, "pcm_s16le"))
    assert len(samples) == pytest.approx(6.5 * 48_000, abs=2)
    assert found_at_s(samples) == pytest.approx(5.0, abs=0.0002)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_the_level_is_kept(tmp_path: Path, rate: int, channels: int) -> None:
    path = write_sound(tmp_path / "tone.wav", on_channels(tone(3.0, rate), channels), rate, "pcm_s16le")
    assert decibel(heard(path)[4800:-4800]) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)


@pytest.mark.parametrize(("suffix", "codec"), [("mp3", "libmp3lame"), ("m4a", "aac")])
def test_lossy_codecs_keep_the_level_too(tmp_path: Path, suffix: str, codec: str) -> None:
    path = write_sound(tmp_path / f"tone.{suffix}", on_channels(tone(3.0, 48_000), 2), 48_000, codec)
    assert decibel(heard(path)[4800:-4800]) == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.1)


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_sample_format_has_the_same_scale(tmp_path: Path, codec: str) -> None:
    signal = tone(0.5, 48_000)
    samples = heard(write_sound(tmp_path / "tone.wav", signal, 48_000, codec))
    np.testing.assert_allclose(samples, signal[0], atol=0.02 if codec == "pcm_u8" else 1e-4)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(0.5, 48_000, pitch_hz=300), tone(0.5, 48_000, pitch_hz=700)
    path = write_sound(tmp_path / "two.wav", np.concatenate([left, right]), 48_000, "pcm_f32le")
    np.testing.assert_allclose(heard(path), (left[0] + right[0]) / 2, atol=1e-6)


def test_resampling_is_that_of_the_whole_signal(tmp_path: Path) -> None:
    import soxr

    signal = (0.3 * SEEDED.standard_normal((1, 44_100 * 5))).astype(np.float32)
    samples = heard(write_sound(tmp_path / "noise.wav", signal, 44_100, "pcm_f32le"))
    np.testing.assert_allclose(samples, soxr.resample(signal[0], 44_100, 48_000, quality="HQ"), atol=1e-5)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mkv", "aac"), ("ts", "aac"), ("mkv", "pcm_s16le")])
def test_lost_packets_are_silence_and_no_shift(tmp_path: Path, suffix: str, codec: str) -> None:
    signal = click(5.0, 8.0, 48_000) + click(1.0, 8.0, 48_000)
    lost = range(90, 141)  # 1.9 s to 3.0 s, in packets of 1024 samples
    path = write_sound(tmp_path / f"lost.{suffix}", signal, 48_000, codec, picture=True, lost=lost)
    samples = heard(path)
    assert found_at_s(samples[96_000:]) + 2.0 == pytest.approx(5.0, abs=0.0015)
    assert not samples[100_000:140_000].any()


def test_sound_that_starts_after_the_picture_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    write_sound(path, click(5.0, 8.0, 48_000), 48_000, "pcm_s16le", picture=True, lost=range(94))
    samples = heard(path)
    assert not samples[:96_000].any()
    assert found_at_s(samples) == pytest.approx(5.0, abs=0.0015)


def test_no_audio_track_is_said_as_such(tmp_path: Path) -> None:
    from video_files import make_video

    make_video(tmp_path / "mute.mp4", frames=3)
    with pytest.raises(NoAudioError, match="has no audio track"):
        heard(tmp_path / "mute.mp4")


@pytest.mark.parametrize("content", [b"", b"RIFF\x00\x00\x00\x00WAVE", b"not a sound" * 100])
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"bad\.wav"):
        heard(path)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write_sound(tmp_path / "other.wav", tone(0.5, 48_000), 48_000, "pcm_s16le")
    (tmp_path / "list.mp3").write_text("ffconcat version 1.0\nfile other.wav\n")
    with pytest.raises(MediaError, match="not a video or audio file"):
        heard(tmp_path / "list.mp3")


def test_a_file_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "cut.mkv", click(1.0, 8.0, 48_000), 48_000, "pcm_s16le")
    path.write_bytes(path.read_bytes()[:400_000])
    assert found_at_s(heard(path)) == pytest.approx(1.0, abs=0.0015)


def test_damaged_packets_are_counted(tmp_path: Path) -> None:
    noise = (0.3 * SEEDED.standard_normal((1, 400_000))).astype(np.float32)
    path = write_sound(tmp_path / "noisy.m4a", noise, 48_000, "aac")
    content = bytearray(path.read_bytes())
    content[50_000:100_000] = b"\xff" * 50_000
    path.write_bytes(bytes(content))
    with open_sound(path) as sound:
        samples = np.concatenate(list(sound.blocks()))
    assert len(samples) == pytest.approx(400_000, abs=4_800)
    assert sound.errors > 0


def test_one_sample_is_a_sound(tmp_path: Path) -> None:
    samples = heard(write_sound(tmp_path / "one.wav", np.full((1, 1), 0.5, np.float32), 48_000, "pcm_f32le"))
    assert samples.tolist() == [0.5]


def test_samples_that_are_not_finite_are_silence(tmp_path: Path) -> None:
    signal = tone(0.5, 48_000)
    signal[0, 10_000] = np.nan
    path = write_sound(tmp_path / "nan.wav", signal, 48_000, "pcm_f32le")
    with open_sound(path) as sound:
        samples = np.concatenate(list(sound.blocks()))
    assert np.isfinite(samples).all()
    assert sound.errors == 1
    assert samples[20_000] == signal[0, 20_000]


def pieces(*spans: tuple[Fraction | None, int], rate: int = 1000) -> list[Piece]:
    return [Piece(start, np.full(n, k + 1, np.float32), rate) for k, (start, n) in enumerate(spans)]


def laid(*spans: tuple[Fraction | None, int]) -> tuple[list[int], int]:
    errors: list[int] = []
    placed = list(place(pieces(*spans), lambda: errors.append(1), "x"))
    return np.concatenate([one.samples for one in placed]).astype(int).tolist(), len(errors)


def milliseconds(value: int) -> Fraction:
    return Fraction(value, 1000)


@pytest.mark.parametrize(
    ("spans", "expected", "errors"),
    [
        ([(0, 20), (20, 20)], [(1, 20), (2, 20)], 0),
        ([(0, 20), (29, 20)], [(1, 20), (2, 20)], 0),  # rounded by the container
        ([(0, 20), (60, 20)], [(1, 20), (0, 40), (2, 20)], 0),
        ([(30, 20)], [(0, 30), (1, 20)], 0),
        ([(3, 20)], [(0, 3), (1, 20)], 0),
        ([(-10, 20), (10, 20)], [(1, 10), (2, 20)], 0),  # before the first picture
        ([(-50, 20), (0, 20)], [(2, 20)], 0),
        ([(0, 40), (10, 50)], [(1, 40), (2, 20)], 1),
        ([(0, 40), (0, 20), (40, 20)], [(1, 40), (3, 20)], 1),
        ([(0, 20), (None, 20)], [(1, 20), (2, 20)], 0),
    ],
)
def test_pieces_are_laid_on_the_clock(
    spans: list[tuple[int | None, int]], expected: list[tuple[int, int]], errors: int
) -> None:
    found, wrong = laid(*((None if start is None else milliseconds(start), n) for start, n in spans))
    assert found == [value for value, n in expected for _ in range(n)]
    assert wrong == errors


def test_rounding_does_not_add_up() -> None:
    spans = [(milliseconds(round(number * 21.333)), 21) for number in range(1000)]  # each 0.333 ms short
    found, _ = laid(*spans)
    assert len(found) == pytest.approx(21_333, abs=16)


def test_timestamps_that_leave_out_days_are_refused() -> None:
    placed = place(pieces((Fraction(0), 1), (Fraction(90_000), 1)), lambda: None, "x.wav")
    with pytest.raises(MediaError, match="more than a day"):
        list(placed)


def test_hours_take_the_memory_of_seconds() -> None:
    import tracemalloc

    def endless() -> object:
        silence = np.zeros(48_000, np.float32)
        return (Piece(Fraction(number), silence, 48_000) for number in range(3 * 3_600))

    tracemalloc.start()
    total = sum(len(piece.samples) for piece in place(endless(), lambda: None, "x"))  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 3 * 3600 * 48_000
    assert peak < 2 << 20
