"""The browser side and the command line."""
