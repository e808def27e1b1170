"""A Ray cluster on this machine, for the tests of one module."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ATTEMPTS = 3


@contextmanager
def local_cluster(num_cpus: int) -> Iterator[None]:
    """Started, and ended afterwards. Ray gives a start half a minute, which a busy machine may not keep: it is tried
    again, and in the end the tests are skipped visibly, since it is not Ray's start that they are about."""
    import ray

    root = str(Path(__file__).resolve().parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        failure: Exception | None = None
        for _ in range(ATTEMPTS):
            try:
                ray.init(
                    num_cpus=num_cpus,
                    object_store_memory=100_000_000,
                    include_dashboard=False,
                    log_to_driver=False,
                    runtime_env={"env_vars": {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}},
                )
                break
            except Exception as error:  # whatever Ray raises when its processes are late
                failure = error
                with suppress(Exception):
                    ray.shutdown()
        else:
            pytest.skip(f"no Ray cluster could be started here: {failure}"[:200])
        try:
            yield
        finally:
            ray.shutdown()
