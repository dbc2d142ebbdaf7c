"""``dynamo doctor``: what of this installation works?"""

from pathlib import Path

import click

from dynamo.commands._shared import show


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
def command(folder: Path) -> None:
    """Look at versions, devices, threads, plugins, data sets and the room on the disk of FOLDER (by default, this one).

    The exit status is 1 where something is broken; what is optional and missing is a note.
    """
    from dynamo.report.health import examine, findings_table

    findings = examine(folder)
    show(findings_table(findings), "findings", most=None)
    broken = [f"{finding.part} {finding.name}" for finding in findings if finding.state == "broken"]
    click.echo(f"broken: {', '.join(broken)}" if broken else "nothing is broken")
    if broken:
        raise click.exceptions.Exit(1)
