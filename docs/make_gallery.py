"""Paint the first picture and the gallery, with the command for each picture.

One sheet has every content in every style; a second one shows what can be controlled: one content in two styles by
proportion, the four ways to treat colour, masks, and one setting changed at a time.

    python docs/make_gallery.py               docs/first.jpg, gallery.jpg, gallery_control.jpg and gallery.md
    python docs/make_gallery.py --size 256 --iterations 100
    python docs/make_gallery.py --poster      docs/poster.jpg too: a picture of 4096 pixels, which takes half an hour

The pictures are runs like any other: they are stored under out/, and what is stored is not computed again.
"""

import io
from pathlib import Path

import click
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

import nstlab as lab
from nstlab import plots
from nstlab.storage import home, write_whole

FOLDER = Path(__file__).resolve().parent
LARGEST_FILE = 400_000
CONTENTS = "astronaut,chelsea,rocket"
STYLES = "swirl,waves,glass,mosaic"
FIRST = lab.Settings(content="astronaut", style="swirl", size=512, k_S=5, iterations=150, scales=3)
"""The picture on top of the README and of the book."""

POSTER = lab.Settings(
    content="rocket",
    style="swirl",
    size=4096,
    style_size=2048,
    k_S=5,
    scales=5,
    scale_iterations=30,
    iterations=128,
    history_size=5,
    tile="auto",
    memory=6,
)
"""The README's poster."""
DETAIL = (1650, 700)
"""Left and top of what its sheet shows at full size, in pixels."""

Rows = dict[str, dict[str, lab.Settings | str]]
"""Row title -> caption -> what is shown: the result of settings, or a sample picture, by name or path."""

MIXED = lab.Settings(content="astronaut", style="swirl,gilt", size=256, k_S=10, iterations=110, scales=2)
CAT = MIXED.with_(content="chelsea", style="waves", k_S=15)
PLAIN = MIXED.with_(content="chelsea", style="marbling")
ROCKET = MIXED.with_(content="rocket", style="swirl,glass", content_masks="rocket-sky,rocket-ground", k_S=20)
IN_A_LANDSCAPE = MIXED.with_(content="chelsea", style="planes,waves", content_masks="chelsea-cat,chelsea-ground")
FIGURE = MIXED.with_(style="gilt,swirl", content_masks="astronaut-figure,astronaut-ground", k_S=15)
GRAIN = MIXED.with_(style="swirl,woodcut", style_layer_weights="0:0:0:1:1,30:30:0:0:0", k_S=20)
CONTROL: Rows = {
    "One content, two styles in five proportions: style=swirl,gilt": {
        f"style_weights={weights}": MIXED.with_(style_weights=weights)
        for weights in ("1,0", "3,1", "1,1", "1,3", "0,1")
    },
    "Whose colours: style=waves, at the left": {
        "style": "waves",
        **{f"colour={colour}": CAT.with_(colour=colour) for colour in ("style", "matched", "luminance", "recombined")},
    },
    "Each style has its place (white is in), or its size of stroke": {
        "the mask rocket-sky": str(home() / "data" / "mask" / "rocket-sky.png"),
        "sky: swirl, ground: glass": ROCKET,
        "cat: planes, ground: waves": IN_A_LANDSCAPE,
        "figure: gilt, ground: swirl": FIGURE,
        "forms: swirl, grain: woodcut": GRAIN,
    },
    "One setting changed at a time: style=marbling": {
        "none of them": PLAIN,
        "k_TV=50000": PLAIN.with_(k_TV=50000),
        "padding=replicate": PLAIN.with_(padding="replicate"),
        "init=data/style/swirl.jpg": PLAIN.with_(init=str(home() / "data" / "style" / "swirl.jpg")),
        "style_loss=gaussian_w2, k_S=5": PLAIN.with_(style_loss="gaussian_w2", k_S=5),
    },
}
"""The second sheet."""

HEAD = """# Gallery

![content, style, result](first.jpg)

`{first}`

Every content in every style, each made by one command. {about}

![every content in every style](gallery.jpg)

"""
POSTER_PAGE = """
## A poster

{size} pixels wide, painted in tiles within {memory:g} GB; on the right a detail in its own pixels.

![a rocket among whorls, and its tip in full size](poster.jpg)

`{command}`
"""
TAIL = "\n`make gallery` recreates this page and its pictures.\n"
CONTROL_HEAD = """
## Control

Several styles, masks, colours, strokes, smoothness, borders, and a beginning from a picture: notebook 11 explains \
them. Here: {size} pixels, {iterations} iterations, two scales. Run the commands in the project's folder.

![two styles in five proportions, four ways to treat colour, masks, one setting at a time](gallery_control.jpg)
"""


def paint(rows: Rows, out: str | None) -> dict[str, dict[str, lab.Run | str]]:
    """The same rows with a run, computed or taken from where it is stored, for the settings."""
    return {
        title: {
            caption: lab.Run(shown, out).advance() if isinstance(shown, lab.Settings) else shown
            for caption, shown in row.items()
        }
        for title, row in rows.items()
    }


def control_sheet(rows: dict[str, dict[str, lab.Run | str]], path: Path) -> None:
    """All results in rows, each row under its title and each picture under its caption."""
    size = MIXED.size
    pictures = {
        title: {
            caption: square(lab.load_image(shown, size) if isinstance(shown, str) else shown.result)
            for caption, shown in row.items()
        }
        for title, row in rows.items()
    }
    save_jpeg(plots.captioned_rows(pictures), path)


def command(settings: lab.Settings) -> str:
    """The command line of settings, with paths as seen from the project's root."""
    return settings.command.replace(f"{home()}/", "")


