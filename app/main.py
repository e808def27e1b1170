"""The application: settings in, ASGI app out. No logic."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from analysis.types import NullscopeError
from app.core import pages, refusals
from app.core.access.gate import Gate
from app.core.access.roles import Doors
from app.core.answer_jobs import AnswerJobs
from app.core.at_hand import Desks
from app.core.doors.api import router_of
from app.core.expiry import every_hour
from app.core.followed import FollowedRuns
from app.core.jobs import Jobs
from app.core.locks import DataFolder
from app.core.residency.atlas import Atlases
from app.core.residency.host import ModelHost
from app.core.security import Guard
from app.core.settings import Settings
from app.core.static_files import static_routes
from app.core.store import Database
from app.core.store.keeping import Keeper
from app.core.to_view import versions
from app.core.view import ERRORS
from app.families import FAMILIES
from app.prompt.examples import at_first
from app.registry import EXAMPLES, OTHERS, QUESTIONS
from app.sweep import permalink
from app.sweep.store import Sweeps


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Models begin to load; the app answers at once. On the way out the running request ends at its next check."""
    host: ModelHost = app.state.host
    database: Database = app.state.database
    jobs: Jobs = app.state.jobs
    folder: DataFolder = app.state.folder
    with folder.held("command" if app.state.gate.inside else "server"):
        database.open()
        host.start()
        tidying = None
        if app.state.settings.run_jobs:
            jobs.start()
            tidying = asyncio.ensure_future(
                every_hour(app.state.sweeps.expire, app.state.keeper.expire, app.state.answer_jobs.expire)
            )
        try:
            yield
        finally:
            if tidying is not None:
                tidying.cancel()
            await app.state.followed.close()
            jobs.close()
            app.state.atlases.close()
            host.close()
            database.close()


def create_app(
    settings: Settings | None = None,
    *,
    host: ModelHost | None = None,
    folder: DataFolder | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """The whole program for one process. `folder`: the settings' data folder, where it is held already. For tests,
    `host` replaces the settings' own, and `clock` that of the gate."""
    settings = settings or Settings()
    app = FastAPI(
        title="Nullscope",
        version=versions()["nullscope"],
        description="See how a language model regulates its own confidence. Units: nats.",
        openapi_url=None,  # app.server.openapi serves it, off the event loop
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.folder = folder or DataFolder(settings.data_dir)
    app.state.database = Database.of(settings)
    app.state.keeper = Keeper(app.state.database, settings)
    app.state.questions = QUESTIONS
    app.state.examples = EXAMPLES
    app.state.others = OTHERS
    routers = [import_module(family).router for family in FAMILIES] + [router_of(QUESTIONS.values())]
    doors = Doors([route for router in routers for route in router.routes] + static_routes())
    app.state.gate = Gate(settings, app.state.database, doors, clock=clock)
    app.state.host = host or ModelHost(settings)
    app.state.desks = Desks(partial(at_first, app.state.host))
    app.state.followed = FollowedRuns(app.state.host)
    app.state.atlases = Atlases(app.state.host)
    app.state.jobs = Jobs(app.state.database, per_person=settings.queue_per_person, relieve=app.state.host.relieve)
    app.state.sweeps = Sweeps(settings, app.state.host, app.state.jobs)
    app.state.sweeps.on_finished = partial(permalink.sweep_finished, app.state.sweeps, app.state.database)
    app.state.answer_jobs = AnswerJobs(settings, app.state.host, app.state.jobs, QUESTIONS.values())
    ours = (NullscopeError, RequestValidationError, ValidationError, HTTPException, ClientDisconnect, OSError)
    for kind in (*ours, Exception):  # that of the last one is logged as an error of this program
        app.add_exception_handler(kind, refusals.handle_error)
    for router in routers:
        app.include_router(router)
    app.router.routes.extend(static_routes())
    app.add_middleware(Guard, settings=settings, gate=app.state.gate, render=pages.handle_error)
    return app
