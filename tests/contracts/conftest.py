"""The same app as the tests of the application use."""

from tests.app.conftest import client, make_client, make_settings, model_folder, unhurried

__all__ = ["client", "make_client", "make_settings", "model_folder", "unhurried"]
