"""Arrays that the analyses are written in."""

import numpy as np
from numpy.typing import NDArray

#: Real numbers in double precision.
Floats = NDArray[np.float64]
#: Real numbers in single or double precision, as functions take them.
AnyFloats = NDArray[np.floating]
#: Whole numbers, such as the cluster of each model.
Integers = NDArray[np.int64]
#: Yes or no.
Booleans = NDArray[np.bool_]
