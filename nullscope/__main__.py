"""`python -m nullscope` is `nullscope`."""

from app.cli import main

main()
