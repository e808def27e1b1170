"""A finished sweep in a folder, asked without a server: the answers of `app.sweep.answer`, on a model loaded here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from analysis import atlas as atlases
from analysis.atlas import Atlas
from analysis.effects import Engine
from analysis.frequency import Unigram
from analysis.model import Model
from analysis.store import RunFolder
from analysis.sweep import Result, SweepConfig
from analysis.sweep.worker import Worker
from app.core.residency.cache import Cache
from app.core.residency.memory import Memory
from app.core.residency.resident import MeansStatus, Resident
from app.core.settings import Settings
from app.sweep import answer as answers
from app.sweep import estimate as estimating
from app.sweep import to_view
from app.sweep import view as views
from app.sweep.request import CalibrationQuery, CompareQuery, FigureName, FigureQuery


def resident(model: Model, unigram: Unigram | None, engine: Engine | None = None) -> Resident:
    """The model as the answers want it; nothing of a server is around it."""
    settings = Settings()
    memory, cache = Memory(str(model.device)), Cache(settings.cache_bytes)
    return Resident(model, unigram, MeansStatus(), settings, memory, None, cache, ready=engine)


def estimate(
    model: Model, unigram: Unigram | None, config: SweepConfig, texts: Callable[[], Iterator[str]]
) -> views.EstimateView:
    """What a run would take in this process. ``texts`` is read twice."""
    config = config.settled(model)
    here = resident(model, unigram, Worker.build(model, unigram, config).engine)  # compiled first, as for a run
    return here.call(estimating.estimate, config, texts, sum(map(len, texts())))


@dataclass(frozen=True)
class Finished:
    """A finished sweep and the model it belongs to; ConflictError for a model with other weights."""

    resident: Resident
    folder: RunFolder
    result: Result

    def __post_init__(self) -> None:
        answers.of_these_weights(self.resident.model, self.folder)

    @property
    def name(self) -> str:
        return self.folder.path.resolve().name

    @cached_property
    def atlas(self) -> Atlas:
        *_, last = atlases.compute(self.resident.model, self.resident.unigram)
        assert last.result is not None
        return last.result

    def figures(self, query: FigureQuery) -> list[views.FigureView]:
        """Every figure."""
        names = list(get_args(FigureName))
        return answers.figures(self.resident, self.atlas, self.result, self.name, self.folder, names, query)

    def neuron(self, name: str) -> views.SweepNeuronView:
        found = answers.neuron(self.resident, self.name, self.result, self.folder, name)
        return found.model_copy(update=self._named)

    def calibration(self, query: CalibrationQuery) -> Iterator[int | views.CalibrationView]:
        """Rows done, again and again, then the answer."""
        for step in answers.calibrate(self.resident, query, self.atlas, self.result, self.name, self.folder):
            yield step if isinstance(step, int) else step.model_copy(update=self._named)

    @property
    def _named(self) -> dict[str, str]:
        """As on a server: by what it holds, where nobody called it otherwise."""
        return {"sweep_name": to_view.of_folder(self.folder).name}


def compare(sides: list[tuple[RunFolder, Result]], query: CompareQuery) -> views.CompareView:
    """Two finished sweeps in folders, by one column."""
    a, b = (to_view.Compared(to_view.of_folder(f), found, f.manifest()["weights_sha256"]) for f, found in sides)
    return to_view.compare(a, b, query.column, query.offset, query.limit, choices=[a.ref, b.ref])
