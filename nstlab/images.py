"""File <-> tensor; the sample pictures; settings inside PNGs."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import logging
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch.nn.functional import interpolate

from nstlab.decoding import ENDINGS, MOST_PIXELS, decode, shape_of
from nstlab.errors import RequestError, unknown
from nstlab.own import reading
from nstlab.settings import Settings
from nstlab.storage import MOST_JSON, Damaged, home, open_regular, parse_json, read_regular, write_whole

SMALLEST_SIDE = 32  # below this, pool5 has no position
MOST_TINT = 48  # grey levels between a mask's colour channels: JPEG makes a few
PROVENANCE = "nstlab"  # the keyword of the PNG text chunk that holds the settings
CODE = "nstlab-code"  # and of the one that holds the hashes of the user's own files


def catalogue() -> list[dict[str, str]]:
    """The rows of data/catalogue.csv: name, kind, file, title, maker, licence, source, sha256; none without the file.

    A spreadsheet may have saved it with a byte order mark, or in code page 1252.
    """
    try:
        data = read_regular(home() / "data" / "catalogue.csv", MOST_JSON)
    except OSError:
        return []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    dialect = "excel" if text.partition("\n")[0].count(",") >= 3 else csv.Sniffer().sniff(text, ",;\t")
    rows = csv.DictReader(io.StringIO(text, newline=""), dialect=dialect)
    return [row for row in rows if all(row.get(column) for column in ("name", "kind", "file"))]


def sample_pictures(kind: str | None = None) -> dict[str, Path]:
    """Name -> file of the sample pictures: those in the catalogue, and all others in data/content and data/style.

    `kind` is "content", "style" or "mask"; None gives the first two. A file is named without its ending, dots as
    underscores; your own file takes precedence over a sample of the same name.
    """
    return {name: files[0] for name, files in _samples(kind).items()}


def _samples(kind: str | None) -> dict[str, list[Path]]:
    """Name -> all files of that name, the one to take first."""
    kinds = (kind,) if kind else ("content", "style")
    found = {row["name"]: [_catalogued(row["file"])] for row in catalogue() if row["kind"] in kinds}
    shipped = {file for files in found.values() for file in files}
    own: dict[str, list[Path]] = {}
    for folder in kinds:
        for path in sorted((home() / "data" / folder).glob("*")):
            if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path not in shipped:
                own.setdefault(path.stem.replace(".", "_"), []).append(path)
    return found | {name: files + found.get(name, []) for name, files in own.items()}


def _catalogued(file: str) -> Path:
    package, _, name = file.rpartition(":")
    if not package:
        return home() / "data" / file
    found = importlib.util.find_spec(package)  # without importing the package
    return Path(found.submodule_search_locations[0]) / name if found else Path(file)


def find_picture(name: str | Path, kind: str | None = None) -> Path:
    """The file that a sample's name or a path stands for; kind: as in `sample_pictures`. RequestError if none."""
    path = Path(name)
    if path.suffix or path.is_absolute() or len(path.parts) > 1:
        if re.match(r"[A-Za-z]{2,}:/", str(name)):
            raise RequestError(f"{name} is a web address: download the picture and give its path")
        try:
            folder, found = path.is_dir(), path.exists()
        except OSError as error:
            raise RequestError(f"no picture at {path}: {error.strerror}") from None
        if folder:
            raise RequestError(f"{path} is a folder: give the path of one picture in it")
        if not found:
            raise RequestError(f"no picture at {path}")
        return path
    samples = _samples(kind)
    if str(name) not in samples:
        what = f"sample {kind or 'picture'}"
        raise RequestError(f"{unknown(what, str(name), samples)} (a path needs an ending or a folder)")
    taken, *others = samples[str(name)]
    if others:
        also = " and ".join(map(str, others))
        logging.getLogger(__name__).warning("%s is the name of %s, too: %s is taken", name, also, taken)
    return taken


def picture_files(settings: Settings) -> dict[str, Path]:
    """The files that `Settings.files` stands for, by role. Raises RequestError for a missing one."""
    return {role: find_picture(name, "mask" if "mask" in role else None) for role, name in settings.files.items()}


def load_image(picture: str | Path, size: int | None = 256, smallest: int = SMALLEST_SIDE) -> torch.Tensor:
    """A picture as (1, 3, H, W) float32 RGB in [0, 1], its longer side `size` pixels (None: unchanged).

    `picture` is a sample's name or a path. EXIF orientation and colour profiles are applied; grey, palette, CMYK
    and 16-bit pictures become RGB, transparent parts white. Lanczos resampling, also to enlarge.
    Raises RequestError for a file that is not a picture, is truncated, has more than 100 million pixels (a JPEG:
    after shrinking while it is read), or if a side would have fewer than `smallest` pixels at this `size`: all of
    VGG19 needs 32.

    >>> load_image("astronaut", size=64).shape
    torch.Size([1, 3, 64, 64])
    """
    path = find_picture(picture)
    width, height = resized(shape_of(path), size)
    if size is not None and min(width, height) < smallest:
        raise RequestError(
            f"{path} would be {width} x {height} pixels; both sides must be at least {smallest}: "
            f"size={least_size(path, smallest)} is enough"
        )
    rgb = decode(path, size)
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(rgb))  # (H, W, 3)
    return (pixels.permute(2, 0, 1)[None].float() / 255).contiguous()  # (1, 3, H, W)


