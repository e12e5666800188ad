"""Sweeps before and after they run: the file and its faults, the plan, the table. No kernel is started here."""

import io
import itertools
import json
import signal
import sys
import time
from unittest.mock import Mock

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import nstlab as lab
from nstlab import plots, runs, sweeps
from nstlab.runs import folder as folder_module
from nstlab.storage import home
from nstlab.sweeps import command, execution
from nstlab.sweeps import outcome as outcome_module
from nstlab.sweeps import plan as plan_module
from nstlab.sweeps import point as point_module
from nstlab.sweeps.command import sweep
from nstlab.sweeps.execution import Resources, resources
from nstlab.sweeps.notebook import Kernel, read_mark, write_mark
from nstlab.sweeps.outcome import cell, history_row, write_as_run, write_outcome
from nstlab.sweeps.point import environment
from nstlab.sweeps.progress import Progress, doing, reached_by
from nstlab.sweeps.report import write_contact_sheets

GOOD = {
    "notebook": "04_vanilla_transfer.ipynb",
    "fixed": {"size": 48, "iterations": 6},
    "grid": {"k_S": [10, 1000], "init": ["white", "content", "style"]},
}


@pytest.fixture
def write(tmp_path):
    """A function that writes a sweep's file with some of its entries changed, None taking one away."""

    def file(text=None, **changes) -> str:
        path = tmp_path / "mine.yaml"
        content = {key: value for key, value in (GOOD | changes).items() if value is not None}
        path.write_text(text if text is not None else yaml.safe_dump(content, sort_keys=False))
        return str(path)

    return file


def faults_of(file, **options) -> list[str]:
    with pytest.raises(sweeps.Faults) as caught:
        sweeps.make_plan(file, **options)
    assert all(line and "\n" not in line for line in caught.value.lines)
    return caught.value.lines


def test_a_grid_is_the_product_of_its_axes(write, tmp_path):
    plan = sweeps.make_plan(write(), out=tmp_path)
    assert [point.label for point in plan.points][:3] == [
        "k_S=10 init=white",
        "k_S=10 init=content",
        "k_S=10 init=style",
    ]
    assert len(plan.points) == 6 and len({point.run.id for point in plan.points}) == 6
    assert plan.axes == {"k_S": [10.0, 1000.0], "init": ["white", "content", "style"]}
    assert plan.folder == tmp_path / "sweeps" / "mine" and plan.pending() == plan.points


def test_a_points_run_is_the_run_of_its_settings(write, tmp_path):
    """The same id and the same folder as everywhere, though pictures and weights are hashed once."""
    for point in sweeps.make_plan(
        write(grid={"content": ["astronaut", "coffee"], "seed": [0, 1]}), out=tmp_path
    ).points:
        run = lab.Run(point.settings, tmp_path)
        assert (point.run.id, point.run.folder, point.run.sha256) == (run.id, run.folder, run.sha256)


def test_what_papermill_is_given_is_plain_and_known_to_the_notebook(write, tmp_path):
    plan = sweeps.make_plan(write(), out=tmp_path)
    given = plan.given(plan.points[0])
    assert set(given) <= set(sweeps.notebook_parameters(plan.notebook))
    assert given["k_S"] == 10 and given["out"] == str(tmp_path) and given["style_layers"][0] == "relu1_1"
    assert json.loads(json.dumps(given)) == given


def test_points_are_a_list_of_settings(write, tmp_path):
    points = [{"optimizer": "adam", "learning_rate": 10.0}, {"optimizer": "lbfgs"}]
    plan = sweeps.make_plan(write(grid=None, points=points), out=tmp_path)
    assert [point.settings.optimizer for point in plan.points] == ["adam", "lbfgs"]
    assert plan.axes == {"optimizer": ["adam", "lbfgs"], "learning_rate": [10.0, None]}


