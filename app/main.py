"""The application: settings in, ASGI app out. No logic."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from analysis.types import NullscopeError
from app import pages
from app.access.gate import Gate
from app.answers.induction_jobs import HeadJobs
from app.db import Database
from app.jobs import LOCK, Jobs
from app.jobs.sweeps import Sweeps
from app.present.core import versions
from app.residency.atlas import Atlases
from app.residency.host import ModelHost
from app.routes import FAMILIES
from app.security import Guard
from app.settings import Settings
from app.views.core import ERRORS


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Models begin to load; the app answers at once. On the way out the running request is finished."""
    host: ModelHost = app.state.host
    database: Database = app.state.database
    database.open()
    host.start()
    jobs: Jobs = app.state.jobs
    if app.state.settings.run_jobs:
        jobs.start(app.state.settings.data_dir / LOCK)
    try:
        yield
    finally:
        jobs.close()
        app.state.atlases.close()
        host.close()
        database.close()


def create_app(settings: Settings | None = None, *, host: ModelHost | None = None) -> FastAPI:
    """The whole program for one process. `host` replaces the settings' own, for tests."""
    settings = settings or Settings()
    app = FastAPI(
        title="Nullscope",
        version=versions()["nullscope"],
        description="See how a language model regulates its own confidence. Units: nats.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.database = Database.of(settings)
    app.state.gate = Gate(settings, app.state.database)
    app.state.host = host or ModelHost(settings)
    app.state.atlases = Atlases(app.state.host)
    app.state.jobs = Jobs(app.state.database, per_person=settings.queue_per_person)
    app.state.sweeps = Sweeps(settings, app.state.host, app.state.jobs)
    app.state.evidence = app.state.sweeps.evidence
    app.state.head_jobs = HeadJobs(settings, app.state.host, app.state.jobs)
    for kind in (NullscopeError, RequestValidationError, ValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, pages.handle_error)
    for family in FAMILIES:
        app.include_router(import_module(f"app.routes.{family}").router)
    app.router.routes.extend(pages.static_routes())
    app.add_middleware(Guard, settings=settings, gate=app.state.gate, render=pages.handle_error)
    return app
