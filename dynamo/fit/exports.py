"""A fit's map in the forms that other programs read: tables, AnnData, safetensors."""

import json
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.numpy import save

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.files import write_bytes
from dynamo.fit.distances import DEFAULT, Distances
from dynamo.fit.fidelity import FIDELITY_COLUMNS, Fidelity
from dynamo.fit.fit import Fit
from dynamo.lazy import above
from dynamo.system.tables import Table, columns_of, frame, numbered

if TYPE_CHECKING:
    from anndata import AnnData


def fit_table(fit: Fit, distance: str | None = None, fidelity: Fidelity | None = None) -> Table:
    """The models of a fit with all that is known of each; see :meth:`dynamo.Fit.table`."""
    known, apart = _known(fit, fidelity), _distances(fit, distance)
    size = fit.theta.shape[1]
    numbers = [*numbered("theta", size), *numbered("pc" if apart.kind == "theta" else apart.kind, size)]
    figures, rows = known
    keys = list(dict.fromkeys(key for table in fit.metadata for key in table))
    columns = ["name", *columns_of(keys, ["name", *figures, *numbers]), *figures, *numbers]
    points = np.hstack([fit.theta.double().numpy(), apart.coordinates(size)]).tolist()
    return columns, [
        [name, *(table.get(key) for key in keys), *row, *own]
        for name, table, row, own in zip(fit.names, fit.metadata, rows, points, strict=True)
    ]


def to_anndata(fit: Fit, distance: str | None = None) -> "AnnData":
    """See :meth:`dynamo.Fit.to_anndata`."""
    try:
        from anndata import AnnData
    except ImportError as error:
        raise DynamoError(
            f"this needs anndata ({error}): pip install 'dynamo-embedding[anndata]' (or pip install anndata)"
        ) from None
    (figures, rows), apart = _known(fit, None), _distances(fit, distance)
    keys = list(dict.fromkeys(key for table in fit.metadata for key in table))
    cells = [[*(own.get(key) for key in keys), *row] for own, row in zip(fit.metadata, rows, strict=True)]
    known = frame(([*columns_of(keys, figures), *figures], cells))
    known.index = fit.names
    made = AnnData(X=fit.theta.numpy(), obs=known)
    made.var_names = numbered("theta", fit.theta.shape[1])
    made.obsm["X_map"] = apart.coordinates(fit.theta.shape[1])
    made.obsp["distances"] = apart.matrix
    made.uns["dynamo"] = {"distance": apart.kind}
    return made


def to_safetensors(fit: Fit, path: Path | str, distance: str | None = None) -> None:
    """See :meth:`dynamo.Fit.to_safetensors`."""
    apart, theta = _distances(fit, distance), fit.theta.numpy()
    tensors = {"theta": theta, "coordinates": np.ascontiguousarray(apart.coordinates(theta.shape[1]))}
    header = {
        "names": json.dumps(fit.names),
        "metadata": json.dumps([dict(table) for table in fit.metadata]),
        "distance": apart.kind,
    }
    write_bytes(Path(path), save(tensors, metadata=header))


def check_onnx() -> None:
    """Check that ONNX can be written.

    Raises:
        DynamoError: a package is missing.
    """
    for package in ("onnx", "onnxscript"):
        if find_spec(package) is None:
            raise DynamoError(
                f"ONNX needs {package}: pip install 'dynamo-embedding[export]' (or pip install onnx onnxscript)"
            )


def to_onnx(fit: Fit, path: Path | str, theta: torch.Tensor | Sequence[float] | str, head: str | None = None) -> None:
    """See :meth:`dynamo.Fit.to_onnx`."""
    write_bytes(Path(path), onnx_bytes(fit, theta, head))


def onnx_bytes(fit: Fit, theta: torch.Tensor | Sequence[float] | str, head: str | None = None) -> bytes:
    """What :func:`to_onnx` writes."""
    check_onnx()
    if fit.probes is None:
        raise DynamoError("this run has kept no inputs, which say how long a sequence is: fit again")
    inputs = fit.probes[:2]
    values = inputs.values.to("cpu")
    given = {"values": values, "mask": inputs.mask} if inputs.is_sequence else {"values": values}
    batch = {0: torch.export.Dim("batch")}
    model = fit.model_at(theta, head).cpu().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own parts
        program = torch.onnx.export(
            model,
            tuple(given.values()),
            dynamo=True,
            verbose=False,
            input_names=list(given),
            output_names=["outputs"],
            dynamic_shapes=dict.fromkeys(given, batch),
        )
    assert program is not None
    return program.model_proto.SerializeToString()  # type: ignore[no-any-return]


def _known(fit: Fit, fidelity: Fidelity | None) -> Table:
    """The fidelity of each model, without its name; no columns where it is not known.

    Raises:
        DynamoError: it lacks a model of the fit.
    """
    fidelity = fidelity or fit.fidelity
    if fidelity is None:
        return [], [[] for _ in fit.names]
    columns, rows = fidelity.table()
    known = {row[0]: row[1:] for row in rows}
    missing = [name for name in fit.names if name not in known]
    if missing:
        raise DynamoError(f"the fidelity of the base model {missing[0]!r} is missing: measure that of this fit")
    assert columns == list(FIDELITY_COLUMNS)
    return columns[1:], [known[name] for name in fit.names]


def _distances(fit: Fit, distance: str | None) -> Distances:
    """Those that the picture of the map is drawn from; of too many models an error says so."""
    apart: Distances | None = above("dynamo.report.coordinates:map_coordinates")(fit, distance).distances
    return fit.distances(distance or DEFAULT) if apart is None else apart