def test_the_command_line_replaces_what_is_fixed(write, tmp_path):
    plan = sweeps.make_plan(write(), {"iterations": "5000", "style_layers": "relu1_1,relu2_1"}, tmp_path)
    assert plan.points[0].settings.iterations == 5000
    assert plan.points[0].settings.style_layers == ("relu1_1", "relu2_1")
    two = {"style_layers": "relu1_1,relu2_1", "style_layer_weights": "1,2"}  # right together, not alone
    assert sweeps.make_plan(write(), two, tmp_path).points[0].settings.style_layer_weights == (1, 2)
    assert "varies k_S" in faults_of(write(), given={"k_S": "3"})[0]
    assert "did you mean 'iterations'" in faults_of(write(), given={"itertions": "3"})[0]
    assert "iterations" in faults_of(write(), given={"iterations": "many"})[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"notebook": None}, "`notebook:` is missing"),
        ({"notebook": "04_vanila_transfer.ipynb"}, "did you mean '04_vanilla_transfer.ipynb'"),
        ({"grid": None}, "either `grid:` or `points:`"),
        ({"points": [{"k_S": 1}]}, "either `grid:` or `points:`"),
        ({"grid": {}}, "empty"),
        ({"grid": {"k_S": []}}, "k_S needs a list of at least one value"),
        ({"grid": {"k_S": 10}}, "k_S needs a list"),
        ({"grid": None, "points": []}, "at least one"),
        ({"gird": {"k_S": [1]}}, "did you mean 'grid'"),
        ({"fixed": {"k_S": 1}}, "k_S is in both"),
        ({"grid": {"k_s": [1, 10]}}, "did you mean 'k_S'"),
        ({"fixed": {"itrations": 10}}, "did you mean 'iterations'"),
        ({"grid": {"k_S": [1, -1]}}, "k_S = -1"),
        ({"grid": {"k_S": [1, float("inf")]}}, "k_S"),
        ({"grid": {"init": ["white", "blue"]}}, "unknown init 'blue'"),
        ({"fixed": {"size": 8}}, "size = 8"),
        ({"fixed": {"content": "astronout"}}, "did you mean 'astronaut'"),
        ({"grid": {"content": ["/nowhere/a.png", "/nowhere/b.png"]}}, "no picture at /nowhere/b.png"),
        ({"fixed": {"out": "/tmp"}}, "use --out"),
        ({"grid": {"frame_every": [10, 20]}}, "are the same run"),
        ({"grid": {"k_S": [10, 10.0]}}, "are the same run"),
        ({"fixed": {"style_layer_weights": [1, 2]}}, "2 style_layer_weights for 5 style layers"),
        ({"fixed": {"style_layer_weights": 5}}, "style_layer_weights"),
        ({"fixed": {"style_layer_weights": [1, -1]}}, "must not be negative"),
        ({"name": "../elsewhere"}, "cannot be a folder's name"),
    ],
)
def test_every_fault_is_found_before_anything_runs(write, tmp_path, changes, said):
    assert any(said in line for line in faults_of(write(**changes), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_weights_are_compared_with_the_points_own_layers(write, tmp_path):
    fixed = {"style_layers": ["relu1_1", "relu3_1"]}
    plan = sweeps.make_plan(write(fixed=fixed, grid={"style_layer_weights": [[1, 2], [1, 4], "balanced"]}))
    assert [point.settings.style_layer_weights for point in plan.points] == [(1, 2), (1, 4), "balanced"]


def test_all_faults_are_named_at_once(write):
    lines = faults_of(write(fixed={"size": 8, "seed": -1}, grid={"k_S": ["many"], "init": ["blue"]}))
    assert len(lines) == 4
    assert len(faults_of(write(fixed={"sise": 8}, grid={"k_s": [1], "k_S": [1]}))) == 2


def test_a_file_that_is_no_sweep(write, tmp_path):
    assert "cannot be read as YAML" in faults_of(write("grid: [1"))[0]
    assert "is not a sweep" in faults_of(write("- 1\n- 2\n"))[0]
    assert "k_S appears twice" in faults_of(write("notebook: a\ngrid:\n  k_S: [1]\n  k_S: [2]\n"))[0]
    assert "cannot be read" in faults_of(write("notebook: !!python/object/apply:os.getcwd []\n"))[0]
    assert "no sweep file at" in faults_of(tmp_path / "missing.yaml")[0]
    assert "did you mean 'smoke'" in faults_of("smok")[0]


def test_more_than_ten_thousand_runs_need_a_yes(write):
    assert (
        "10,201 runs are more than 10,000" in faults_of(write(grid={n: list(range(101)) for n in ("seed", "k_S")}))[0]
    )
    big = {name: list(range(1000)) for name in ("seed", "k_S", "history_size", "learning_rate")}
    faults_of(write(grid=big))  # 10¹² points are counted, not made


def test_a_notebook_without_parameters_is_refused(write, tmp_path):
    notebook = tmp_path / "bare.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("k_S = 1")]), notebook)
    assert "no cell tagged `parameters`" in faults_of(write(notebook=str(notebook)))[0]
    notebook.write_text("{")
    assert "not a readable notebook" in faults_of(write(notebook=str(notebook)))[0]


def test_what_a_notebook_explores_beside_its_run_is_not_repeated_at_every_point(write, tmp_path):
    source = "k_S = 1.0\ninit = 'content'\nsize = 48\niterations = 5\nout = None\nexplore = True  # more runs"
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    notebook = tmp_path / "exploring.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), notebook)
    plan = sweeps.make_plan(write(notebook=str(notebook)), out=tmp_path)
    assert plan.given(plan.points[0])["explore"] is False and plan.points[0].others == {"explore": False}
    asked = sweeps.make_plan(write(notebook=str(notebook), fixed={"explore": True}), out=tmp_path)
    assert asked.points[0].others == {"explore": True}


@pytest.mark.parametrize("name", ["smoke", "paper", "learning_rate", "style_layers"])
def test_the_shipped_sweeps_are_sound(name):
    plan = sweeps.make_plan(name)
    text = (home() / "notebooks" / "sweeps" / f"{name}.yaml").read_text()
    assert text.startswith("#") and "GPU" in text.split("notebook:")[0] and f"nstlab sweep {name}" in text
    assert len(plan.points) > 1 and plan.name == name


def test_the_papers_sweep_has_all_seven_initial_values_and_decades_of_k_S():
    plan = sweeps.make_plan("paper", {"iterations": "5000"})
    assert set(plan.axes["init"]) == {"white_noise", "white", "black", "mean", "content", "style", "average"}
    assert len(plan.axes["k_S"]) >= 5 and plan.points[0].settings.iterations == 5000


def pretend(plan, iteration, notebook=True, kept=(), **mark):
    """Write what a computed point leaves, but for its checkpoint; its pictures are black."""
    for number, point in enumerate(plan.points):
        run = point.run
        (run.folder / "frames").mkdir(parents=True)
        settings = run.settings.with_(iterations=iteration)
        run.describe("complete", iteration)
        lab.save_image(torch.zeros(1, 3, 48, 48), run.folder / "result.png", settings)
        frames = {run.settings.iterations, *kept}
        for frame in frames - {iteration}:
            lab.save_image(torch.zeros(1, 3, 48, 48), run.frame_path(frame), settings.with_(iterations=frame))
        rows = [f"{k},{k / 10},{100 / (k + 1)},{1 + number},{1 / (k + 1)},{1 / (k + 1)}" for k in range(iteration + 1)]
        header = "iteration,seconds,total,content,style,relu1_1"
        (run.folder / "history.csv").write_text("\n".join([header, *rows]) + "\n")
        if notebook:
            write_mark(run.folder, plan.notebook.name, point.others, iteration, seconds=9.0, **mark)


def test_a_point_is_done_by_its_run_and_its_mark(write, tmp_path):
    plan = sweeps.make_plan(write(), out=tmp_path)
    pretend(plan, 6, notebook=False, kept=[5])
    (plan.points[0].run.folder / "notebook.ipynb").write_text("{}")  # a notebook's file says nothing
    assert len(plan.pending()) == 6
    for point in plan.points:
        write_mark(point.run.folder, plan.notebook.name, point.others, 6)
    assert plan.pending() == []
    assert len(sweeps.make_plan(write(), {"iterations": "7"}, tmp_path).pending()) == 6
    assert sweeps.make_plan(write(), {"iterations": "5"}, tmp_path).pending() == []
    assert len(sweeps.make_plan(write(), {"iterations": "4"}, tmp_path).pending()) == 6  # its picture was not kept
    more = sweeps.make_plan(write(grid=GOOD["grid"] | {"k_S": [10, 1000, 3]}), out=tmp_path)
    assert [point.label for point in more.pending()] == ["k_S=3 init=white", "k_S=3 init=content", "k_S=3 init=style"]
    mark = plan.points[0].run.folder / "notebook.json"
    for damage in ("", "[1]", '{"iterations": null}', '{"iterations": 6, "notebook": "other.ipynb"}'):
        mark.write_text(damage)
        assert plan.pending() == plan.points[:1], damage
    assert read_mark(tmp_path) == {}


def test_the_table_has_a_row_a_point_and_a_column_a_parameter(write, tmp_path):
    plan = sweeps.make_plan(write(fixed={"size": 48, "iterations": 4, "style_layers": ["relu1_1"]}), out=tmp_path)
    pretend(plan, 6)  # further than asked: the row and the frame of iteration 4 count
    plan.folder.mkdir(parents=True)
    write_as_run(plan, {"workers": 2, "threads": 1})
    write_outcome(plan, {})
    outcome = sweeps.load("mine", tmp_path)
    table = outcome.table
    assert len(table) == 6 and set(lab.Settings.model_fields) <= set(table.columns)
    assert list(table["state"]) == ["done"] * 6 and list(table["k_S"]) == [10, 10, 10, 1000, 1000, 1000]
    assert table["loss_style"].tolist() == [1 / 5] * 6 and table["loss_content"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["loss_relu1_1"].notna().all() and table["seconds"].tolist() == [0.4] * 6
    assert table["iteration"].tolist() == [4] * 6 and outcome.example().iterations == 4
    assert outcome.axes == plan.axes and outcome.run(table.iloc[3]).id == plan.points[3].run.id
    as_run = yaml.safe_load((outcome.folder / "sweep.yaml").read_text())
    assert as_run["made_with"]["threads"] == 1 and "torch" in as_run["made_with"]
    again = sweeps.make_plan(outcome.folder / "sweep.yaml", out=tmp_path)  # it is a sweep's file itself
    assert (again.name, [p.run.id for p in again.points]) == (plan.name, [p.run.id for p in plan.points])


def test_a_sweep_says_at_which_iterations_its_results_are_stored(write, tmp_path):
    plan = sweeps.make_plan(write(store_at=[2, 6]), out=tmp_path)
    pretend(plan, 6, kept=[2])
    plan.folder.mkdir(parents=True)
    write_as_run(plan, {"workers": 1, "threads": 1})
    write_outcome(plan, {})
    paths = sweeps.store_results(sweeps.load("mine", tmp_path), tmp_path)
    table = pd.read_csv(paths[0])
    assert table["iteration"].tolist() == [2, 6] * 6 and table["init"].tolist()[:3] == ["white", "white", "content"]
    assert table["loss_style"].tolist() == pytest.approx([1 / 3, 1 / 7] * 6, rel=1e-5)
    assert table["seconds"].tolist() == [0.2, 0.6] * 6 and set(table["iterations"]) == {6}
    assert Image.open(paths[1]).size == (sweeps.results.COLUMNS * 48, 2 * 48)  # twelve tiles
    plan.points[0].run.frame_path(2).unlink()
    with pytest.raises(lab.RequestError, match="no frame at iteration 2"):
        sweeps.store_results(sweeps.load("mine", tmp_path), tmp_path)
    for wrong in ([], 3, ["2"], [True]):
        assert "`store_at:` must be" in faults_of(write(store_at=wrong))[0]
    assert "exclude each other" in faults_of(write(store_at=[2], evaluate=True))[0]


def test_failures_and_missing_points_are_rows_too(write, tmp_path):
    plan = sweeps.make_plan(write(), out=tmp_path)
    plan.folder.mkdir(parents=True)
    write_as_run(plan, {"workers": 2, "threads": 1})
    table = write_outcome(plan, {plan.points[1].run.id: "it broke, badly"})
    assert list(table["state"]) == ["missing", "failed"] + ["missing"] * 4
    failures = pd.read_csv(plan.folder / "failures.csv")
    assert failures[["k_S", "init", "error"]].values.tolist() == [[10, "content", "it broke, badly"]]
    assert failures["notebook"][0] == f"{plan.points[1].run.folder.name}/notebook.ipynb"
    write_outcome(plan, {})
    assert list(pd.read_csv(plan.folder / "failures.csv").columns) == ["k_S", "init", "error", "notebook", "run"]
    outcome = sweeps.load(plan.folder)
    assert outcome.pictures() == [None] * 6
    with pytest.raises(lab.RequestError, match="no point of mine is done"):
        write_contact_sheets(outcome)


def test_status_and_what_failed(write, tmp_path, capfd):
    """Nothing runs: the plan is told with what is done, running, failed; then only what failed is planned."""
    file = write()
    plan = sweeps.make_plan(file, out=tmp_path)
    pretend(plan, 6)
    _, failed, held, *others = plan.points
    for point in (failed, held, *others):
        (point.run.folder / "notebook.json").unlink()
    plan.folder.mkdir(parents=True)
    write_outcome(plan, {failed.run.id: "it broke, badly"})
    assert sweep(file, {}, tmp_path, only="failed", dry_run=True) == 0
    said = capfd.readouterr().out
    assert failed.run.folder.name in said and not any(point.run.folder.name in said for point in (held, *others))
    with held.run.locked():
        assert sweep(file, {}, tmp_path, status=True) == 0
    said = capfd.readouterr().out
    assert "1 done, 1 running, 1 failed, 3 started, 0 new" in said
    assert f"failed: {failed.label}: it broke, badly" in said
    write_mark(failed.run.folder, plan.notebook.name, failed.others, 6)
    assert sweep(file, {}, tmp_path, only="failed") == 0
    assert "no point has failed" in capfd.readouterr().out


def test_a_cluster_that_closes_slowly_is_no_fault(monkeypatch):
    """Everything is computed by then."""
    import distributed

    class Slow:
        status = "running"

        def __init__(self, *_, **__):
            pass

        def close(self, timeout):
            raise TimeoutError(f"timed out after {timeout} s")

    monkeypatch.setattr(distributed, "LocalCluster", Slow)
    monkeypatch.setattr(distributed, "Client", Slow)
    with execution._connected(execution.Resources(2, 1), None) as client:
        assert isinstance(client, Slow)


def test_a_dashboard_address_that_cannot_be_made_is_left_out():
    class Client:
        @property
        def dashboard_link(self):
            raise KeyError("JUPYTERHUB_SERVICE_PREFIX")

    said = execution._where(Client(), execution.Resources(2, 1), None)
    assert said == "dask      2 workers on this machine, 1 thread each"


def test_a_run_that_another_sweep_takes_up_in_between_is_waited_for_again(write, tmp_path, monkeypatch):
    plan = sweeps.make_plan(write(grid={"k_S": [10]}), out=tmp_path)
    tried = []

    def execute(notebook, folder, *_):
        tried.append(folder)
        if len(tried) < 3:
            raise runs.Occupied("computed by another process")
        pretend(plan, 6, notebook=False)

    monkeypatch.setattr(point_module, "execute", execute)
    for name in ("_worker_name", "_socket_folder", "_tell"):
        monkeypatch.setattr(point_module, name, lambda *_: "0")
    task = execution._task(plan, plan.points[0], "token", execution.Resources(1, 1))
    assert point_module.compute_point(task) == {"state": "done"}
    assert len(tried) == 3 and plan.pending() == []


def test_a_sweep_that_has_not_run_is_named(tmp_path):
    with pytest.raises(lab.RequestError, match="nstlab sweep smoke"):
        sweeps.load("smoke", tmp_path)


@pytest.mark.parametrize(("workers", "rounds"), [(0, 6), (1, 6), (4, 2), (6, 1), (100, 1)])
def test_the_forecast_has_as_many_rounds_as_the_workers_need(write, tmp_path, monkeypatch, workers, rounds):
    monkeypatch.setattr(command, "_seconds_per_pixel", lambda plan, threads: 0.0)
    plan = sweeps.make_plan(write(), out=tmp_path)
    found = command._seconds(plan, plan.points, Resources(workers, 1))
    assert found == command.WORKERS_SECONDS + rounds * command.START_SECONDS


def test_a_thousand_points_are_planned_and_read_in_seconds(write, tmp_path, monkeypatch):
    """Slow work is done once per file, not once per point: reading pictures, hashing files."""
    counts = {}
    for module, name in ((plan_module, "load_pictures"), (folder_module, "sha256_of"), (outcome_module, "load_image")):
        counts[module, name] = wrapped = Mock(wraps=getattr(module, name))
        monkeypatch.setattr(module, name, wrapped)
    grid = {"k_S": [float(k) for k in range(1, 101)], "seed": list(range(10))}
    times = [time.process_time()]
    plan = sweeps.make_plan(write(grid=grid), out=tmp_path)
    assert len(plan.points) == 1000 and len(plan.pending()) == 1000
    times.append(time.process_time())
    pretend(plan, 6, ssim_content=0.5)
    times.append(time.process_time())
    assert plan.pending() == []
    plan.folder.mkdir(parents=True)
    write_as_run(plan, {"workers": 2, "threads": 1})
    assert list(write_outcome(plan, {})["ssim_content"]) == [0.5] * 1000
    times.append(time.process_time())
    assert len(sweeps.load("mine", tmp_path).table) == 1000
    times.append(time.process_time())
    print("seconds to plan, (pretend), write, load:", [round(b - a, 2) for a, b in itertools.pairwise(times)])
    assert [wrapped.call_count for wrapped in counts.values()] == [1, 2, 0]  # the pair; content and style


def test_a_history_row_is_found_or_missed(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("iteration,seconds,total,content,style\n0,0.1,5.0,1.0,4.0\n1,0.2,4.0,1.0,3.0\n")
    assert history_row(path, 1) == {"iteration": 1, "seconds": 0.2, "total": 4.0, "content": 1.0, "style": 3.0}
    with pytest.raises(lab.RequestError, match="no row of iteration 7"):
        history_row(path, 7)
    with pytest.raises(lab.RequestError, match="cannot be read: No such file"):
        history_row(tmp_path / "none.csv", 0)
    for damage in (
        "10,0.3,3.0,1.0,1.0\n",
        "2,0.3\n",
        '2,0.3,"3",1,1\n',
        "2,0.3,x,1,1\n",
        "2,0.3,nan,1,1\n",
        "2,1,1,1,1,1\n",
    ):
        path.write_text(f"iteration,seconds,total,content,style\n0,0.1,5.0,1.0,4.0\n1,0.2,4.0,1.0,3.0\n{damage}")
        with pytest.raises(lab.RequestError, match="is damaged"):
            history_row(path, 1)


def test_how_far_a_run_is_can_be_read_while_it_is_written(write, tmp_path):
    run = sweeps.make_plan(write(), out=tmp_path).points[0].run
    assert reached_by(run) == 0
    run.folder.mkdir(parents=True)
    for text, reached in (
        ("iteration,seconds\n", 0),
        ("iteration,seconds\n0,1\n1,2\n2,", 1),
        ("iteration,seconds\n" + "1,1\n" * 5000 + "77,1\n", 77),
    ):
        (run.folder / "history.csv").write_text(text)
        assert reached_by(run) == reached


def test_no_core_has_two_things_to_do(write, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    six = sweeps.make_plan(write(), out=tmp_path)
    two = sweeps.make_plan(write(grid={"k_S": [1, 2]}), out=tmp_path)
    many = sweeps.make_plan(write(grid={"seed": list(range(20))}), out=tmp_path)
    assert [(r.workers, r.threads) for r in map(resources, (six, two, many))] == [(6, 1), (2, 4), (8, 1)]
    assert (resources(many, workers=4).workers, resources(many, workers=4).threads) == (4, 2)
    assert (resources(many, threads=4).workers, resources(many, threads=4).threads) == (2, 4)


def test_one_worker_a_gpu(write, tmp_path, monkeypatch):
    plan = sweeps.make_plan(write(), out=tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    use = resources(plan)
    assert (use.workers, use.gpus) == (2, ("0", "1"))
    assert [environment(1, use.gpus, str(n))["CUDA_VISIBLE_DEVICES"] for n in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert resources(plan).gpus == ("2", "5")
    assert "CUDA_VISIBLE_DEVICES" not in environment(2, (), "0") and environment(2, (), "0")["OMP_NUM_THREADS"] == "2"


def test_progress_in_a_log(write, tmp_path, capsys):
    plan = sweeps.make_plan(write(), out=tmp_path)
    point = plan.points[0]
    with Progress(plan.points) as progress:
        event = {"run": point.run.id, "iteration": 3}
        progress.began(event)
        progress.began(event)
        progress.ended(point, {"state": "failed", "error": "it broke"})
        progress.shown_at = 0
        progress.show()
    said = capsys.readouterr().out.splitlines()
    assert said[0].strip() == "a worker died: k_S=10 init=white resumes at iteration 3"
    assert "waiting" not in said[2]  # five points have not begun
    assert said[1] == "failed    1 of 6: k_S=10 init=white, it broke"
    assert "1 of 6 points, 0 running" in said[2] and "\x1b" not in "".join(said)


def test_at_its_end_progress_names_what_it_waits_for(write, tmp_path, capsys):
    plan = sweeps.make_plan(write(), out=tmp_path)
    first, last = plan.points[0], plan.points[-1]
    first.run.folder.mkdir(parents=True)
    (first.run.folder / "history.csv").write_text("iteration,seconds,total\n0,0.0,9.0\n6,1.5,2.0\n")
    with Progress(plan.points) as progress:
        for point in (first, last):
            progress.began({"run": point.run.id, "iteration": None})
        for point in plan.points[1:-1]:
            progress.ended(point, {"state": "done"})
        progress.shown_at = 0
        progress.show()
        progress.ended(last, {"state": "done"})
        progress.shown_at = 0
        progress.show()
    two, one = (line for line in capsys.readouterr().out.splitlines() if line.startswith("["))
    painted = "k_S=10 init=white (finishing its notebook)"
    assert two.endswith(f"; waiting for 2 runs: {painted}, k_S=1000 init=style")
    assert one.endswith(f"all iterations are computed; waiting for 1 run: {painted}")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_done_meanwhile_is_said():
    screen, log = Terminal(), io.StringIO()
    for out in (screen, log):
        with doing("writing the table", out):
            assert out.getvalue().strip() == "writing the table"
    assert screen.getvalue().endswith("\r\x1b[K")  # the line is gone
    assert log.getvalue() == "writing the table\n"


def test_distances_and_what_each_knob_does():
    levels = {("a", 1): 0.0, ("a", 2): 0.5, ("b", 1): 0.1, ("b", 2): 0.6}
    between = sweeps.distances([torch.full((1, 3, 4, 4), level) for level in levels.values()])
    assert np.allclose(between[0], [0, 127.5, 25.5, 153]) and np.allclose(between, between.T)
    table = pd.DataFrame([{"x": x, "y": y, "loss_style": 10.0**y, "loss_content": 3.0} for x, y in levels])
    found = sweeps.sensitivity(table, {"x": ["a", "b"], "y": [1, 2]}, between).set_index("knob")
    assert list(found.index) == ["y", "x"] and list(found["pairs"]) == [2, 2]
    assert np.allclose(found["distance"], [127.5, 25.5])
    assert np.allclose(found["style_factor"], [10, 1]) and np.allclose(found["content_factor"], 1)


def test_a_sheet_for_every_shape_of_sweep(tmp_path):
    picture = torch.rand(1, 3, 8, 12)
    axes = {"k_S": [1.0, 10.0], "init": ["white", "style"], "seed": [0, 1, 2]}
    rows = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    images = [None, *[picture] * 11]
    pages = list(plots.sweep_sheets(pd.DataFrame(rows), axes, images, {"content": picture}, title="a × b", note="note"))
    texts = [{text.get_text() for text in page.texts} for page in pages]
    tiles = [plots.sheet_tiles(page) for page in pages]
    assert [rows[n]["seed"] for page in tiles for n in page] == [0] * 4 + [1] * 4 + [2] * 4  # a page for each seed
    for page in tiles:
        for n, (left, top, right, bottom) in page.items():
            assert 0 <= left < right <= 1 and 0 <= top < bottom <= 1
            right_of, below = (rows[n] | {"k_S": 10.0}, rows[n] | {"init": "style"})
            assert rows[n]["k_S"] == 10 or page[rows.index(right_of)][0] > right
            assert rows[n]["init"] == "style" or page[rows.index(below)][1] > bottom
    assert len(pages) == 3 and {"white", "10", "k_S →", "init ↓", "note", "a × b"} <= texts[0]
    assert any("seed 2" in text for text in texts[2])
    one = list(plots.sweep_sheets(pd.DataFrame({"k_S": [1.0, 2.0]}), {"k_S": [1.0, 2.0]}, [picture, None]))
    assert len(one) == 1
    scattered = pd.DataFrame({"optimizer": ["adam", "lbfgs", "adam"], "learning_rate": [1.0, None, 9.0]})
    values = {"optimizer": ["adam", "lbfgs"], "learning_rate": [1.0, None, 9.0, 7.0]}
    assert len(list(plots.sweep_sheets(scattered, values, [picture] * 3))) == 1
    for number, page in enumerate(pages + one):
        (tmp_path / f"{number}.png").write_bytes(plots.sheet_png(page))
        assert (tmp_path / f"{number}.png").stat().st_size > 2000


def test_cells_of_the_table():
    assert cell(None) is None and cell(()) == "" and cell([[40, 300.0], [80, 10.0]]) == "40:300.0,80:10.0"


REPLICATED = {"pairs": [["astronaut", "swirl"], ["coffee", "ink"], ["rocket", "waves"]], "seed": [0, 1]}
DRAWING = {"fixed": GOOD["fixed"] | {"style_loss": "mmd_gaussian"}, "replicate": REPLICATED}  # every run draws samples


def ran(plan) -> sweeps.Outcome:
    """A plan's outcome, as if all its points had run; each is as like its content as any other."""
    pretend(plan, 6, ssim_content=0.5)
    plan.folder.mkdir(parents=True)
    write_as_run(plan, {"workers": 1, "threads": 1})
    write_outcome(plan, {})
    return sweeps.load(plan.folder)


def test_a_sweep_is_repeated_with_other_pictures_and_seeds(write, tmp_path):
    """All of one replicate come before the next; what is replicated is no axis, in the file as it was run neither."""
    plan = sweeps.make_plan(write(**DRAWING, checkpoints=False), out=tmp_path)
    assert len(plan.points) == 36 and len({point.run.id for point in plan.points}) == 36
    assert list(plan.axes) == ["k_S", "init"] and plan.replicates["style"] == ["swirl", "ink", "waves"]
    assert plan.points[6].label == "k_S=10 init=white content=astronaut style=swirl seed=1"
    assert plan.points[12].settings.content == "coffee" and plan.points[12].settings.seed == 0
    outcome = ran(plan)
    again = sweeps.make_plan(plan.folder / "sweep.yaml", out=tmp_path)
    assert [point.run.id for point in again.points] == [point.run.id for point in plan.points]
    assert again.content["checkpoints"] is False
    assert (outcome.axes, outcome.replicates) == (plan.axes, plan.replicates)
    one = outcome.one_replicate()
    assert len(one.table) == 6 and set(one.table["content"]) == {"astronaut"} and one.one_replicate() is one
    row = outcome.table.iloc[0]
    assert outcome.elsewhere(row)[["k_S", "init"]].drop_duplicates().values.tolist() == [[10, "white"]]
    assert len(outcome.elsewhere(row)) == 5 and one.elsewhere(row).empty
    stored, _, making = sweeps.store_results(outcome, tmp_path)
    table = pd.read_csv(stored)
    assert list(table)[:5] == ["k_S", "init", "content", "style", "seed"]
    assert list(table["run"]) == [point.run.id for point in plan.points]
    assert yaml.safe_load(making.read_text())["made_with"]["replicates"] == plan.replicates


def test_the_sheet_shows_one_replicate_and_names_the_others(write, tmp_path):
    outcome = ran(sweeps.make_plan(write(**DRAWING), out=tmp_path))
    assert [path.name for path in write_contact_sheets(outcome)] == ["contact_sheet.png"]
    page = sweeps.clickable_sheet(outcome, beside=outcome.folder).data
    assert page.count('class="nst-tile"') == 6 and page.count("Style loss elsewhere") == 6
    other = outcome.table.iloc[12]
    assert "coffee, ink, 0" in page and f"{other['path']}/" in page
    assert "coffee, ink, 0" in sweeps.clickable_sheet(outcome).data


def test_a_replicated_sweep_is_a_study(write, tmp_path):
    """`pretend` gives every run the same losses: no knob does anything, and seeds make no noise."""
    outcome = ran(sweeps.make_plan(write(**DRAWING), out=tmp_path))
    study = outcome.study("loss_style")
    assert study.factors == ["k_S", "init"] and len(study.cells) == 3 and study.noise == 0
    assert (study.effects()["effect"] == 0).all() and not study.comparisons("init")["stands_out"].any()
    outcome.table.loc[0, "state"] = "missing"
    assert len(outcome.study("loss_style").cells) == 3  # the other seed has it
    outcome.table.loc[6, "state"] = "missing"
    assert outcome.study("loss_style").missing == ["astronaut, swirl"]
    with pytest.raises(lab.RequestError, match="no pair of pictures"):  # each style has one content
        sweeps.Outcome("mine", outcome.table, {"style": []}, outcome.folder).study("loss_style")


def test_only_what_draws_something_is_repeated_with_other_seeds(write, tmp_path, capsys):
    """Another seed of a run that draws nothing would be the same picture, and the noise between them 0."""
    file = write(replicate=REPLICATED, grid={"init": ["white", "white_noise"]})
    plan = sweeps.make_plan(file, out=tmp_path)
    seeds = [(point.settings.init, point.settings.seed) for point in plan.points[:3]]
    assert seeds == [("white", 0), ("white_noise", 0), ("white_noise", 1)] and len(plan.points) == 9
    assert plan.replicates["seed"] == [0, 1]
    outcome = ran(plan)
    assert len(outcome.one_replicate().table) == 2 and len(outcome.elsewhere(outcome.table.iloc[0])) == 2
    outcome.table.loc[2, "loss_style"] *= 3
    assert outcome.study("loss_style").noise > 0
    assert sweep(file, {}, tmp_path, dry_run=True) == 0
    assert "9 points" in (said := capsys.readouterr().out) and "seed (2) where something is drawn" in said
    assert "none of these runs draws anything" in faults_of(write(replicate={"seed": [0, 1]}))[0]


def test_what_is_wrong_with_replicates(write):
    pictures = REPLICATED["pairs"]
    for wrong, said in (
        ([], "needs `pairs:"),
        ({"pears": pictures}, "unknown key 'pears': did you mean 'pairs'?"),
        ({"pairs": ["astronaut"]}, "each of `pairs:` is"),
        ({"seed": []}, "at least one value"),
        ({"seed": [0, "x"]}, "seed"),
        ({"pairs": [["astronaut", "swirly"]]}, "did you mean 'swirl'?"),
        ({"seed": [0, 0]}, "are the same run"),
    ):
        assert any(said in line for line in faults_of(write(replicate=wrong))), (wrong, said)
    both = faults_of(write(replicate={"seed": [1]}, fixed=GOOD["fixed"] | {"seed": 0}))
    assert both == ["seed is in both `replicate:` and `fixed:`"]
    both = faults_of(write(replicate={"pairs": pictures}, grid={"style": ["ink", "waves"]}))
    assert both == ["style is in both `replicate:` and `grid:`"]
    assert "--set seed" in faults_of(write(replicate={"seed": [1]}), given={"seed": "3"})[0]
    assert "`checkpoints:` must be" in faults_of(write(checkpoints="no"))[0]
    points = faults_of(write(grid=None, points=[{"seed": 1}], replicate={"seed": [1]}))
    assert points == ["`points:` set what `replicate:` varies"]


@pytest.mark.parametrize("system, sent", [("linux", "signal"), ("win32", "event")])
def test_a_kernel_is_interrupted_as_its_system_does_it(system, sent, monkeypatch):
    """Windows has no SIGINT for a process: it raises ValueError there, and kernels wait for an event instead."""
    done = []
    process = Mock(win32_interrupt_event="its event")
    process.poll.return_value = None
    process.send_signal.side_effect = lambda number: done.append(("signal", number))
    monkeypatch.setattr("jupyter_client.win_interrupt.send_interrupt", lambda event: done.append(("event", event)))
    kernel = Kernel()
    kernel.manager = Mock(provisioner=Mock(process=process))
    monkeypatch.setattr(sys, "platform", system)
    kernel.stop()
    assert done == [{"signal": ("signal", signal.SIGINT), "event": ("event", "its event")}[sent]]
    kernel.stop(now=True)
    process.kill.assert_called_once_with()
