import csv
import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.images import catalogue, to_pixels
from nstlab.storage import home

RED = np.zeros((60, 90, 3), np.uint8)
RED[..., 0] = 255


def gradient(height=60, width=90):
    return np.linspace(0, 255, height * width, dtype=np.uint8).reshape(height, width)


def test_shape_range_and_the_longer_side(picture):
    for pixels, shape in ((RED, (1, 3, 32, 48)), (RED.transpose(1, 0, 2), (1, 3, 48, 32))):
        image = lab.load_image(picture(pixels), 48)
        assert image.shape == shape
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        assert torch.equal(image[0, :, 5, 5], torch.tensor([1.0, 0.0, 0.0]))


def test_a_smaller_picture_is_enlarged(picture):
    assert lab.load_image(picture(RED), 180).shape == (1, 3, 120, 180)


def test_as_it_is(picture):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert np.array_equal(to_pixels(lab.load_image(picture(pixels), None)), pixels)


def test_grey_palette_cmyk_and_16_bits_become_rgb(tmp_path):
    grey = Image.fromarray(gradient())
    expected = lab.load_image(_save(grey.convert("RGB"), tmp_path / "rgb.png"), None)
    pictures = {
        "grey.png": grey,
        "palette.png": grey.convert("P"),
        "cmyk.tif": grey.convert("RGB").convert("CMYK"),
        "deep.png": Image.fromarray(gradient().astype(np.uint16) * 257),
        "one_bit.png": grey.convert("1"),
    }
    for name, image in pictures.items():
        loaded = lab.load_image(_save(image, tmp_path / name), None)
        assert loaded.shape == expected.shape
        if name != "one_bit.png":
            assert torch.allclose(loaded, expected, atol=1.5 / 255), name


def test_transparent_is_laid_over_white(tmp_path):
    clear = np.zeros((40, 40, 4), np.uint8)
    clear[:20, :, 3] = 255
    image = lab.load_image(_save(Image.fromarray(clear), tmp_path / "clear.png"), None)
    assert image[..., :20, :].max() == 0
    assert image[..., 20:, :].min() == 1
    palette = Image.fromarray(gradient(40, 40)).convert("P")
    _save(palette, tmp_path / "key.png", transparency=int(np.asarray(palette)[0, 0]))
    assert torch.equal(lab.load_image(tmp_path / "key.png", None)[0, :, 0, 0], torch.ones(3))


def test_exif_orientation_is_respected(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(RED).save(tmp_path / "turned.jpg", exif=exif)
    assert lab.load_image(tmp_path / "turned.jpg", 48).shape == (1, 3, 48, 32)


def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, picture):
    pixels = np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)
    whole = Path(picture(pixels, "a.jpg")).read_bytes()
    png = io.BytesIO()
    Image.fromarray(RED).save(png, "PNG")
    bad = {
        "text.png": b"this is no picture",
        "empty.png": b"",
        "truncated.jpg": whole[: len(whole) // 2],
        "truncated.png": png.getvalue()[:-40],
        "huge.png": _claims(40_000, 40_000),
        "large.png": _claims(11_000, 10_000),
        "sliver.png": Path(picture(np.zeros((5, 900, 3), np.uint8))).read_bytes(),
        "float.tif": _float_tiff(),
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RequestError) as error:
            lab.load_image(tmp_path / name)
        assert name in str(error.value)
        assert "\n" not in str(error.value)


def test_a_huge_claim_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "large.png").write_bytes(_claims(11_000, 10_000))
    with pytest.raises(RequestError, match="11000 x 10000 pixels"):
        lab.load_image(tmp_path / "large.png")


def test_unknown_names(tmp_path):
    with pytest.raises(RequestError, match="unknown sample picture 'astronut': did you mean 'astronaut'"):
        lab.load_image("astronut")
    with pytest.raises(RequestError, match="no picture at"):
        lab.load_image(tmp_path / "nothing.png")
    with pytest.raises(RequestError, match="is a folder"):
        lab.load_image(tmp_path)


def test_saved_and_read_again_with_its_settings(tmp_path):
    settings = lab.Settings(k_S=300, style_layers=("relu1_1",))
    image = torch.rand(1, 3, 40, 50) * 1.4 - 0.2  # beyond [0, 1]: clamped
    lab.save_image(image, tmp_path / "a.png", settings)
    lab.save_image(image, tmp_path / "b.png", settings)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert torch.allclose(lab.load_image(tmp_path / "a.png", None), image.clamp(0, 1), atol=0.5 / 255 + 1e-6)
    assert lab.read_settings(tmp_path / "a.png") == settings


@pytest.mark.parametrize("content", [b"", b"x", b'{"settings": 3}', b'{"settings": {"colour": 1}}'])
def test_no_settings_inside(tmp_path, content, picture):
    (tmp_path / "run.json").write_bytes(content)
    for path in (tmp_path, tmp_path / "run.json", picture(RED), tmp_path / "nothing.png"):
        with pytest.raises(RequestError):
            lab.read_settings(path)


def test_the_catalogue_is_true():
    """Every sample is listed with maker, licence and the hash of its file; every file in data/ is listed."""
    rows = catalogue()
    samples = lab.sample_pictures() | lab.sample_pictures("mask")
    assert sorted(samples) == sorted(row["name"] for row in rows)
    for row in rows:
        assert row["maker"] and row["licence"] and row["title"] and row["source"]
        assert hashlib.sha256(samples[row["name"]].read_bytes()).hexdigest() == row["sha256"], row["name"]


def test_the_style_pictures_are_large_enough_and_small_enough():
    own = [path for path in lab.sample_pictures("style").values() if path.is_relative_to(home() / "data")]
    assert len(own) >= 6
    for path in own:
        with Image.open(path) as picture:
            assert min(picture.size) >= 512
        assert path.stat().st_size <= 300_000


def test_a_style_picture_is_made_again_from_its_seed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(home() / "data"))
    import make_styles

    monkeypatch.setattr(make_styles, "FOLDER", tmp_path)
    make_styles.main(["marbling"])
    made, stored = (lab.load_image(p, None) for p in (tmp_path / "marbling.jpg", home() / "data/style/marbling.jpg"))
    assert (made - stored).abs().mean() < 2 / 255  # other library versions may differ in the last bits


def test_pictures_put_into_data_are_samples_too(tmp_path, monkeypatch, picture):
    (tmp_path / "data" / "content").mkdir(parents=True)
    with (tmp_path / "data" / "catalogue.csv").open("w") as file:
        csv.writer(file).writerow(catalogue()[0])
    Image.fromarray(RED).save(tmp_path / "data" / "content" / "mine.png")
    monkeypatch.setenv("NSTLAB_HOME", str(tmp_path))
    assert lab.load_image("mine", 48).shape == (1, 3, 32, 48)


def _save(image, path, **options):
    image.save(path, **options)
    return path


def _claims(width, height):
    """A PNG whose header claims width x height pixels and that holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def _float_tiff():
    buffer = io.BytesIO()
    Image.fromarray(np.ones((40, 40), np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()
