"""Paint the gallery: every content in every style, on one sheet, with the command for each.

    python docs/make_gallery.py                        docs/gallery.jpg and docs/gallery.md
    python docs/make_gallery.py --size 256 --iterations 150

The pictures are runs like any other: they are stored under out/, and what is stored is not computed again.
"""

import io
import shlex
from pathlib import Path

import click
from PIL import Image

import nstlab as lab
from nstlab import plots
from nstlab.storage import write_whole

FOLDER = Path(__file__).resolve().parent
LARGEST_FILE = 400_000
CONTENTS = "astronaut,chelsea,rocket"
STYLES = "swirl,waves,glass,mosaic"

HEAD = """# Gallery

Every content in every style, each made by one command. {about}

![every content in every style](gallery.jpg)

"""


def command(settings: lab.Settings) -> str:
    """The command that makes this picture again."""
    words = ["nstlab", "run", "--content", settings.content, "--style", settings.style]
    for name, value in settings.changed().items():
        if name not in ("content", "style", "device"):
            words += ["--set", f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"]
    return shlex.join(words)


def sheet(runs: dict[tuple[str, str], lab.Run], path: Path) -> None:
    """All results in a table whose first row is the styles and whose first column is the contents."""
    contents, styles = (list(dict.fromkeys(names)) for names in zip(*runs, strict=True))
    size = next(iter(runs.values())).settings.size
    rows = {"": {" ": None, **{style: square(lab.load_image(style, size)) for style in styles}}}
    for content in contents:
        results = {style: square(runs[content, style].result) for style in styles}
        rows[content] = {" ": square(lab.load_image(content, size)), **results}
    figure = plots.picture_table(rows, height=2.2)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    image = Image.open(drawn).convert("RGB")
    for quality in range(92, 20, -4):
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=quality, optimize=True)
        if len(jpeg.getvalue()) <= LARGEST_FILE:
            break
    write_whole(path, jpeg.getvalue())


def square(image):
    """The middle of a picture (1, 3, H, W), as high as wide."""
    side = min(image.shape[2:])
    top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
    return image[:, :, top : top + side, left : left + side]


def page(runs: dict[tuple[str, str], lab.Run]) -> str:
    """The commands as Markdown, with the losses that each run ended with."""
    some = next(iter(runs.values())).settings
    text = HEAD.format(about=f"Here: {some.size} pixels, {some.iterations} iterations, k_S = {some.k_S:g}.")
    text += "| content | style | content loss | style loss | command |\n| --- | --- | --- | --- | --- |\n"
    for (content, style), run in runs.items():
        end = run.history.iloc[run.settings.iterations]
        text += f"| {content} | {style} | {end['content']:.3g} | {end['style']:.3g} | `{command(run.settings)}` |\n"
    return text + "\n`make gallery` makes this page and its picture again.\n"


@click.command()
@click.option("--contents", default=CONTENTS, show_default=True, help="Contents, as a,b,c.")
@click.option("--styles", default=STYLES, show_default=True, help="Styles, as a,b,c.")
@click.option("--size", default=256, show_default=True, help="The longer side in pixels.")
@click.option("--iterations", default=100, show_default=True)
@click.option("--k-s", "k_S", default=30.0, show_default=True, help="The weight of style.")
@click.option("--folder", default=FOLDER, type=click.Path(path_type=Path), help="Where the sheet and its page go.")
@click.option("--out", default=None, help="The folder of runs; out/ of the project if none is given.")
def main(contents: str, styles: str, size: int, iterations: int, k_S: float, folder: Path, out: str | None) -> None:
    """Paint every content in every style and put them on one sheet."""
    runs = {}
    for content in contents.split(","):
        for style in styles.split(","):
            settings = lab.Settings(content=content, style=style, size=size, iterations=iterations, k_S=k_S)
            runs[content, style] = lab.Run(settings, out).advance()
    folder.mkdir(parents=True, exist_ok=True)
    sheet(runs, folder / "gallery.jpg")
    write_whole(folder / "gallery.md", page(runs).encode())
    click.echo(f"{folder / 'gallery.jpg'}, {folder / 'gallery.md'}")


if __name__ == "__main__":
    main()
