"""A run on disk: its identity, what it stores, and how it resumes as if nothing had happened.

run.py          Run: computed, resumed, read; together.py: several in one batch
folder.py       its identity and its files' places; manifest.py: run.json
writer.py       what is written while it is computed
history.py, checkpoints.py  one row per iteration; everything needed to resume
pruning.py      what can be removed
"""

from nstlab.runs.folder import stored_runs
from nstlab.runs.history import FIRST_COLUMNS, last_row, read_history
from nstlab.runs.manifest import differences, read_manifest, run_id, this_machine
from nstlab.runs.pruning import is_held, prunable, remove
from nstlab.runs.run import PATIENCE, Occupied, Run
from nstlab.runs.together import advance_together
