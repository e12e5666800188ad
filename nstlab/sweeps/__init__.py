"""Sweeps: a YAML file -> papermill runs on Dask -> a table and a contact sheet.

    plan.py       the file, checked to the last value before anything runs -> points
    notebook.py   one notebook executed by papermill in a kernel of its own
    point.py      one point of a sweep, as a Dask worker computes it
    execution.py  all points on Dask: workers, threads, Ctrl-C, what died
    progress.py   what is shown meanwhile
    outcome.py    out/sweeps/<name>/: the table, and reading it again
    report.py     contact sheet and the HTML report
    command.py    `nstlab sweep`

A point is Settings -> Run, so it has the id and the folder that it has everywhere. It is done when its run
has reached `iterations` and the notebook has run to its end; never is it judged by the notebook file.
"""

from nstlab.metrics import distances
from nstlab.sweeps.notebook import notebook_parameters, run_notebook
from nstlab.sweeps.outcome import Outcome, load, sensitivity
from nstlab.sweeps.plan import Faults, Plan, Point, as_code, make_plan, shown
from nstlab.sweeps.results import store_results, stored_results, strength, technique
