"""What the panel exports, run as it stands: papermill and the sweep, in real kernels."""

import shlex
import subprocess
import sys

import pandas as pd
import yaml

import nstlab as lab
from nstlab.widgets import panel
from tests.unit.test_panel_branches import exported


def test_papermill_and_the_sweep_give_the_picture_on_the_screen(tmp_path):
    out = tmp_path / "out"
    bench = panel(out=out)
    shown = {"size": 48, "iterations": 4, "k_S": 30.0, "style_layers": ("relu1_1", "relu2_1")}
    for name, value in shown.items():
        bench.controls[name].value = value
    bench.start()
    bench.wait(60)
    assert bench.state == "finished", bench.message
    expected = bench.run.picture.read_bytes()
    for name, axis in bench.view.axes.items():
        axis.value = name == "pooling"
    exports = exported(bench)

    words = shlex.split(exports["papermill"])
    words[words.index(str(out))] = str(tmp_path / "papermill")  # or the stored run would answer
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    picture = tmp_path / "papermill" / bench.run.folder.name / "result.png"
    assert picture.read_bytes() == expected and (tmp_path / "OUT.ipynb").is_file()

    (tmp_path / "mine.yaml").write_text(exports["sweep"])
    assert yaml.safe_load(exports["sweep"])["grid"] == {"pooling": ["max", "average"]}
    command = [sys.executable, "-m", "nstlab", "sweep", "mine.yaml", "--workers", "2", "--out", str(tmp_path / "swept")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (table,) = (tmp_path / "swept" / "sweeps").glob("*/table.csv")
    paths = pd.read_csv(table).set_index("pooling")["path"]
    assert (tmp_path / "swept" / paths["max"] / "result.png").read_bytes() == expected
    assert lab.read_settings(tmp_path / "swept" / paths["average"]).pooling == "average"
