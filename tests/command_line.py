"""The command line, run in the process of a test."""

from dynamo.cli import main


def dynamo(*arguments):
    """Run a command in this process; its exit status."""
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code
    return 0
