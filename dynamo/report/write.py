"""A report on a run, as a file."""

from collections.abc import Sequence
from pathlib import Path

from dynamo.contracts.errors import DynamoError, did_you_mean
from dynamo.contracts.files import refuse_links, write_bytes
from dynamo.report.content import content_of
from dynamo.report.html import html
from dynamo.report.markdown import markdown
from dynamo.report.pdf import pdf
from dynamo.system.progress import Stages, silent_stages

#: What a report can be: a page, a text with pictures beside it, or paper.
FORMATS = ("html", "md", "pdf")


def write_report(
    runs: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    *,
    form: str = "html",
    population: Path | str | None = None,
    colour_by: str | None = None,
    with_network: bool = True,
    progress: Stages = silent_stages,
) -> Path:
    """Write a report on a run.

    Args:
        runs: the run folder; several of them are fits to the same models, and say how stable the map is.
        out: the file; ``report.html`` in the first run folder where it is None, with the ending of the form.
        form: one of ``FORMATS``.
        population: the folder of the base models; the one that the run remembers where it is None.
        colour_by: the metadata that colours the map; one is chosen where it is None.
        with_network: whether a page carries the network and some of the run's inputs.
        progress: stages for what takes time.

    Returns:
        The file.

    Raises:
        DynamoError: an unknown form, what :func:`~dynamo.report.content.content_of` finds, or a file that cannot be
            written.

    Example:
        >>> from dynamo import Fit, write_report
        >>> fit = Fit.load("run")
        >>> write_report("run").name
        'report.html'
    """
    folders = [Path(runs)] if isinstance(runs, Path | str) else [Path(run) for run in runs]
    if form not in FORMATS:
        raise DynamoError(f"there is no report of the form {form!r}: {did_you_mean(form, FORMATS)}")
    path = Path(out) if out is not None else folders[0] / f"report.{form}"
    if out is None:
        refuse_links(folders[0], path)
    if path.is_dir():
        raise DynamoError(f"{path} is a folder: name the file that the report shall be")
    content = content_of(
        folders,
        population=None if population is None else Path(population),
        colour_by=colour_by,
        with_network=with_network,
        progress=progress,
    )
    if form == "html":
        write_bytes(path, html(content).encode())
    elif form == "pdf":
        write_bytes(path, pdf(content))
    else:
        folder = path.with_name(f"{path.stem}-pictures")
        text, pictures = markdown(content, folder.name)
        for name, picture in pictures.items():
            write_bytes(folder / name, picture)
        write_bytes(path, text.encode())
    return path
