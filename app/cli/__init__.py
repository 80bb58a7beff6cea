"""The command line `ttrl-studio`."""

from app.cli.commands import main

__all__ = ["main"]
