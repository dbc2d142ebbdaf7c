"""How does a model read words? Equation 8: kicks by single words from a neutral fixed point (appendix B.4)."""

from collections.abc import Mapping, Sequence
from fnmatch import filter as matching

import attrs
import numpy as np
import torch
from torch import Tensor

from dynamo.contracts.errors import DynamoError
from dynamo.contracts.protocols import RecurrentModel
from dynamo.contracts.shown import brief
from dynamo.contracts.spaces import OutputSpace


@attrs.frozen
class WordLists:
    """Words by their valence. ``*`` matches any letters: ``positive*`` is every word with that start."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    neutral: tuple[str, ...]

    __repr__ = brief

    def within(self, tokens: Sequence[str]) -> "tuple[WordLists, tuple[str, ...]]":
        """The words that a vocabulary has, patterns being spelt out, and those that it lacks.

        Raises:
            DynamoError: one of the lists has no word in the vocabulary, or a word is in two lists.
        """
        if not tokens:
            raise DynamoError("word scores need a data set of tokens that says which words they are")
        lists, missing = [], []
        for field in attrs.fields(WordLists):
            asked = getattr(self, field.name)
            known = {word: matching(tokens, word) if "*" in word else [word] * (word in tokens) for word in asked}
            missing += [word for word in asked if not known[word]]
            lists.append(tuple(dict.fromkeys(word for words in known.values() for word in words)))
            if not lists[-1]:
                raise DynamoError(
                    f"the vocabulary of {len(tokens)} words has none of the {field.name} words "
                    f"({', '.join(asked) or 'none given'}): give words of its own, such as {', '.join(tokens[-3:])}"
                )
        twice = sorted(set(lists[0]) & set(lists[1]) | set(lists[2]) & (set(lists[0]) | set(lists[1])))
        if twice:
            raise DynamoError(f"the word {twice[0]!r} is in two lists: keep it in one")
        return WordLists(*lists), tuple(missing)


def word_list(text: str) -> tuple[str, ...]:
    """The words of a text, separated by spaces or commas.

    Args:
        text: the words.

    Example:
        >>> word_list("good, bad it")
        ('good', 'bad', 'it')
    """
    return tuple(text.replace(",", " ").split())


#: Table 3 of the paper.
TABLE_3 = WordLists(
    word_list(
        "good awesome terrific exciting fantastic amazing fine superior outstanding superb magnificent marvelous "
        "exceptional tremendous"
    ),
    word_list("bad awful horrible terrible poor inferior unacceptable shoddy atrocious crap rubbish garbage"),
    word_list("it the is a if then are were can will has had been was when who to what"),
)


@attrs.frozen(eq=False)
class WordScore:
    """Equation 8 for one model.

    Attributes:
        score: the sum of the readouts after positive words, less that after negative words, less that of their sizes
            after neutral words.
        readouts: the readout G(F(x, h*)) after each word.
        rest: the readout at h*, which should be near 0.
        separation: the fraction of pairs of a positive and a negative word in which the positive one reads higher;
            unlike the score it does not grow with the size of the readout.
        point: h*, ``[H]``.
        speed: q = ½‖F(0, h*) − h*‖², 0 for a fixed point.
    """

    score: float
    readouts: Mapping[str, float]
    rest: float
    separation: float
    point: tuple[float, ...]
    speed: float

    __repr__ = brief


def valence(outputs: Tensor, space: OutputSpace, positive: int = -1) -> Tensor:
    """One number for outputs ``[..., K]``: the log-odds of the positive class, for two classes the difference of their
    logits; of real outputs the one with that index.

    Args:
        outputs: the outputs.
        space: their space.
        positive: the index of the class (or output) that positive words speak for; −1 is the last.

    Raises:
        DynamoError: there is no such class.
    """
    if not -space.size <= positive < space.size:
        raise DynamoError(f"there is no class {positive}: the outputs are {space}, numbered from 0")
    if space.kind == "real":
        return outputs[..., positive]
    if space.size < 2:
        raise DynamoError(f"a valence needs two classes or more: the outputs are {space}")
    index = positive % space.size
    others = torch.cat([outputs[..., :index], outputs[..., index + 1 :]], -1)
    return outputs[..., index] - others.logsumexp(-1)


@torch.no_grad()
def word_score(
    model: RecurrentModel, states: Tensor, tokens: Sequence[str], *, lists: WordLists = TABLE_3, positive: int = -1
) -> WordScore:
    """Equation 8 at h*, the state with the most neutral readout.

    Args:
        model: a base model, or the meta-model at some θ.
        states: its fixed (and slow) points ``[P, H]``; h* is the one whose :func:`valence` is nearest to 0.
        tokens: the vocabulary.
        lists: words by valence; those that the vocabulary lacks are left out.
        positive: see :func:`valence`.

    Raises:
        DynamoError: no points, readouts that are not finite, or what :meth:`WordLists.within` and :func:`valence`
            raise.

    Example:
        The words must be in the vocabulary:

        >>> word_score(fit.model_at(fit.theta[0]), torch.zeros(1, 8), ["yes", "no"])
        Traceback (most recent call last):
            ...
        dynamo.contracts.errors.DynamoError: the vocabulary of 2 words has none of the positive words ...
    """
    if len(states) == 0:
        raise DynamoError("there is no fixed or slow point to start from: search from more states")
    known, _ = lists.within(tokens)
    words = (*known.positive, *known.negative, *known.neutral)
    ids = {token: index for index, token in enumerate(tokens)}
    like = model.initial_state(1)
    states = states.to(like)
    rest = valence(model.readout(states), model.outputs, positive)
    neutral = int(rest.abs().argmin())
    x = model.encode(torch.tensor([[ids[word]] for word in words], device=like.device))[:, 0]
    kicked = valence(model.readout(model.step(x, states[neutral].expand(len(x), -1))), model.outputs, positive)
    if not bool(kicked.isfinite().all()):
        raise DynamoError(f"the readout after {words[int((~kicked.isfinite()).nonzero()[0, 0])]!r} is NaN or infinite")
    ends = np.cumsum([len(known.positive), len(known.negative)]).tolist()
    up, down, flat = kicked.cpu().double().tensor_split(ends)
    moved = model.step(torch.zeros_like(x[:1]), states[neutral][None])[0] - states[neutral]
    above = (up[:, None] > down).double() + (up[:, None] == down).double() / 2
    return WordScore(
        score=float(up.sum() - down.sum() - flat.abs().sum()),
        readouts=dict(zip(words, kicked.tolist(), strict=True)),
        rest=float(rest[neutral]),
        separation=float(above.mean()),
        point=tuple(states[neutral].tolist()),
        speed=0.5 * float(moved.cpu().double().square().sum()),
    )
