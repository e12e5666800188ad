"""What people bring from elsewhere: pictures, weights, notebooks, words. Each is read as what it is, or refused so.

FOREIGN is the table of what was tried: who makes such files, and what is right.
"""

from __future__ import annotations

import io
import json
import logging
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from safetensors.torch import save_file

import nstlab as lab
from nstlab import images
from nstlab.decoding import decode, profile_of, shape_of
from nstlab.errors import RequestError
from nstlab.layers import convolutions, layer_names
from nstlab.network.formats import TORCHVISION_SCALE, TORCHVISION_STD
from nstlab.network.weights import read_weights
from nstlab.sweeps import make_plan, notebook_parameters
from nstlab.sweeps.notebook import was_executed

ROWS, COLUMNS = np.mgrid[0:48, 0:64]
SCENE = np.stack([40 + 2 * COLUMNS, 60 + 3 * ROWS, 200 - ROWS - COLUMNS], -1).astype(np.uint8)  # muted: in every gamut


def fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def rgb_profile(primaries: list[tuple[float, float, float]], gamma: float) -> bytes:
    """An ICC profile (version 2) of RGB with these primaries (rows of XYZ, adapted to D50) and one gamma."""
    tags = {b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"mine\0" + b"\0" * 78}
    tags |= {b"cprt": b"text\0\0\0\0x\0", b"wtpt": b"XYZ \0\0\0\0" + fixed(0.9642) + fixed(1) + fixed(0.8249)}
    for colour, row in zip("rgb", primaries, strict=True):
        tags[f"{colour}XYZ".encode()] = b"XYZ \0\0\0\0" + b"".join(map(fixed, row))
        tags[f"{colour}TRC".encode()] = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    body, table = b"", b""
    for name, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data
    white = fixed(0.9642) + fixed(1) + fixed(0.8249)
    head = b"lcms" + struct.pack(">I", 0x02400000) + b"mntrRGB XYZ " + b"\0" * 12 + b"acsp" + b"\0" * 28 + white
    whole = struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", 128 + len(whole)) + head + b"\0" * (124 - len(head)) + whole


DISPLAY_P3 = rgb_profile([(0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)], 2.2)
ADOBE_RGB = rgb_profile([(0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)], 2.2)
SRGB = ImageCms.createProfile("sRGB")


def in_profile(profile: bytes, mode: str = "RGB") -> Image.Image:
    """The scene in another colour space."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return ImageCms.profileToProfile(Image.fromarray(SCENE), SRGB, target, outputMode=mode)


def exif(orientation: int, *entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF whose first directory has an orientation and these raw entries: tag, type, count, four bytes."""
    rows = sorted([(274, 3, 1, struct.pack("<HH", orientation, 0)), *entries])
    packed = b"".join(struct.pack("<HHI", tag, kind, count) + value for tag, kind, count, value in rows)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(rows)) + packed + b"\0\0\0\0"


