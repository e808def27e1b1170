"""Nullscope from Python: a typed client of a running server.

    from nullscope import Client

    client = Client("http://127.0.0.1:8000")
    client.effects("It was the best of times", limit=10).rows[0].d_entropy.total

Nothing here imports torch. `python -m nullscope` is the command `nullscope`.
"""

from nullscope.client import ApiError, Client, to_pandas

__all__ = ["ApiError", "Client", "to_pandas"]
