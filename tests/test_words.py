"""Word scores (equation 8) on models whose readouts are known, and their correlation with accuracy."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from dynamo import DynamoError, InputSpace, OutputSpace
from dynamo.analysis.dynamics.word_map import shifted_correlation, shuffled_correlation
from dynamo.analysis.dynamics.words import TABLE_3, WordLists, valence, word_list, word_score
from dynamo.contracts.protocols import RecurrentModel
from dynamo.contracts.trajectory import Trajectory

TOKENS = ("<pad>", "<unk>", "good", "fine", "bad", "the", "a", "good1", "good2")
LISTS = WordLists(("good", "fine", "superb"), ("bad",), ("the", "a"))


class Reader(RecurrentModel):
    """h' = h / 2 + x with one number a word, and logits (−h, h)."""

    def __init__(self, classes=2):
        super().__init__()
        self.inputs, self.outputs = InputSpace("tokens", (len(TOKENS),)), OutputSpace("classes", classes)
        self.state_shapes = ((1,),)
        self.words = nn.Parameter(torch.tensor([0.0, 0, 3, 1, -2, 0.25, -0.5, 9, 9])[:, None], requires_grad=False)

    def encode(self, values):
        return self.words[values]

    def initial_state(self, batch):
        return torch.zeros(batch, 1)

    def step(self, x, h):
        return h / 2 + x

    def readout(self, h):
        return torch.cat([-h, h, *[h * 0 - 1e9] * (self.outputs.size - 2)], -1)

    def trajectory(self, inputs):
        h, states = self.initial_state(len(inputs)), []
        for x in self.encode(inputs.values).unbind(1):
            h = self.step(x, h)
            states.append(h)
        stacked = torch.stack(states, 1)
        return Trajectory((stacked,), self.readout(stacked), inputs.mask)


def test_equation_8_by_hand():
    found = word_score(Reader(), torch.tensor([[8.0], [0.2], [-1.0]]), TOKENS, lists=LISTS)
    # h* = 0.2. A word w leads to 0.1 + w, and the difference of logits is twice that.
    readouts = {"good": 6.2, "fine": 2.2, "bad": -3.8, "the": 0.7, "a": -0.8}
    assert found.readouts == pytest.approx(readouts, abs=1e-6)
    assert found.score == pytest.approx(6.2 + 2.2 + 3.8 - 0.7 - 0.8, abs=1e-6)
    assert found.rest == pytest.approx(0.4)
    assert found.separation == 1
    assert found.point == pytest.approx((0.2,))
    assert found.speed == pytest.approx(0.5 * 0.1**2)  # it moves to 0.1


def test_the_positive_class_gives_the_sign():
    states = torch.zeros(1, 1)
    first, last = (word_score(Reader(), states, TOKENS, lists=LISTS, positive=number) for number in (0, 1))
    neutral = 2 * (0.25 + 0.5)
    assert first.score + neutral == pytest.approx(-(last.score + neutral), abs=1e-6)
    assert (first.separation, last.separation) == (0, 1)
    assert word_score(Reader(), states, TOKENS, lists=LISTS).score == last.score


def test_a_valence_is_the_log_odds_of_the_positive_class():
    logits = torch.tensor([[1.0, 3.0, -0.5]])
    two = OutputSpace("classes", 2)
    assert valence(logits[:, :2], two).item() == pytest.approx(2.0)
    assert valence(logits[:, :2], two, 0).item() == pytest.approx(-2.0)
    share = logits.softmax(-1)[0, 1]
    assert valence(logits, OutputSpace("classes", 3), 1).item() == pytest.approx(float(torch.logit(share)), abs=1e-6)
    assert valence(logits, OutputSpace("real", 3), 2).item() == -0.5
    with pytest.raises(DynamoError, match="there is no class 2"):
        valence(logits[:, :2], two, 2)
    with pytest.raises(DynamoError, match="two classes or more"):
        valence(logits[:, :1], OutputSpace("classes", 1))


def test_words_that_the_vocabulary_lacks_are_named():
    known, missing = LISTS.within(TOKENS)
    assert known == WordLists(("good", "fine"), ("bad",), ("the", "a"))
    assert missing == ("superb",)
    known, missing = WordLists(("good*",), ("bad*", "worse*"), ("the",)).within(TOKENS)
    assert known.positive == ("good", "good1", "good2")
    assert missing == ("worse*",)


def test_table_3():
    assert [len(words) for words in (TABLE_3.positive, TABLE_3.negative, TABLE_3.neutral)] == [14, 12, 18]
    assert word_list("good, bad,ugly  it") == ("good", "bad", "ugly", "it")


@pytest.mark.parametrize(
    ("lists", "tokens", "message"),
    [
        (LISTS, (), "data set of tokens"),
        (WordLists(("superb",), ("bad",), ("the",)), TOKENS, r"none of the positive words \(superb\)"),
        (WordLists(("good",), (), ("the",)), TOKENS, r"none of the negative words \(none given\)"),
        (WordLists(("good",), ("bad",), ("it",)), TOKENS, "none of the neutral words"),
        (WordLists(("good",), ("bad",), ("good*",)), TOKENS, "'good' is in two lists"),
    ],
)
def test_lists_that_do_not_fit_are_refused(lists, tokens, message):
    with pytest.raises(DynamoError, match=message):
        lists.within(tokens)


def test_without_points_there_is_no_score():
    with pytest.raises(DynamoError, match="no fixed or slow point"):
        word_score(Reader(), torch.zeros(0, 1), TOKENS, lists=LISTS)


def test_a_correlation_is_spearmans_and_its_p_value_is_small_only_where_there_is_one():
    rng = np.random.default_rng(0)
    one = rng.normal(size=12)
    other = one + 0.2 * rng.normal(size=12)
    noise = rng.normal(size=12)
    found = shuffled_correlation(one, other, permutations=999)
    assert found.rho == pytest.approx(spearmanr(one, other).statistic)
    assert found.p == 1 / 1000
    assert shuffled_correlation(one, noise, permutations=999).p == pytest.approx(spearmanr(one, noise).pvalue, abs=0.05)
    assert shuffled_correlation(one, -other, permutations=999).rho == pytest.approx(-found.rho)
    hole = np.where(np.arange(12) == 3, np.nan, one)
    assert shuffled_correlation(hole, other, permutations=99).count == 11
    assert np.isnan(shuffled_correlation(one[:2], other[:2]).rho)
    with pytest.raises(DynamoError, match="no pairs"):
        shuffled_correlation(one, other[:5])


def test_smooth_fields_are_not_taken_for_related():
    """Two slow waves at right angles, with a phase that makes them correlate a little: many shifts do as well."""
    x, y = np.meshgrid(*[np.linspace(0, 2 * np.pi, 9, endpoint=False)] * 2, indexing="ij")
    one, other = np.sin(x), np.sin(x + 1.2) + 0.3 * np.sin(y)
    smooth, shuffled = (
        shifted_correlation(one, other),
        shuffled_correlation(one.ravel(), other.ravel(), permutations=999),
    )
    assert smooth.rho == pytest.approx(shuffled.rho)
    assert shuffled.p < 0.01
    assert smooth.p > 0.2
    assert shifted_correlation(one + 0.01 * y, one + 0.01 * y).p == pytest.approx(1 / 81)
    with pytest.raises(DynamoError, match="not on one grid"):
        shifted_correlation(one, other[:4])