def png16(samples: np.ndarray) -> bytes:
    """A PNG of 16 bits a sample, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, count = samples.shape
    rows = b"".join(b"\0" + samples[row].astype(">u2").tobytes() for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[count], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


DEEP = SCENE.astype(np.uint16) * 257
OPAQUE = np.full_like(DEEP[..., :1], 65535)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tiff(samples: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


ROTATED = Image.fromarray(np.rot90(SCENE))  # as a phone stores it, with the tag that turns it back
GREY = np.repeat(np.asarray(Image.fromarray(SCENE).convert("L"))[..., None], 3, -1)

FOREIGN: dict[str, tuple[str, Callable[[], bytes], np.ndarray | str, float]] = {
    # name: (who makes it, the file, the pixels that are right or words of the refusal, grey levels that may be off)
    "p3.png": (
        "iPhones, Macs' screenshots",
        lambda: saved(in_profile(DISPLAY_P3), "PNG", icc_profile=DISPLAY_P3),
        SCENE,
        3,
    ),
    "p3.tif": ("the same, edited", lambda: saved(in_profile(DISPLAY_P3), "TIFF", icc_profile=DISPLAY_P3), SCENE, 3),
    "adobe.jpg": (
        "cameras set to Adobe RGB",
        lambda: saved(in_profile(ADOBE_RGB), "JPEG", quality=100, subsampling=0, icc_profile=ADOBE_RGB),
        SCENE,
        14,
    ),
    "adobe-alpha.webp": (
        "Photoshop's export",
        lambda: saved(in_profile(ADOBE_RGB).convert("RGBA"), "WEBP", lossless=True, icc_profile=ADOBE_RGB),
        SCENE,
        5,
    ),
    "srgb.png": ("nearly everybody", lambda: saved(Image.fromarray(SCENE), "PNG", icc_profile=sRGB_bytes()), SCENE, 0),
    "wrong-profile.png": (
        "converters that keep a grey picture's RGB profile",
        lambda: saved(Image.fromarray(SCENE).convert("L"), "PNG", icc_profile=ADOBE_RGB),
        GREY,
        0,
    ),
    "broken-profile.png": (
        "truncating editors",
        lambda: saved(Image.fromarray(SCENE), "PNG", icc_profile=b"x" * 200),
        SCENE,
        0,
    ),
    "lab.tif": (
        "Photoshop in Lab",
        lambda: saved(
            ImageCms.profileToProfile(Image.fromarray(SCENE), SRGB, ImageCms.createProfile("LAB"), outputMode="LAB"),
            "TIFF",
        ),
        SCENE,
        18,
    ),
    "rgb16.png": ("RAW developers", lambda: png16(DEEP), SCENE, 1),
    "rgba16.png": ("Blender, GIMP", lambda: png16(np.dstack([DEEP, OPAQUE])), SCENE, 1),
    "grey16.png": ("microscopes", lambda: png16(DEEP[..., :1]), np.repeat(SCENE[..., :1], 3, -1), 1),
    "grey-alpha16.png": (
        "GIMP",
        lambda: png16(np.dstack([DEEP[..., :1], OPAQUE])),
        np.repeat(SCENE[..., :1], 3, -1),
        1,
    ),
    "rgb16.tif": ("scanners", lambda: tiff(DEEP, photometric="rgb"), SCENE, 0),
    "rgb16-zip.tif": ("Lightroom", lambda: tiff(DEEP, photometric="rgb", compression="zlib", predictor=True), SCENE, 0),
    "rgb16-planes.tif": (
        "ImageJ",
        lambda: tiff(np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate"),
        SCENE,
        0,
    ),
    "rgb16-big-endian.tif": ("old Macs", lambda: tiff(DEEP, photometric="rgb", byteorder=">"), SCENE, 0),
    "rgba16.tif": (
        "Affinity",
        lambda: tiff(np.dstack([DEEP, OPAQUE]), photometric="rgb", extrasamples=["unassalpha"]),
        SCENE,
        0,
    ),
    "grey32.tif": (
        "instruments",
        lambda: tiff(DEEP[..., 0].astype(np.uint32) * 65537, photometric="minisblack"),
        np.repeat(SCENE[..., :1], 3, -1),
        1,
    ),
    "white-is-zero16.tif": (
        "fax and X-ray software",
        lambda: tiff(65535 - DEEP[..., 0], photometric="miniswhite"),
        np.repeat(SCENE[..., :1], 3, -1),
        1,
    ),
    "float.tif": (
        "compositing",
        lambda: tiff((SCENE / 255).astype(np.float32), photometric="rgb"),
        "floating-point",
        0,
    ),
    "rotated.jpg": (
        "every phone",
        lambda: saved(ROTATED, "JPEG", quality=100, subsampling=0, exif=exif(6)),
        SCENE,
        6,
    ),
    "text-for-a-number.jpg": (
        "a scanner's driver",
        lambda: saved(ROTATED, "JPEG", quality=100, subsampling=0, exif=exif(6, (282, 2, 4, b"72\0\0"))),
        SCENE,
        6,
    ),
    "exif-loop.jpg": (
        "damaged cards",
        lambda: saved(ROTATED, "JPEG", quality=100, subsampling=0, exif=exif(6, (34665, 4, 1, struct.pack("<I", 8)))),
        SCENE,
        6,
    ),
    "exif-cut.jpg": (
        "resizers that cut tags",
        lambda: saved(
            ROTATED, "JPEG", quality=100, subsampling=0, exif=exif(6, (282, 5, 1, struct.pack("<I", 34)))[:30]
        ),
        SCENE,
        6,
    ),
    "animated.gif": (
        "the web",
        lambda: saved(
            Image.new("RGB", (64, 48), "red"), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 48))]
        ),
        np.full_like(SCENE, (255, 0, 0)),
        0,
    ),
    "phone.heic": (
        "iPhones",
        lambda: b"\0\0\0\x24ftypheic\0\0\0\0mif1" + bytes(300),
        "is HEIC, which is not read: save it as",
        0,
    ),
    "new.jxl": ("JPEG XL encoders", lambda: b"\xff\x0a" + bytes(300), "is JPEG XL", 0),
    "raw.dng": ("cameras", lambda: b"II*\0" + bytes(300), "is a camera's raw file", 0),
    "drawing.svg": ("Inkscape", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "is SVG", 0),
    "page.jpg": (
        "downloads that failed",
        lambda: b"<!DOCTYPE html><html>404</html>",
        "is a web page, not a picture",
        0,
    ),
    "empty.jpg": ("full cards", lambda: b"", "is empty", 0),
    "holiday.png": ("attackers", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is PostScript", 0),
    "clear.png": (
        "icon makers",
        lambda: saved(Image.new("RGBA", (64, 48), (0, 0, 0, 0)), "PNG"),
        np.full_like(SCENE, 255),
        0,
    ),
}


def sRGB_bytes() -> bytes:
    return ImageCms.ImageCmsProfile(SRGB).tobytes()


@pytest.mark.parametrize("name", FOREIGN)
def test_a_picture_is_what_it_is_or_named(tmp_path, name, capfd, recwarn):
    _, make, right, off = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(make())
    if isinstance(right, str):
        with pytest.raises(RequestError) as refused:
            lab.load_image(path, 64)
        assert right in str(refused.value) and "\n" not in str(refused.value)
    else:
        pixels = np.asarray(decode(path))
        assert pixels.shape == right.shape == (*shape_of(path)[::-1], 3)
        errors = np.abs(pixels.astype(int) - right)
        assert errors.max() <= off and errors.mean() <= off / 4
    assert capfd.readouterr() == ("", "") and not recwarn.list


def test_a_profile_is_told_and_is_part_of_a_run(tmp_path, small):
    plain, p3 = tmp_path / "plain.png", tmp_path / "p3.png"
    plain.write_bytes(saved(Image.fromarray(SCENE), "PNG"))
    p3.write_bytes(saved(Image.fromarray(SCENE), "PNG", icc_profile=DISPLAY_P3))
    assert (profile_of(plain), profile_of(p3)) == (None, "mine")
    run = lab.Run(lab.Settings(**small | {"content": str(p3), "iterations": 0}), tmp_path).advance(progress=False)
    assert run.read_as == run.manifest["read_as"] == {"content": "mine"}
    assert "read_as" not in lab.Run(lab.Settings(**small, iterations=0), tmp_path).advance(progress=False).manifest


def test_results_say_that_they_are_srgb(tmp_path):
    lab.save_image(torch.rand(1, 3, 40, 40), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").info["srgb"] == 0


@pytest.mark.parametrize("megapixels", [108, 200])
def test_a_phones_huge_jpeg_takes_no_more_memory_than_it_must(tmp_path, megapixels):
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    Image.new("RGB", (width, width * 3 // 4), (200, 60, 40)).save(tmp_path / "huge.jpg", quality=30)
    code = f"""
