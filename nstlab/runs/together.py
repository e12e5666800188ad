"""Several runs computed in one batch, each with its own folder, as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing

from nstlab.decoding import shape_of
from nstlab.errors import RequestError, RunError
from nstlab.images import picture_files
from nstlab.interrupts import noted_interrupts
from nstlab.optimise import Descent, check_batch, losses_together, network_in_common
from nstlab.runs.run import Run, progress_bar


def advance_together(runs: Sequence[Run], progress: bool = True) -> dict[str, str]:
    """Like `Run.advance` for several runs, whose pictures of one shape share each pass of the network.

    Made for small pictures on a GPU; a CPU has as much to do as for one after the other. Each run gets the pictures
    that it gets alone, but for rounding, and its share of the seconds. The runs must have the device and the network
    in common (see `nstlab.optimise.network_in_common`). Ctrl-C stores all of them, like `Run.advance`.
    Returns the errors of runs that failed, by id; the others go on. Raises RequestError before anything is computed
    if their networks differ or memory is too small for the batch, RunError if memory runs out later.
    """
    runs = list({run.id: run for run in runs if not run.complete}.values())
    if not runs:
        return {}
    if len(runs) > 1:
        _check(runs)
    failed: dict[str, str] = {}
    reached, wanted = sum(run.iteration or 0 for run in runs), sum(run.settings.iterations for run in runs)
    shown = progress_bar(f"{len(runs)} transfers", reached, wanted, progress)
    with noted_interrupts() as presses, ExitStack() as stored, shown as bar:
        descents: dict[str, Descent] = {}
        net, waiting = None, {}
        for run in runs:
            part = run.steps_in_batch(net, len(runs))
            try:
                descents[run.id] = next(stored.enter_context(closing(part)))
                net, waiting[run.id] = descents[run.id].objective.net, part
            except StopIteration:  # only its picture is missing
                continue
            except (RequestError, RunError) as error:
                failed[run.id] = str(error)
        while waiting and not presses:
            losses = losses_together([descents[name] for name in waiting])
            for (name, part), values in zip(list(waiting.items()), losses, strict=True):
                try:
                    part.send(values)
                except (StopIteration, RunError) as end:
                    del waiting[name]
                    if isinstance(end, RunError):
                        failed[name] = str(end)
            bar.update(sum(max(descent.iteration, 0) for descent in descents.values()) - bar.n)
    if presses:
        raise KeyboardInterrupt
    for run in runs:
        if run.id not in failed:
            run.advance(progress=False)  # which has nothing to do, unless only its picture is missing
    return failed


def _check(runs: Sequence[Run]) -> None:
    """Raises RequestError unless they can share a batch."""
    common = {network_in_common(run.settings) for run in runs}
    if len(common) > 1 or None in common:
        raise RequestError(
            "only runs with the same device and network go together, without reduction, tiles, gates that the "
            "pictures choose, or code of one's own: advance() the others alone"
        )
    check_batch([(run.settings, shape_of(picture_files(run.settings)["content"])[::-1]) for run in runs])
