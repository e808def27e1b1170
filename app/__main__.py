"""`python -m app` is `nullscope`."""

from app.cli import main

main()
