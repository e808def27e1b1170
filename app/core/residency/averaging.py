"""The reference means of a served model: from a file or computed beside other work, then every replica's."""

import logging
import threading
from collections.abc import Callable
from functools import partial

from analysis.reference import ReferenceMeans
from app.core.residency import means
from app.core.residency.cache import Files
from app.core.residency.entry import Entry
from app.core.residency.replica import Replica
from app.core.residency.sliced_job import HOUSE, SlicedJob
from app.core.residency.worker import Worker
from app.core.settings import Settings

log = logging.getLogger(__name__)

Place = Callable[[Entry], tuple[Worker, Replica]]


def renew(
    entry: Entry, place: Place, settings: Settings, files: Files, closing: threading.Event, *, stored: bool
) -> None:
    """From the files, where they are kept for this text (`stored`: they may be); else computed."""
    read = None
    if entry.replicas and stored:
        read = means.stored(settings, files, entry.replicas[0][1].model, entry.spec.folder)
    if read is None:
        compute(entry, place, settings, files, closing)
    else:
        _share(entry, read)
        entry.means_settled.set()


def compute(entry: Entry, place: Place, settings: Settings, files: Files, closing: threading.Event) -> None:
    """Average the activations over the reference text, a row a slice, and keep the result for the next start."""
    status = entry.means
    try:
        make = partial(means.steps, settings=settings, files=files)
        for step in SlicedJob(*place(entry), make, HOUSE, "means").on_thread():
            status.state, status.done, status.total = "computing", step.done, step.total
            if step.result is not None:
                _share(entry, step.result)
            if closing.is_set():
                return
    except means.NoTextError:
        status.state, status.value = "none", None
    except Exception as error:
        if not closing.is_set():
            log.warning("reference means of %s: %s", entry.spec.key, error)
        status.state, status.value, status.error = "failed", None, str(error)[:300]
    finally:
        entry.means_settled.set()


def _share(entry: Entry, computed: ReferenceMeans) -> None:
    """Every replica has the means, then everybody sees that they are ready."""
    for worker, replica in entry.replicas:
        worker.submit(partial(replica.take_means, computed), who=HOUSE, kind="means", lane="batch").future.result()
    entry.means.value, entry.means.state = computed, "ready"