def load_mask(picture: str | Path, shape: Sequence[int]) -> torch.Tensor | None:
    """A mask for a picture of height x width `shape`: (1, 1, H, W) in [0, 1], white is 1; None if it is 1 everywhere.

    A sample mask's name, or a path of a picture of any kind and size; transparent parts are 0. It is brought to the
    shape by averaging areas, or enlarged bilinearly. Raises RequestError for a picture in colours, of other
    proportions, or without any white.
    """
    path = find_picture(picture, "mask")
    pixels = torch.from_numpy(np.array(decode(path, None, "black")))  # (h, w, 3)
    (h, w), (H, W) = pixels.shape[:2], shape
    if abs(h * W - w * H) > max(H, W, h, w):  # they differ by more than a pixel
        raise RequestError(f"{path} is a mask of {w} x {h} pixels, which has not the proportions of {W} x {H}")
    if (pixels.amax(2).int() - pixels.amin(2).int()).max() > MOST_TINT:
        raise RequestError(f"{path} is in colours: a mask is grey, white is in")
    if (pixels == 255).all():
        return None
    t = pixels.float().mean(2)[None, None] / 255  # (1, 1, h, w)
    t = interpolate(t, (H, W), mode="area") if h > H else interpolate(t, (H, W), mode="bilinear")
    if not t.any():
        raise RequestError(f"{path} is black everywhere: a mask must be white somewhere")
    return t


@dataclass(frozen=True)
class Pictures:
    """What a transfer paints from, at one size.

    content: (1, 3, H, W) and styles: (1, 3, H', W') each, in [0, 1]; content_masks, style_masks: one for each style,
    (1, 1, H, W) and (1, 1, H', W') in [0, 1], None for all of the picture; (): no masks. init: a picture to begin with.
    """

    content: torch.Tensor
    styles: tuple[torch.Tensor, ...]
    content_masks: tuple[torch.Tensor | None, ...] = ()
    style_masks: tuple[torch.Tensor | None, ...] = ()
    init: torch.Tensor | None = None


def load_pictures(settings: Settings, smallest: int = SMALLEST_SIDE) -> list[Pictures]:
    """The pictures of a transfer at each of its sizes (one for each of the `scales`), the smallest first.

    The content's longer side has `size` pixels; the style is scaled in proportion. smallest: the fewest pixels that a
    side may have at the smaller sizes. Raises RequestError if a picture cannot be loaded or would be too small.
    """
    found = []
    for size in dict.fromkeys(settings.size_at(k * settings.scale_iterations) for k in range(settings.scales)):
        style_size = round((settings.style_size or settings.size) * size / settings.size)
        least = SMALLEST_SIDE if size == settings.size else smallest
        try:
            found.append(_load_pictures(settings, size, style_size, least))
        except RequestError as error:
            if size == settings.size:
                raise
            raise RequestError(f"{error} (at the smallest of scales={settings.scales}; or use fewer)") from None
    return found


def _load_pictures(settings: Settings, size: int, style_size: int, least: int) -> Pictures:
    content = load_image(settings.content, size, least)
    styles = tuple(load_image(style, style_size, least) for style in settings.styles)

    def masks(names: Sequence[str | None] | None, pictures: Sequence[torch.Tensor]) -> tuple[torch.Tensor | None, ...]:
        pairs = zip(names or (), pictures, strict=False)
        return tuple(name and load_mask(name, picture.shape[2:]) for name, picture in pairs)

    of_content = masks(settings.content_masks, [content] * len(styles))
    init = load_image(settings.init, size, 1) if "init" in settings.files else None
    return Pictures(content, styles, of_content, masks(settings.style_masks, styles), init)


def resized(shape: tuple[int, int], size: int | None) -> tuple[int, int]:
    """The width and height that `load_image` gives a picture of this width and height.

    >>> resized((400, 300), 128)
    (128, 96)
    """
    if size is None:
        return shape
    scale = size / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def least_size(picture: str | Path, smallest: int = SMALLEST_SIDE) -> int:
    """The smallest `size` at which no side of a picture is below `smallest`, in pixels. Raises RequestError.

    >>> least_size("astronaut"), least_size("coffee")
    (32, 48)
    """
    shape = shape_of(find_picture(picture))
    size = smallest
    while min(resized(shape, size)) < smallest:
        size += 1
    return size


def smaller(settings: Settings, size: int) -> Settings:
    """The settings of a similar run at `size` pixels, or as few as its pictures allow; the style in proportion.

    It uses a single scale, and is never larger than `settings`.
    """
    style_size = settings.style_size or settings.size
    least_style = max(map(least_size, settings.styles))
    least = max(least_size(settings.content), least_style * settings.size / style_size)
    size = min(max(size, math.ceil(least)), settings.size)
    in_proportion = max(round(style_size * size / settings.size), least_style)
    chosen = None if settings.style_size is None else in_proportion
    return settings.with_(size=size, style_size=chosen, scales=1)


