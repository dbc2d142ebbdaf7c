"""Maps whose fixed points, spectra and attractors are known exactly, as recurrent models."""

import torch
from torch import nn

from dynamo import InputSpace, OutputSpace, RecurrentModel
from dynamo.contracts.trajectory import Inputs, Trajectory


def scattered(count, size, scale=1.0, seed=0):
    """Normal numbers ``[count, size]``, in double precision."""
    return scale * torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Iterated(RecurrentModel):
    """A user's own cell: h' = F(x, h) of ``size`` units, which reads itself out. Subclasses say what F is."""

    def __init__(self, size: int, features: int = 2) -> None:
        super().__init__()
        self.inputs, self.outputs = InputSpace("real", (features,)), OutputSpace("real", size, "every")
        self.state_shapes = ((size,),)
        self.gain = nn.Parameter(torch.ones(()))  # so that the model has a device, a precision and weights to disturb

    def encode(self, values):
        return values

    def initial_state(self, batch):
        return self.gain.new_zeros(batch, self.state_shapes[0][0])

    def readout(self, h):
        return self.gain * h

    def trajectory(self, inputs: Inputs) -> Trajectory:
        h, states = self.initial_state(len(inputs)), []
        for x in inputs.values.unbind(1):
            h = self.step(x, h)
            states.append(h)
        return Trajectory((torch.stack(states, 1),), self.readout(torch.stack(states, 1)), inputs.mask)


class Linear(Iterated):
    """h' = A h + B x + b. One fixed point; the eigenvalues are those of A."""

    def __init__(self, matrix, inputs, offset) -> None:
        super().__init__(len(matrix), inputs.shape[1])
        self.matrix, self.input_matrix, self.offset = nn.Parameter(matrix), nn.Parameter(inputs), nn.Parameter(offset)

    def step(self, x, h):
        return h @ self.matrix.T + x @ self.input_matrix.T + self.offset

    def fixed_point(self, x):
        matrix = self.matrix.detach().double()
        constant = self.input_matrix.detach().double() @ x.double() + self.offset.detach().double()
        return torch.linalg.solve(torch.eye(len(matrix), dtype=torch.float64) - matrix, constant)


class Circulant(Iterated):
    """h' = tanh(W h + x·1) with W circulant: a ring of units with the same weights seen from each of them.

    Without input, h = c·1 with c = tanh(s c) is fixed, s being the sum of the weights; there the eigenvalues are (1 −
    c²) times the discrete Fourier transform of the weights.
    """

    def __init__(self, weights) -> None:
        super().__init__(len(weights), 1)
        rows = [weights.roll(shift) for shift in range(len(weights))]
        self.weights = nn.Parameter(torch.stack(rows))

    def step(self, x, h):
        return torch.tanh(h @ self.weights.T + x)

    def spectrum(self, level):
        return (1 - level**2) * torch.fft.fft(self.weights[0].detach().double())


class Cube(Iterated):
    """h' = tanh(g h) in each unit alone, g > 1: fixed points at all of {−m, 0, m}^n, and their Jacobians diagonal.

    With g = artanh(m) / m the point m is exact.
    """

    def __init__(self, size: int, level: float = 0.9) -> None:
        super().__init__(size)
        self.level = level
        self.slope = nn.Parameter(torch.atanh(torch.tensor(level, dtype=torch.float64)) / level)

    def step(self, x, h):
        return torch.tanh(self.slope.to(h.dtype) * h)

    def points(self):
        level = self.level
        values = torch.tensor([-level, 0.0, level], dtype=torch.float64)
        return torch.cartesian_prod(*[values] * self.state_shapes[0][0])

    def index(self, points):
        """The unstable directions of each point: one for every unit at 0."""
        return (points.abs() < self.level / 2).sum(1)