import resource, nstlab as lab
from nstlab.images import thumbnail
import torch
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
print(tuple(lab.load_image("{tmp_path / "huge.jpg"}", 512).shape), thumbnail("{tmp_path / "huge.jpg"}", 96).size)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak // 1024)
"""
    if sys.platform != "linux":
        pytest.skip("other systems do not tell the peak of a process")
    shapes, peak = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert shapes == "(1, 3, 384, 512) (128, 96)"
    assert int(peak) < 900  # MB, of which some 300 are Python with torch


def test_a_large_picture_made_smaller_while_it_is_read_looks_the_same(tmp_path, monkeypatch):
    big = Image.fromarray(np.kron(SCENE, np.ones((20, 20, 1), np.uint8)))
    for name in ("a.jpg", "a.png"):
        big.save(tmp_path / name, quality=95)
        whole = lab.load_image(tmp_path / name, 64)
        with monkeypatch.context() as patch:
            patch.setattr("nstlab.decoding.LARGE", 100_000)
            reduced = lab.load_image(tmp_path / name, 64)
        assert (whole - reduced).abs().max() * 255 < 3


def test_ones_own_picture_comes_before_the_sample_and_dots_are_no_ending(tmp_path, monkeypatch, caplog):
    for folder in ("content", "style"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    monkeypatch.setattr(images, "home", lambda: tmp_path)
    own = tmp_path / "data" / "content" / "coffee.jpg"
    Image.fromarray(SCENE).save(own)
    Image.fromarray(SCENE).save(tmp_path / "data" / "content" / "my.holiday.2026.PNG")
    rows = (
        "name,kind,file,title,maker,licence,source,sha256\ncoffee,content,skimage:data/coffee.png,Tasse café,M,CC0,,\n"
    )
    for encoding in ("utf-8", "utf-8-sig", "cp1252"):
        (tmp_path / "data" / "catalogue.csv").write_text(rows, encoding=encoding)
        assert images.find_picture("coffee") == own
        assert "coffee is the name of" in caplog.text and f"{own} is taken" in caplog.text
        assert lab.load_image("my_holiday_2026", 64).shape == (1, 3, 48, 64)
        assert images.catalogue()[0]["title"] in ("Tasse café",)
    (tmp_path / "data" / "catalogue.csv").write_text(rows.replace(",", ";"))
    assert images.catalogue()[0]["title"] == "Tasse café"
    (tmp_path / "data" / "catalogue.csv").unlink()
    assert set(lab.sample_pictures()) == {"coffee", "my_holiday_2026"}


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ("https://example.org/a.jpg", "is a web address"),
        ("/tmp", "is a folder: give the path of one picture in it"),
        ("x" * 300 + ".jpg", "File name too long"),
        ("nothing.jpg", "no picture at"),
    ],
)
def test_what_is_no_picture_is_told_what_would_be(picture, words, small):
    with pytest.raises(RequestError, match=words):
        lab.Run(lab.Settings(**small | {"content": picture}))


@pytest.mark.parametrize(("ratio", "size"), [(3, 128), (5, 192), (10, 352)])
def test_panoramas_are_pictures_everywhere(tmp_path, ratio, size):
    """Small versions fit the picture: thumbnails, initial values, runs for timing and trying."""
    from nstlab.images import smaller, thumbnail
    from nstlab.widgets.pictures import format_at, initial_thumbnails

    path = tmp_path / "panorama.png"
    Image.fromarray(SCENE).resize((100 * ratio, 100)).save(path)
    settings = lab.Settings(content=str(path), size=size, k_S=10, iterations=0)
    assert lab.load_image(path, size).shape == (1, 3, round(size / ratio), size)
    assert thumbnail(path, 96).size == (96 * ratio, 96)
    assert len(initial_thumbnails(settings)) == 7
    assert format_at("panorama.png", path.read_bytes(), size) == "PNG"
    small = smaller(settings, 96)
    assert small.size <= size and min(lab.load_image(path, small.size).shape[2:]) >= 32
    assert smaller(settings.with_(size=1024, style_size=2048, scales=3), 96).changed()["style_size"] >= 2 * 96


def test_scales_may_be_as_small_as_the_layers_allow(small):
    """coffee is 128 x 85, then 64 x 43 and 32 x 21: enough for relu5_1, which needs 16."""
    coarse = lab.Settings(
        **small | {"content": "coffee", "size": 128, "scales": 3, "scale_iterations": 1, "iterations": 2}
    )
    assert [step.image.shape[2:] for step in lab.transfer(coarse)] == [(21, 32), (43, 64), (85, 128)]
    with pytest.raises(
        RequestError, match=r"at least 32: size=48 is enough \(at the smallest of scales=3; or use fewer"
    ):
        next(lab.transfer(coarse.with_(style_layers=("pool5",))))


def vgg19(order: str, unit: str, names: str) -> dict[str, torch.Tensor]:
    """The original VGG19 as another tool has it."""
    tensors = {key: tensor.clone() for key, tensor in read_weights().tensors.items()}
    if order == "BGR":
        tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)
    if unit == "normalised":
        std = 255 * torch.tensor(TORCHVISION_STD).view(1, 3, 1, 1)
        tensors["conv1_1.weight"] = tensors["conv1_1.weight"] * std / TORCHVISION_SCALE
        tensors = {key: t / TORCHVISION_SCALE if key.endswith("bias") else t for key, t in tensors.items()}
    if names == "layers":
        return tensors
    index = {name: layer_names().index(name) for name, _, _ in convolutions()}
    return {f"features.{index[key.split('.')[0]]}.{key.split('.')[1]}": t.contiguous() for key, t in tensors.items()}


WEIGHTS = {
    # name: (order, unit, names, how it is wrapped, as what it is read, who has it so)
    "vgg19-d01eb7cb.pth": ("BGR", "grey", "torchvision", lambda t: t, "caffe", "jcjohnson, neural-style-pt"),
    "vgg_conv.pth": ("BGR", "grey", "layers", lambda t: t, "caffe", "leongatys/PytorchNeuralStyleTransfer"),
    "ours.safetensors": ("RGB", "grey", "layers", lambda t: t, "grey", "nstlab"),
    "plain.pth": ("RGB", "normalised", "torchvision", lambda t: t, "torchvision", "torchvision's layout"),
    "wrapped.pth.tar": (
        "RGB", "normalised", "torchvision", lambda t: {"epoch": 9, "arch": "vgg19", "state_dict": t}, "torchvision",
        "pytorch/examples, imagenet",
    ),
    "parallel.pth": (
        "RGB", "normalised", "torchvision",
        lambda t: {"model": {"module." + key.replace("features.", "features.module."): v for key, v in t.items()}},
        "torchvision", "DataParallel",
    ),
    "features-only.pth": (
        "RGB", "normalised", "torchvision", lambda t: {key.removeprefix("features."): v for key, v in t.items()},
        "torchvision", "vgg19().features.state_dict()",
    ),
    "with-classifier.safetensors": (
        "RGB", "normalised", "torchvision", lambda t: t | {"classifier.0.weight": torch.zeros(2, 2)}, "torchvision",
        "Hugging Face conversions",
    ),
    "half.pth": (
        "RGB", "normalised", "torchvision", lambda t: {k: v.half() for k, v in t.items()}, "torchvision", "GPUs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_other_tools_are_read_as_what_they_are(tmp_path, name):
    order, unit, names, wrap, expected, _ = WEIGHTS[name]
    stored = wrap(vgg19(order, unit, names))
    save_file(stored, tmp_path / name) if name.endswith("safetensors") else torch.save(stored, tmp_path / name)
    found, original = read_weights(str(tmp_path / name)), read_weights()
    assert found.format == expected and "the original VGG19" in found.found
    off = 1e-3 if name.startswith("half") else 1e-6
    for key, tensor in original.tensors.items():
        assert (found.tensors[key] - tensor).abs().max() <= off * tensor.abs().max(), key


def test_a_misread_of_before_is_another_run(tmp_path, small):
    """In Caffe's order under torchvision's names it was once read as torchvision's; such a run is not resumed."""
    torch.save(vgg19("BGR", "grey", "torchvision"), tmp_path / "caffe.pth")
    torch.save(vgg19("RGB", "normalised", "torchvision"), tmp_path / "plain.pth")
    caffe, plain = (lab.Run(lab.Settings(**small, weights=str(tmp_path / f"{n}.pth"))) for n in ("caffe", "plain"))
    assert caffe.read_as == {"weights": "caffe"} and plain.read_as == {}


