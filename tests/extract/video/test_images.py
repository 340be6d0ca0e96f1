"""Picture files to RGB: formats, depths, orientation, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from clipcache.cache.common.errors import MediaError, NoLibraryError
from clipcache.extract.video import images
from clipcache.extract.video.images import read_image
from clipcache.extract.video.index import read_index
from image_files import BLUE, HEIC_HEAD, RED, hide_heic, needs_avif, needs_heic, two_colours, write_tiff
from PIL import Image, features
from video_files import make_video


def test_images_are_read_upright_and_as_rgb(tmp_path: Path) -> None:
    rgb = np.zeros((20, 30, 3), np.uint8)
    rgb[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the picture must be turned by 90 degrees clockwise
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(rgb[..., 0]).save(tmp_path / "gray.png")
    turned = read_image(tmp_path / "turned.png")
    assert turned.shape == (30, 20, 3)
    assert turned[:, 15:].min() == 255
    assert turned[:, :5].max() == 0
    assert read_image(tmp_path / "gray.png").shape == (20, 30, 3)


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_a_bad_image_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=r"bad\.jpg"):
        read_image(path)


# --- depths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_16_bits_is_divided_by_257(tmp_path: Path, suffix: str) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / f"deep{suffix}")
    expected = np.floor(values / 257 + 0.5)
    found = read_image(tmp_path / f"deep{suffix}")
    assert found.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_array_equal(found[..., channel], expected)


def test_deep_grey_is_turned_upright(tmp_path: Path) -> None:
    values = np.zeros((20, 30), np.uint16)
    values[:10] = 65535
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "turned.png", exif=exif)
    found = read_image(tmp_path / "turned.png")
    assert (found.shape, found[:, 10:].min(), found[:, :10].max()) == ((30, 20, 3), 255, 0)


def test_tiff_whose_zero_is_white_is_inverted(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.array([[0, 257, 65535]], np.uint16), bits=16, photometric=0)
    assert read_image(path)[0, :, 0].tolist() == [255, 254, 0]


def test_tiff_of_12_bits_has_its_own_white(tmp_path: Path) -> None:
    packed = np.array([[0xFF, 0xF0, 0x00, 0x80, 0x00, 0x10]], np.uint8)  # FFF 000 800 010
    path = write_tiff(tmp_path / "a.tif", packed, bits=12)
    assert read_image(path)[0, :, 0].tolist() == [255, 0, 128, 1]


def test_float_from_0_to_1_and_integers_from_0_to_255(tmp_path: Path) -> None:
    grid = np.linspace(0, 1, 100, dtype=np.float32).reshape(4, 25)
    Image.fromarray(grid).save(tmp_path / "float.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "float.tif")[..., 1], np.rint(grid.astype(np.float64) * 255))
    whole = np.arange(256, dtype=np.int32).reshape(16, 16)
    Image.fromarray(whole).save(tmp_path / "whole.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "whole.tif")[..., 2], whole)


@pytest.mark.parametrize(
    ("values", "bits", "kind", "said"),
    [
        (np.array([[0, 256]], np.int32), 32, 2, "from 0 to 256"),
        (np.array([[-1, 9]], np.int16), 16, 2, "from -1 to 9"),
        (np.array([[0.0, 1.5]], np.float32), 32, 3, "from 0 to 1.5"),
        (np.array([[-0.25, 1.0]], np.float32), 32, 3, "from -0.25 to 1"),
        (np.array([[0.0, np.nan]], np.float32), 32, 3, "from nan to nan"),
    ],
)
def test_values_that_do_not_say_what_is_white_are_refused(
    tmp_path: Path, values: npt.NDArray[Any], bits: int, kind: int, said: str
) -> None:
    path = write_tiff(tmp_path / "odd.tif", values, bits=bits, kind=kind)
    with pytest.raises(MediaError, match=rf"odd\.tif.*{said}.*save it with 8 or 16 bits"):
        read_image(path)


# --- colours --------------------------------------------------------------------------------------------


def test_transparency_is_dropped_and_the_colours_below_it_show(tmp_path: Path) -> None:
    rgba = np.zeros((4, 5, 4), np.uint8)
    rgba[..., :3] = RED
    rgba[:2, :, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    Image.fromarray(np.full((4, 5, 2), (90, 0), np.uint8)).save(tmp_path / "la.png")
    palette = Image.new("P", (5, 4), 1)
    palette.putpalette([*BLUE, *RED])
    palette.save(tmp_path / "one.png", transparency=1)
    palette.save(tmp_path / "several.png", transparency=bytes([255, 0]))
    for name in ("rgba", "one", "several"):
        np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png"), np.full((4, 5, 3), RED), name)
    np.testing.assert_array_equal(read_image(tmp_path / "la.png"), np.full((4, 5, 3), 90))


def test_cmyk_is_the_product_of_light_and_black(tmp_path: Path) -> None:
    ink = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 128, 255, 0], [0, 0, 0, 255], [100, 50, 0, 128]]], np.uint8)
    Image.fromarray(ink, "CMYK").save(tmp_path / "ink.tif")
    expected = (255 - ink[..., :3].astype(float)) * (255 - ink[..., 3:].astype(float)) / 255
    assert np.abs(read_image(tmp_path / "ink.tif") - expected).max() <= 1


def test_of_several_pictures_the_first_is_taken(tmp_path: Path) -> None:
    others = [Image.new("RGB", (96, 64), "white")] * 2
    for name, how in {"a.png": {}, "a.webp": {"lossless": True}, "a.tiff": {}}.items():
        two_colours().save(tmp_path / name, save_all=True, append_images=others, **how)
        np.testing.assert_array_equal(read_image(tmp_path / name), np.asarray(two_colours()), name)


def test_a_photo_with_a_second_picture_in_it_is_a_jpeg(tmp_path: Path) -> None:
    two_colours().save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[two_colours()])
    assert np.abs(read_image(tmp_path / "a.jpg")[5, 5].astype(int) - RED).max() <= 3


# --- AVIF and HEIC --------------------------------------------------------------------------------------


@needs_avif
def test_avif_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    two_colours().save(tmp_path / "a.avif", exif=exif)
    found = read_image(tmp_path / "a.avif").astype(int)
    assert found.shape == (96, 64, 3)
    assert np.abs(found[5, 5] - RED).max() <= 4
    assert np.abs(found[90, 5] - BLUE).max() <= 4


@needs_avif
def test_of_an_avif_sequence_the_first_picture_is_taken(tmp_path: Path) -> None:
    others = [Image.new("RGB", (96, 64), "white")] * 2
    two_colours().save(tmp_path / "a.avif", save_all=True, append_images=others)
    found = read_image(tmp_path / "a.avif").astype(int)
    assert np.abs(found[5, 5] - RED).max() <= 4


@needs_heic
def test_heic_is_an_image_under_any_suffix(tmp_path: Path) -> None:
    import pillow_heif

    pillow_heif.from_pillow(two_colours()).save(tmp_path / "a.heic", quality=95)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.heic").read_bytes())
    for name in ("a.heic", "a.jpg"):
        found = read_image(tmp_path / name).astype(int)
        assert found.shape == (64, 96, 3)
        assert np.abs(found[5, 5] - RED).max() <= 4
        assert np.abs(found[5, 90] - BLUE).max() <= 4


def test_heic_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_heic(monkeypatch)
    (tmp_path / "photo.heic").write_bytes(HEIC_HEAD)
    with pytest.raises(NoLibraryError, match=r"photo\.heic.*pip install 'clipcache\[heic\]'$"):
        read_image(tmp_path / "photo.heic")


def test_avif_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_FORMATS", ("JPEG", "PNG"))
    monkeypatch.setattr(features, "check", lambda _: None)
    (tmp_path / "photo.avif").write_bytes(HEIC_HEAD.replace(b"ftypheic", b"ftypavif"))
    with pytest.raises(NoLibraryError, match=r"photo\.avif.*pip install -U Pillow$"):
        read_image(tmp_path / "photo.avif")


# --- refused --------------------------------------------------------------------------------------------


def test_a_decompression_bomb_has_its_own_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_colours().save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 64 - 1)
    assert read_image(tmp_path / "big.png").shape == (64, 96, 3), "Pillow warns up to twice its limit"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.raises(MediaError, match=r"big\.png.*6144 pixels.*6000.*bomb; make it smaller") as caught:
        read_image(tmp_path / "big.png")
    assert "damaged" not in str(caught.value)


def test_a_video_with_an_images_suffix_is_called_a_video(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", frames=3).path.rename(tmp_path / "a.jpg")
    with pytest.raises(MediaError, match=r"a\.jpg.*is a video's; give it"):
        read_image(path)


@pytest.mark.parametrize(("brand", "said"), [(b"heic", "HEIC"), (b"avif", "AVIF")])
def test_an_image_with_a_videos_suffix_is_called_an_image(tmp_path: Path, brand: bytes, said: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(HEIC_HEAD.replace(b"ftypheic", b"ftyp" + brand))
    with pytest.raises(MediaError, match=rf"a\.mp4.*an image \({said}\); give it the suffix \.{said.lower()}\.$"):
        read_index(path)