def sheet(runs: dict[tuple[str, str], lab.Run], path: Path) -> None:
    """All results in a table whose first row is the styles and whose first column is the contents."""
    contents, styles = (list(dict.fromkeys(names)) for names in zip(*runs, strict=True))
    size = next(iter(runs.values())).settings.size
    rows = {"": {" ": None, **{style: square(lab.load_image(style, size)) for style in styles}}}
    for content in contents:
        results = {style: square(runs[content, style].result) for style in styles}
        rows[content] = {" ": square(lab.load_image(content, size)), **results}
    save_jpeg(plots.picture_table(rows, height=2.2), path)


def save_jpeg(figure: Figure, path: Path) -> None:
    """A figure as a JPEG file, as good as fits into `LARGEST_FILE`."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    save_small(Image.open(drawn).convert("RGB"), path)


def save_small(image: Image.Image, path: Path) -> None:
    """A picture as a JPEG file, as good as fits into `LARGEST_FILE`."""
    for quality in range(92, 20, -4):
        jpeg = io.BytesIO()
        image.save(jpeg, "JPEG", quality=quality, optimize=True)
        if len(jpeg.getvalue()) <= LARGEST_FILE:
            break
    write_whole(path, jpeg.getvalue())


def poster_sheet(picture: Path, path: Path) -> None:
    """A large picture scaled down, and beside it what its frame marks, in full size."""
    with Image.open(picture) as image:
        whole = image.convert("RGB")
    width = 1200
    small = whole.resize((width, round(width * whole.height / whole.width)), Image.Resampling.LANCZOS)
    (left, top), side, scale = DETAIL, small.height, width / whole.width
    frame = [value * scale for value in (left, top, left + side, top + side)]
    ImageDraw.Draw(small).rectangle(frame, outline="white", width=2)
    sheet = Image.new("RGB", (width + 10 + side, side), "white")
    sheet.paste(small, (0, 0))
    sheet.paste(whole.crop((left, top, left + side, top + side)), (width + 10, 0))
    save_small(sheet, path)


def square(image):
    """The middle of a picture (1, 3, H, W), as high as wide."""
    side = min(image.shape[2:])
    top, left = (image.shape[2] - side) // 2, (image.shape[3] - side) // 2
    return image[:, :, top : top + side, left : left + side]


def page(runs: dict[tuple[str, str], lab.Run]) -> str:
    """The commands of the first sheet as Markdown, with the losses that each run ended with."""
    some = next(iter(runs.values())).settings
    about = f"Here: {some.size} pixels, {some.iterations} iterations, {some.scales} scales, k_S = {some.k_S:g}."
    text = HEAD.format(about=about, first=FIRST.command)
    text += "| content | style | content loss | style loss | command |\n| --- | --- | --- | --- | --- |\n"
    for (content, style), run in runs.items():
        end = run.history.iloc[run.settings.iterations]
        text += f"| {content} | {style} | {end['content']:.3g} | {end['style']:.3g} | `{run.settings.command}` |\n"
    return text


def control_page(rows: Rows) -> str:
    """The commands of the second sheet as Markdown, row by row."""
    text = CONTROL_HEAD.format(size=MIXED.size, iterations=MIXED.iterations)
    for title, row in rows.items():
        text += f"\n### {title.split(':')[0]}\n\n| picture | command |\n| --- | --- |\n"
        for caption, shown in row.items():
            if isinstance(shown, lab.Settings):
                text += f"| {caption} | `{command(shown)}` |\n"
    return text


@click.command()
@click.option("--contents", default=CONTENTS, show_default=True, help="Contents, as a,b,c.")
@click.option("--styles", default=STYLES, show_default=True, help="Styles, as a,b,c.")
@click.option("--size", default=384, show_default=True, help="The longer side in pixels.")
@click.option("--iterations", default=150, show_default=True)
@click.option("--scales", default=3, show_default=True, help="How many sizes to paint at, from small to full.")
@click.option("--k-s", "k_S", default=10.0, show_default=True, help="The weight of style.")
@click.option("--folder", default=FOLDER, type=click.Path(path_type=Path), help="Where the sheet and its page go.")
@click.option("--poster", is_flag=True, help="Paint the poster, too: half an hour, 6 GB.")
@click.option("--out", default=None, help="The folder of runs; out/ of the project if none is given.")
def main(contents: str, styles: str, folder: Path, poster: bool, out: str | None, **shared: float) -> None:
    """Paint the first picture, and every content in every style on one sheet."""
    runs = {}
    for content in contents.split(","):
        for style in styles.split(","):
            runs[content, style] = lab.Run(lab.Settings(content=content, style=style, **shared), out).advance()
    control = paint(CONTROL, out)
    first = lab.Run(FIRST, out).advance()
    pair = (lab.load_image(name, FIRST.size) for name in (FIRST.content, FIRST.style))
    folder.mkdir(parents=True, exist_ok=True)
    save_jpeg(plots.triptych(*pair, first.result), folder / "first.jpg")
    sheet(runs, folder / "gallery.jpg")
    control_sheet(control, folder / "gallery_control.jpg")
    made = ["first.jpg", "gallery.jpg", "gallery_control.jpg", "gallery.md"]
    if poster:
        poster_sheet(lab.Run(POSTER, out).advance().picture, folder / "poster.jpg")
        made.append("poster.jpg")
    text = page(runs) + control_page(CONTROL)
    if (folder / "poster.jpg").exists():
        text += POSTER_PAGE.format(size=POSTER.size, memory=POSTER.memory, command=POSTER.command)
    write_whole(folder / "gallery.md", (text + TAIL).encode())
    click.echo(", ".join(str(folder / name) for name in made))


if __name__ == "__main__":
    main()