def test_what_cannot_be_told_is_asked_for_and_what_is_no_vgg19_is_named(tmp_path, small):
    unknown = {key: torch.randn_like(t) * t.std() for key, t in vgg19("RGB", "grey", "layers").items()}
    torch.save(unknown, tmp_path / "unknown.pth")
    with pytest.raises(
        RequestError, match=r"say weights_format=torchvision \(RGB from 0 to 1.*caffe \(BGR.*grey \(RGB"
    ):
        read_weights(str(tmp_path / "unknown.pth"))
    shallow = {"content_layers": ("relu1_1",), "style_layers": ("relu1_1",), "iterations": 0}
    settings = lab.Settings(**small, weights=str(tmp_path / "unknown.pth"), weights_format="caffe", **shallow)
    run = lab.Run(settings, tmp_path).advance(progress=False)
    assert run.manifest["network"]["read_as"] == "caffe: as weights_format says"
    assert torch.equal(
        read_weights(settings.weights, "caffe").tensors["conv1_1.weight"], unknown["conv1_1.weight"].flip(1)
    )
    with pytest.raises(RequestError, match="weights_format = caffe: needs weights = the path of a file"):
        lab.Settings(weights_format="caffe")
    good = vgg19("RGB", "normalised", "torchvision")
    cases = {
        "infinite": (good | {"features.28.bias": good["features.28.bias"] * torch.inf}, "infinite values or NaN"),
        "quantised": (good | {"features.0.bias": good["features.0.bias"].to(torch.int8)}, "plain floating-point"),
        "normalising": (good | {"features.1.running_mean": torch.zeros(64)}, "has batch normalisation"),
        "vgg16": ({k: v for k, v in good.items() if k.split(".")[1] not in ("16", "25", "34")}, "VGG16, by its 13"),
    }  # fmt: skip
    for name, (stored, words) in cases.items():
        torch.save(stored, tmp_path / f"{name}.pth")
        with pytest.raises(RequestError, match=words):
            read_weights(str(tmp_path / f"{name}.pth"))


