"""`python -m app.cli` is `ttrl-studio`."""

from app.cli.commands import main

main()
