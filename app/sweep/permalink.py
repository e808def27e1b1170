"""A finished sweep under a permalink."""

import logging
from typing import Any

from analysis.types import NotFoundError
from app.core.canonical import content_hash
from app.core.errors import QuotaError, UnavailableError
from app.core.question import SWEEP
from app.core.store import Database, results
from app.core.store.results import NewResult
from app.sweep import to_view
from app.sweep.request import SweepQuery
from app.sweep.store import Sweeps
from app.sweep.view import KeptSweep, SweepView

log = logging.getLogger(__name__)


def canonical(model: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """A sweep's canonical request."""
    return {
        "kind": SWEEP,
        "model": model,
        "weights_sha256": manifest["weights_sha256"],
        "token_ids": [],
        "options": {**manifest["config"], "corpus": manifest["corpus"]["sha256"]},
    }


def of_sweep(view: SweepView, manifest: dict[str, Any]) -> NewResult:
    """What to store of a finished sweep: its request, its averages and the first rows of its table."""
    asked = canonical(view.ref.model, manifest)
    answer = view.model_dump_json(include=set(KeptSweep.model_fields))
    versions = {"torch": str(manifest["torch"])}
    return NewResult(content_hash(asked), asked, versions, answer, f"sweep over {view.ref.source}")


def keep_sweep(sweeps: Sweeps, database: Database, sweep_id: str, person: str | None = None) -> NewResult:
    """Store a sweep that has ended in somebody's name, by default that of who started it. Not on the event loop."""
    view = to_view.sweep(sweeps, sweep_id, sweeps.result(sweep_id), SweepQuery())
    assert view.manifest is not None
    new = of_sweep(view, view.manifest)
    with database.session() as session:
        person = person or sweeps.jobs.get(sweep_id).person
        results.keep(session, new, person, sweeps.settings.result_quota_bytes)
    return new


def sweep_finished(sweeps: Sweeps, database: Database, sweep_id: str) -> None:
    """`keep_sweep` as the jobs' thread does it: a sweep is finished whether or not it can be written down now."""
    try:
        keep_sweep(sweeps, database, sweep_id)
    except (UnavailableError, NotFoundError, QuotaError) as error:  # no database now; deleted meanwhile; no room
        log.warning("sweep %s has no permalink yet: %s", sweep_id, error.message)