BASE = "content = 'astronaut'\nsize = 48\niterations = 2\nk_S = 10.0\nout = None\n"


def notebook(folder: Path, parameters: str, *more: tuple[str, str]) -> Path:
    cells = [("import nstlab as lab", ""), (parameters, "parameters"), *more]
    kept = [
        {"cell_type": "code", "source": source.splitlines(True), "outputs": [], "execution_count": None}
        for source, _ in cells
    ]
    for cell, (_, tag) in zip(kept, cells, strict=True):
        cell["metadata"] = {"tags": [tag]} if tag else {}
    path = folder / "theirs.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": kept}))
    return path


@pytest.mark.parametrize(
    "parameters",
    [
        BASE,
        "content: str = 'astronaut'\nsize: int = 48  # px\niterations: int = 2\nk_S: float = 10.0\nout: None = None\n",
        BASE.replace("k_S = 10.0", "k_S: float = 10.0"),
        BASE.replace("size = 48", "size = 3 * 16"),
        '"""knobs"""\n' + BASE,
        BASE.replace("size = 48\niterations = 2", "size, iterations = 48, 2"),
        BASE.replace("size = 48", "side = 24\nsize = side * 2").replace("k_S", "# k_S =\nk_S"),
        BASE.replace("size = 48", "unset: int\nsize = +48"),
    ],
)
def test_parameters_are_read_as_python_reads_them(tmp_path, parameters):
    found = notebook_parameters(notebook(tmp_path, parameters))
    assert {name: found[name] for name in ("content", "size", "iterations", "k_S", "out")} == {
        "content": "astronaut", "size": 48, "iterations": 2, "k_S": 10.0, "out": None
    }  # fmt: skip


