"""Sweeps: a YAML file -> papermill runs on Dask -> a table and a contact sheet.

    file.py       the file: what is wrong with it, before anything runs
    plan.py       the file -> points, each checked as a whole
    notebook.py   one notebook executed by papermill in its own kernel
    point.py      one point of a sweep, as a Dask worker computes it
    batches.py    the points' runs together, before their notebooks
    execution.py  all points on Dask: workers, threads, Ctrl-C, deaths
    progress.py   what is shown meanwhile
    outcome.py    out/sweeps/<name>/: writing and reading the table
    grid.py       the runs that are done, along one or two knobs
    sheet.py      the contact sheet as HTML, to click on
    page.py       an executed notebook as a page to read
    report.py     the contact sheet and the HTML report
    statistics.py what a replicated sweep can say, and how surely
    command.py    `nstlab sweep`

A point is Settings -> Run, so it has the same id and folder as anywhere. It is done when its run has reached
`iterations` and the notebook has run to its end; the notebook file itself proves nothing.
"""

from nstlab.metrics import distances
from nstlab.sweeps.file import Faults
from nstlab.sweeps.grid import Grid
from nstlab.sweeps.notebook import notebook_parameters, run_notebook
from nstlab.sweeps.outcome import Outcome, load, sensitivity
from nstlab.sweeps.plan import Plan, Point, as_code, make_plan, shown
from nstlab.sweeps.results import store_results, stored_history, stored_results, strength, technique
from nstlab.sweeps.sheet import clickable_sheet
from nstlab.sweeps.statistics import Study, as_factor, pairs_for
