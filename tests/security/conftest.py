"""The model folder of the app's tests."""

from tests.app.conftest import model_folder

__all__ = ["model_folder"]