def load_styles(settings: Settings) -> list[torch.Tensor]:
    """The style pictures at the size at which they are read, (1, 3, H, W) each. Raises RequestError."""
    return [load_image(style, settings.style_size or settings.size) for style in settings.styles]


def side_by_side(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Pictures (1, 3, H, W) next to each other, as high as the lowest of them: one picture, to be looked at."""
    height = min(picture.shape[2] for picture in pictures)
    shapes = [(height, max(1, round(p.shape[3] * height / p.shape[2]))) for p in pictures]
    pairs = zip(pictures, shapes, strict=True)
    return torch.cat([p if p.shape[2] == height else interpolate(p, s, mode="area") for p, s in pairs], dim=3)


def thumbnail(picture: str | Path, side: int) -> Image.Image:
    """A picture of any shape, reduced to `side` pixels on its shorter side, for display. Raises RequestError."""
    path = find_picture(picture)
    shape = shape_of(path)
    scale = side / min(shape)
    longer = min(max(side, round(max(shape) * scale)), 10 * side)
    return decode(path, longer).resize(resized(shape, longer))


def tiled(images: Sequence[torch.Tensor], columns: int) -> np.ndarray:
    """Pictures (1, 3, H, W) as one sheet of pixels, row by row in equal tiles, each at its tile's top left on white."""
    height, width = (max(image.shape[axis] for image in images) for axis in (2, 3))
    sheet = np.full((-(-len(images) // columns) * height, columns * width, 3), 255, dtype=np.uint8)
    for k, image in enumerate(images):
        row, column = divmod(k, columns)
        pixels = to_pixels(image)
        sheet[row * height :, column * width :][: pixels.shape[0], : pixels.shape[1]] = pixels
    return sheet


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [0, 1] units -> (H, W, 3) bytes, clamped and rounded, for display and saving."""
    return (image[0].detach().cpu() * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def save_image(
    image: torch.Tensor, path: str | Path, settings: Settings | None = None, code: Mapping[str, str] | None = None
) -> None:
    """Write (1, 3, H, W) in [0, 1] units as an sRGB PNG; `settings`, if given, are stored inside it.

    code: the SHA-256 of the user's own files that the settings name, by setting; stored inside, too.
    The same picture and settings give the same bytes. Raises OSError if the file cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    text.add(b"sRGB", b"\0")  # perceptual
    if settings is not None:
        text.add_text(PROVENANCE, json.dumps(settings.model_dump(mode="json")))
    if code:
        text.add_text(CODE, json.dumps(dict(code)))
    buffer = io.BytesIO()
    Image.fromarray(to_pixels(image)).save(buffer, format="PNG", pnginfo=text)
    write_whole(Path(path).absolute(), buffer.getvalue())


def read_settings(path: str | Path) -> Settings:
    """The settings inside a PNG, a run's folder or a run.json. Raises RequestError if there are none."""
    path = Path(path)
    try:
        if path.is_dir():
            path = path / "run.json"
        if not path.exists():
            raise RequestError(f"nothing at {path}")
        if path.suffix == ".json":
            stored = parse_json(read_regular(path, MOST_JSON))
            stored = stored.get("settings") if isinstance(stored, dict) else None
        else:
            stored = parse_json(_text_inside(path))
        if not isinstance(stored, dict):
            raise Damaged("its settings are not NAME: VALUE pairs")
        with reading():  # what a file names is not imported
            return Settings(**stored)
    except Damaged:
        raise RequestError(f"{path} holds no settings of nstlab") from None
    except RequestError as error:
        raise RequestError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from None


def code_inside(path: Path) -> dict[str, str]:
    """The SHA-256 of the user's own files that made one of our PNGs, by setting; empty if there are none."""
    try:
        stored = parse_json(_text_inside(path, keyword=CODE))
    except (Damaged, OSError):
        return {}
    return {str(name): str(digest) for name, digest in stored.items()} if isinstance(stored, dict) else {}


def iteration_inside(path: Path, whole: bool = False) -> int | None:
    """The iteration that one of our PNGs shows; None if there is no such file, or it is not ours.

    whole: also None if its pixels are damaged; this takes as long as decoding them.
    """
    try:
        stored = parse_json(_text_inside(path, whole))
    except (Damaged, FileNotFoundError):
        return None
    iteration = stored.get("iterations") if isinstance(stored, dict) else None
    return iteration if type(iteration) is int else None


def _text_inside(path: Path, whole: bool = True, keyword: str = PROVENANCE) -> str:
    """One of our text chunks in a PNG. Raises Damaged if there is none, or if `whole` and the picture is not whole."""
    with open_regular(path) as opened:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                file = Image.open(opened, formats=("PNG",))
                if file.width * file.height > MOST_PIXELS:
                    raise Damaged("too many pixels")
                if whole or keyword not in file.info:
                    file.load()  # text chunks may follow the pixels
        except Exception as error:  # Pillow raises many kinds for a bad PNG
            raise Damaged(str(error)) from None
    text = file.info.get(keyword)
    if not isinstance(text, str):
        raise Damaged("no settings")
    return text