class Rolled(Iterated):
    """h' = tanh(h W), row i of W being −v rolled i places to the left, v from −1 to 1 in equal steps: the problems that
    M. Golub's fixed-point-finder is tested on, with 3 fixed points for 2 and 3 units and 9 for 4.

    The points were derived again, by solving the equations in double precision from 20,000 starts; each −h is one too.
    """

    POINTS = (
        ((0.957504024077, -0.957504024077),),
        ((0.949795711, -0.425502295, -0.879894003),),
        (
            (0.962891907, 0.525235231, -0.962891907, -0.525235231),
            (0.877263142, -0.569696163, 0.339744996, -0.789647671),
            (0.775516314, -0.775516314, 0.775516314, -0.775516314),
            (0.339744996, -0.789647671, 0.877263142, -0.569696163),
        ),
    )

    def __init__(self, size: int) -> None:
        super().__init__(size, 1)
        values = torch.linspace(-1, 1, size, dtype=torch.float64)
        self.weights = nn.Parameter(torch.stack([-values.roll(-row) for row in range(size)]))

    def step(self, x, h):
        return torch.tanh(h @ self.weights.to(h.dtype))

    def points(self):
        half = torch.tensor(self.POINTS[self.state_shapes[0][0] - 2], dtype=torch.float64)
        return torch.cat([half, torch.zeros_like(half[:1]), -half])


def rotation(size: int, seed: int = 0):
    return torch.linalg.qr(scattered(size, size, seed=seed))[0]


class Segment(Iterated):
    """A line attractor of length 2L along a direction u: s = u·h stays for |s| ≤ L and is drawn back to L beyond; all
    else fades by the factor ``fading``.
    """

    def __init__(self, size: int = 6, half_length: float = 2.0, fading: float = 0.5) -> None:
        super().__init__(size)
        self.half_length, self.fading = half_length, fading
        self.register_buffer("direction", rotation(size)[0])

    def step(self, x, h):
        along = (h @ self.direction.to(h.dtype))[:, None]
        beyond = along - along.clamp(-self.half_length, self.half_length)
        return self.fading * h + ((1 - self.fading) * along - 0.5 * beyond) * self.direction.to(h.dtype)


class Ring(Iterated):
    """In a plane h' = h + a h (1 − |h|²): a ring of fixed points of radius 1, on it the eigenvalues 1 and 1 − 2a, and
    an unstable point in its middle with 1 + a twice. All other directions fade.
    """

    def __init__(self, size: int = 5, rate: float = 0.3) -> None:
        super().__init__(size)
        self.rate = rate
        self.register_buffer("frame", rotation(size, 1))

    def step(self, x, h):
        frame = self.frame.to(h.dtype)
        own = h @ frame.T
        plane, rest = own[:, :2], own[:, 2:]
        plane = plane + self.rate * plane * (1 - plane.square().sum(1, keepdim=True))
        return torch.cat([plane, 0.2 * rest], 1) @ frame


class Saddle(Iterated):
    """h₁' = h₁ + a (h₁ − h₁³), the rest fades, in rotated coordinates: stable points at ±1 and a saddle at 0."""

    def __init__(self, size: int = 4, rate: float = 0.4) -> None:
        super().__init__(size)
        self.rate = rate
        self.register_buffer("frame", rotation(size, 2))

    def step(self, x, h):
        frame = self.frame.to(h.dtype)
        own = h @ frame.T
        first = own[:, :1] + self.rate * (own[:, :1] - own[:, :1] ** 3)
        return torch.cat([first, 0.3 * own[:, 1:]], 1) @ frame

    def points(self):
        return self.frame[0] * torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)


class Ghost(Iterated):
    """h₁' = h₁ + ε + h₁², the rest fades: no fixed point, and a slow one at 0 with q = ε²/2."""

    def __init__(self, size: int = 3, gap: float = 1e-4) -> None:
        super().__init__(size)
        self.gap = gap

    def step(self, x, h):
        return torch.cat([h[:, :1] + self.gap + h[:, :1] ** 2, 0.5 * h[:, 1:]], 1)


class Drift(Iterated):
    """h' = h + 1: no fixed point, no slow point, and I − J is zero everywhere."""

    def step(self, x, h):
        return h + 1


class Explosion(Iterated):
    """h' = exp(h²) + 1: no fixed point; it overflows at once for large h."""

    def step(self, x, h):
        return torch.exp(h**2) + 1
