"""The model folder of the app's tests."""

from tests.app.conftest import model_folder, unhurried

__all__ = ["model_folder", "unhurried"]