def test_a_parameters_cell_that_runs_code_is_refused_and_an_executed_notebook_is_known(tmp_path):
    for line in ("size = open('x')", "size = 2 ** 999", "for i in []: pass", "size = later"):
        with pytest.raises(RequestError, match="may hold only NAME = plain value"):
            notebook_parameters(notebook(tmp_path, BASE + line))
    bare = notebook(tmp_path, BASE)
    bare.write_text(bare.read_text().replace('"metadata": {"tags": ["parameters"]}', '"tags": ["parameters"]'))
    with pytest.raises(RequestError, match="is not a readable notebook"):
        notebook_parameters(bare)
    assert not was_executed(notebook(tmp_path, BASE))
    assert was_executed(notebook(tmp_path, BASE, ("k_S = 999.0", "injected-parameters")))


def test_patterns_of_pictures_in_a_grid_and_equal_ones(tmp_path):
    for name in ("b", "a"):
        Image.fromarray(SCENE + ord(name)).save(tmp_path / f"{name}.png")
    file = tmp_path / "sweep.yaml"
    head = "notebook: 04_vanilla_transfer.ipynb\nfixed: {size: 64, iterations: 1}\n"
    file.write_text(head + f"grid: {{content: '{tmp_path}/*.png'}}\n")
    assert [Path(value).name for value in make_plan(file, out=tmp_path).axes["content"]] == ["a.png", "b.png"]
    file.write_text(head + f"grid: {{content: ['{tmp_path}/*.jpg']}}\n")
    with pytest.raises(RequestError, match="no picture matches"):
        make_plan(file, out=tmp_path)
    (tmp_path / "twin.png").write_bytes((tmp_path / "a.png").read_bytes())
    file.write_text(head + f"grid: {{content: ['{tmp_path}/a.png', '{tmp_path}/twin.png']}}\n")
    with pytest.raises(RequestError, match=r"a\.png and .*twin\.png are the same picture"):
        make_plan(file, out=tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [("style_weight", "k_S is the weight of the style loss, and content always weighs 1"), ("lr", "learning_rate")],
)
def test_other_tools_words_are_translated(name, words):
    with pytest.raises(RequestError, match=words):
        lab.Settings(**{name: 1})


def test_an_option_with_one_dash(monkeypatch, capsys):
    from nstlab.commands import main

    monkeypatch.setattr(sys, "argv", ["nstlab", "run", "-content", "astronaut"])
    with pytest.raises(SystemExit):
        main()
    assert "write --content" in capsys.readouterr().err


def test_samples_with_broken_files_do_not_stop_a_panel(tmp_path, monkeypatch, caplog):
    from nstlab.widgets import panel

    for folder in ("content", "style"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        (tmp_path / "data" / folder / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
        Image.fromarray(SCENE).save(tmp_path / "data" / folder / f"{folder}.png")
    monkeypatch.setattr(images, "home", lambda: tmp_path)
    monkeypatch.setenv("NSTLAB_HOME", str(tmp_path))
    caplog.set_level(logging.ERROR)
    bench = panel(out=tmp_path / "out")
    assert list(bench.controls["content"].options) == ["content"]
