"""The map as an estimator of scikit-learn: its own checks, and what it does with networks."""

import io
import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator

import problems
from dynamo import DynamoError, EmbedOptions, FitOptions, MapEstimator, Population, embed, fit_population
from dynamo.contracts import WrongTypeError

META = "gru:hidden_size=6,embedding_size=3"
DATA = problems.dataset(examples=4, steps=2)
EMBED = EmbedOptions(steps=2, map_steps=1, examples=4)


class Rows(MapEstimator):
    """The estimator for rows of numbers, as the checks have them: each row is a network with weights drawn by it."""

    def _population(self, X):
        rows = np.asarray(X, dtype=np.float32)
        seeds = [int.from_bytes(row.tobytes()[:64], "little") % 2**31 for row in rows.reshape(len(rows), -1)]
        return Population([problems.base_model(f"row-{n}", DATA, hidden=3, seed=seed) for n, seed in enumerate(seeds)])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


ARRAYS = "X holds networks; what a check of arrays finds is that of Rows, a class of this test"
#: The checks that do not apply, with the reason.
DO_NOT_APPLY = {
    "check_transformer_general": "transform embeds a network as a new one: near its fitted theta, not at it",
    "check_transformer_preserve_dtypes": "thetas are float32, whatever the networks are",
    "check_transformer_data_not_an_array": ARRAYS,
    "check_estimator_sparse_tag": ARRAYS,
    "check_estimator_sparse_array": ARRAYS,
    "check_estimator_sparse_matrix": ARRAYS,
    "check_array_api_input": ARRAYS,
    "check_positive_only_tag_during_fit": ARRAYS,
    "check_estimators_nan_inf": ARRAYS,
    "check_fit2d_1feature": ARRAYS,
    "check_fit2d_1sample": ARRAYS,
}

#: Those that fit many times.
SLOW = ("check_methods_subset_invariance", "check_fit_score_takes_y", "check_estimators_dtypes", "check_fit_idempotent")


def checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Rows(steps=1, theta_dim=2, meta_model=META, embed_options=EMBED)
        return [(check.func.__name__, made, check) for made, check in estimator_checks_generator(made)]


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(made, check, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name, made, check in checks()
        if name not in DO_NOT_APPLY
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_the_checks_that_do_not_apply_are_known():
    assert set(DO_NOT_APPLY) & {name for name, _, _ in checks()} >= {"check_transformer_general"}
    assert len(checks()) - sum(name in DO_NOT_APPLY for name, _, _ in checks()) >= 20


@pytest.fixture(scope="module")
def models():
    return problems.population(6)


@pytest.fixture(scope="module")
def fitted(models):
    return MapEstimator(theta_dim=3, steps=3, meta_model=META, embed_options=EMBED).fit(models[:4])


def test_it_is_fit_population_and_embed(models, fitted):
    from dynamo import measure_fidelity, preset

    fit = fit_population(models[:4], preset("laptop", theta_dim=3, steps=3, meta_model=META))
    assert np.array_equal(fitted.embedding_, fit.theta.numpy())
    assert fitted.names_ == fit.names
    assert fitted.fidelity_ == measure_fidelity(fit, models[:4])
    placed = embed(fit, models[4:], fitted.fidelity_, EMBED)
    assert np.array_equal(fitted.transform(models[4:]), placed.theta.numpy())
    again = clone(fitted)
    assert not hasattr(again, "embedding_")
    assert np.array_equal(again.fit_transform(models[:4]), fitted.embedding_)


def test_options_take_the_place_of_the_preset():
    own = FitOptions(theta_dim=5, steps=9)
    made = MapEstimator("no such preset", options=own, steps=7, random_state=3)
    options = made._fit_options()
    assert (options.theta_dim, options.steps, options.seed, options.meta_model) == (5, 7, 3, own.meta_model)
    with pytest.raises(DynamoError, match="no preset is called 'no such preset'"):
        MapEstimator("no such preset").fit(problems.population(2))
    assert made.get_params()["options"] is own
    assert made.set_params(theta_dim=2)._fit_options().theta_dim == 2


def test_networks_in_every_form(models, fitted):
    networks = [base.model for base in models[:4]]
    settings = {**fitted.get_params(), "data": models.dataset(models[0])}
    by_list, by_name = MapEstimator(**settings).fit(networks), MapEstimator(**settings)
    assert by_list.names_ == ["model-0", "model-1", "model-2", "model-3"]
    by_name.fit(dict(zip(models.names, networks, strict=False)))
    assert by_name.names_ == models.names[:4]
    for made in (by_list, by_name, clone(fitted).fit(list(models[:4]))):
        assert np.array_equal(made.embedding_, fitted.embedding_)


@pytest.mark.parametrize("X", [np.zeros((3, 2)), "abc", 5, {"a": 1}, [1, 2]], ids=repr)
def test_what_is_no_network(X):
    with pytest.raises(WrongTypeError, match="the samples of this estimator are networks"):
        MapEstimator(data=DATA).fit(X)


def test_networks_without_data(models):
    with pytest.raises(WrongTypeError, match="give MapEstimator"):
        MapEstimator().fit([models[0].model])


def test_nothing_is_transformed_before_there_is_a_map(models):
    with pytest.raises(NotFittedError):
        MapEstimator().transform(models)
    with pytest.raises(NotFittedError):
        MapEstimator().get_feature_names_out()


def test_pickled_it_holds_bytes_and_does_the_same(models, fitted):
    content = pickle.dumps(fitted)
    again = pickle.loads(content)
    assert np.array_equal(again.embedding_, fitted.embedding_)
    assert np.array_equal(again.transform(models[4:]), fitted.transform(models[4:]))
    assert again.fidelity_ == fitted.fidelity_
    assert again.get_params() == fitted.get_params()
    used = set()

    class Reader(pickle.Unpickler):
        def find_class(self, module, name):
            used.add(f"{module}.{name}")
            return super().find_class(module, name)

    Reader(io.BytesIO(content)).load()
    assert not [name for name in used if name.startswith(("torch", "dynamo.training.emulator", "builtins"))], used


def test_a_pickle_with_damaged_weights_is_refused(fitted):
    state = fitted.__getstate__()
    state["fit_"]["fit.safetensors"] = state["fit_"]["fit.safetensors"][:-1]
    with pytest.raises(DynamoError):
        MapEstimator().__setstate__(state)


def test_in_a_pipeline_and_a_search(models):
    kinds = [n % 2 for n in range(6)]
    made = MapEstimator(theta_dim=2, steps=2, meta_model=META, embed_options=EMBED)
    pipeline = make_pipeline(made, KNeighborsClassifier(1)).fit(models, kinds)
    alone = KNeighborsClassifier(1).fit(clone(made).fit_transform(models), kinds)
    assert pipeline.predict(models[2:]).tolist() == alone.predict(pipeline[0].transform(models[2:])).tolist()
    bases = list(models)
    search = GridSearchCV(pipeline, {"mapestimator__theta_dim": [1, 2]}, cv=2, error_score="raise").fit(bases, kinds)
    assert search.best_estimator_[0].embedding_.shape == (6, search.best_params_["mapestimator__theta_dim"])
    folds = cross_val_score(search.best_estimator_, bases, kinds, cv=2)
    assert folds.mean() == pytest.approx(search.best_score_)


def test_set_output(models, fitted):
    pandas = pytest.importorskip("pandas")
    made = clone(fitted).set_output(transform="pandas").fit(models[:4])
    table = made.transform(models[4:])
    assert isinstance(table, pandas.DataFrame)
    assert table.columns.tolist() == made.get_feature_names_out().tolist() == ["theta_1", "theta_2", "theta_3"]
