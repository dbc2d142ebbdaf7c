"""The checks of state maps and heads pass sound ones, and fail each mutant that breaks one contract."""

import pytest
import torch
from torch import nn

from dynamo import OutputSpace
from dynamo.testing import check_head, check_state_map
from sound import SoundHead, SoundMap, breaks


class NoMap(nn.Linear):
    def __init__(self):
        super().__init__(5, 3)


class WrongShape(SoundMap):
    def __init__(self):
        super().__init__()
        self.base_shape = (4,)


class WrongDtype(SoundMap):
    def forward(self, states):
        return self.map(states).double()


class Infinite(SoundMap):
    def forward(self, states):
        return self.map(states) / 0


class SinglePrecision(SoundMap):
    def forward(self, states):
        return self.map(states).float()


class AlwaysDropout(SoundMap):
    def forward(self, states):
        return nn.functional.dropout(self.map(states))


class Counter(SoundMap):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, states):
        self.calls += 1
        return self.map(states)


class WritesStates(SoundMap):
    def forward(self, states):
        mapped = self.map(states)
        states.data.fill_(0)
        return mapped


class DependsOnTime(SoundMap):
    def forward(self, states):
        return self.map(states) * torch.arange(1, states.shape[1] + 1)[:, None]


class CentersBatch(SoundMap):
    def forward(self, states):
        return self.map(states - states.mean((0, 1)))


class Detached(SoundMap):
    def forward(self, states):
        return self.map(states.detach())


class NoGradient(SoundMap):
    @torch.no_grad()
    def forward(self, states):
        return self.map(states)


class UnusedParameter(SoundMap):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2))


class KeptOutsideState(SoundMap):
    def __init__(self):
        super().__init__()
        self.kept = torch.randn(3)

    def forward(self, states):
        return self.map(states) + self.kept


class FirstForAll(SoundMap):
    @classmethod
    def map_together(cls, state_maps, states):
        return state_maps[0](states)


class DetachedTogether(SoundMap):
    @classmethod
    def map_together(cls, state_maps, states):
        return torch.stack([state_map(part).detach() for state_map, part in zip(state_maps, states, strict=True)])


MUTANTS = {
    NoMap: "contract: ",
    WrongShape: "shape: ",
    WrongDtype: "dtype: ",
    Infinite: "finite: ",
    SinglePrecision: "double precision: ",
    AlwaysDropout: "determinism: ",
    Counter: "purity: .*'calls'",
    WritesStates: "purity: a call changes the values",
    DependsOnTime: "position independence: ",
    CentersBatch: "position independence: ",
    Detached: "gradient: none reaches the values",
    NoGradient: "gradient: none reaches the values",
    UnusedParameter: "gradient: none reaches the parameter 'unused'",
    KeptOutsideState: "state dict: ",
    FirstForAll: "map_together: maps run together",
    DetachedTogether: "map_together: a gradient is missing",
}


@pytest.mark.parametrize(("mutant", "broken"), MUTANTS.items(), ids=[mutant.__name__ for mutant in MUTANTS])
def test_check_state_map_fails_each_mutant(mutant, broken):
    with breaks(broken):
        check_state_map(mutant(), rebuild=mutant)


def test_a_sound_state_map_passes():
    check_state_map(SoundMap(), rebuild=SoundMap)


class WrongOutputs(SoundHead):
    def __init__(self):
        super().__init__()
        self.outputs = OutputSpace("classes", 2)


class SequencesOnly(SoundHead):
    def forward(self, features):
        return self.map(features) if features.ndim == 3 else self.map(features) + 1


class KeepsBatch(SoundHead):
    def forward(self, features):
        return self.map(features) if features.ndim == 3 else self.map(features)[None]


class MixesSteps(SoundHead):
    def forward(self, features):
        return self.map(features.cumsum(1))


HEAD_MUTANTS = {
    SoundMap: "contract: ",
    WrongOutputs: "shape: mapped values",
    SequencesOnly: "shape: features",
    KeepsBatch: "shape: features",
    MixesSteps: "position independence: ",
}


@pytest.mark.parametrize(("mutant", "broken"), HEAD_MUTANTS.items(), ids=[mutant.__name__ for mutant in HEAD_MUTANTS])
def test_check_head_fails_each_mutant(mutant, broken):
    with breaks(broken):
        check_head(mutant(), rebuild=mutant)


def test_a_sound_head_passes():
    check_head(SoundHead(), rebuild=SoundHead)
