"""What a report says and carries, in whatever form it is written; tests/test_report_page.py opens it in a browser."""

import json
import re
from itertools import combinations

import attrs
import numpy as np
import pytest
import torch

from command_line import dynamo
from dynamo import Dataset, DynamoError, Fit, FitOptions, Inputs, Population, Trainer, measure_fidelity, write_report
from dynamo.analysis.networks.consensus import consensus
from dynamo.fit.distances import NoiseFloor
from dynamo.fit.fidelity import write_fidelity
from dynamo.population.recording import run as run_model
from dynamo.registry import make
from dynamo.report.answers import QUESTIONS, answers, read_table
from dynamo.report.content import content_of
from dynamo.report.html import html
from dynamo.report.image_network import run_image, work_of
from dynamo.report.markup import element
from dynamo.report.network import ROOM, TOLERANCE, Network, network_of, run
from problems import fitted, plane
from reports import DIGITS, IMAGES, SENTENCES, save_run


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    return save_run(root, DIGITS), root / "run"


def data_of(page):
    """What the programs of a page read."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


# The network. ---------------------------------------------------------------------------------------------------------


def test_the_network_of_a_page_of_images_is_that_of_the_fit(tmp_path):
    fit = save_run(tmp_path, IMAGES)
    with torch.no_grad():  # statistics and scales that are not those of a new network
        for name, tensor in fit.emulator.meta_model.state_dict().items():
            if "bn" in name and tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape))
    network = network_of(fit)
    assert network.error <= TOLERANCE
    images = make("dataset", IMAGES, Dataset).test.inputs[: len(fit.names)]
    for row, name in enumerate(fit.names):
        found = run_image(
            network.weights, network.table["blocks"], fit.theta[row].double().numpy(), images.values[row].numpy()
        )
        wanted = fit.model_at(name).trajectory(images[row : row + 1]).outputs[0].detach().softmax(-1)
        torch.testing.assert_close(torch.from_numpy(found).softmax(-1).float(), wanted, atol=1e-3, rtol=0)
    assert work_of(network.weights, network.table) < 1e7


@pytest.mark.parametrize("spec", [SENTENCES, DIGITS], ids=lambda spec: spec.name)
def test_the_network_of_a_page_is_that_of_the_fit(spec, tmp_path):
    fit = save_run(tmp_path, spec)
    data = make("dataset", spec, Dataset)
    network = network_of(fit, data.tokens)
    assert network.bits == 16
    assert network.error <= TOLERANCE
    inputs = data.test.inputs
    for row, name in enumerate(fit.names):
        steps, theta = inputs.values[row][inputs.mask[row]], fit.theta[row].double().numpy()
        wanted = fit.model_at(name).trajectory(Inputs(steps[None], torch.ones(1, len(steps), dtype=torch.bool)))
        found = torch.from_numpy(run(network.weights, theta, steps.numpy()))
        torch.testing.assert_close(found.softmax(-1).float(), wanted.outputs[0].detach().softmax(-1), atol=1e-3, rtol=0)
    sizes = sum(p.numel() for part in (fit.emulator.meta_model, fit.emulator.heads) for p in part.parameters())
    assert network.size == 2 * sizes


def test_weights_that_half_precision_spoils_are_single():
    fit, _ = fitted()
    with torch.no_grad():
        fit.emulator.heads[0].map.weight.add_(300)  # the same for each class: no probability changes
    network = network_of(fit)
    assert network.bits == 32
    assert network.error <= TOLERANCE
    assert network.content()["bits"] == 32


def test_words_are_left_out_where_there_is_no_room_and_the_rest_is_right(tmp_path, monkeypatch):
    fit = save_run(tmp_path, SENTENCES)
    words = make("dataset", SENTENCES, Dataset).tokens
    whole = network_of(fit, words)
    monkeypatch.setattr("dynamo.report.network.ROOM", whole.size - 95)
    part = network_of(fit, words)
    assert part.left_out == 10  # of 5 numbers of 2 bytes each
    assert list(part.words) == list(words[:-10])
    assert part.size <= whole.size - 95
    assert all(set(example.split()) <= set(part.words) for example in part.examples)
    page = write_report(tmp_path / "run", tmp_path / "page.html").read_text()
    assert "10 words, those with the highest ids, were left out" in page
    monkeypatch.setattr("dynamo.report.network.ROOM", 100)
    assert "100 are the most" in network_of(fit, words)
    assert ROOM < 5e6 * 3 / 4


@pytest.mark.parametrize(("meta_model", "head"), [("mingru:hidden_size=8", "linear"), ("gru:hidden_size=8", "mlp")])
def test_a_network_that_a_page_cannot_run_is_not_there_and_the_page_says_so(meta_model, head, tmp_path):
    fit = save_run(tmp_path, DIGITS, count=3, meta_model=meta_model, head=head)
    told = network_of(fit)
    assert isinstance(told, str)
    assert f"this fit has {meta_model.split(':')[0]} with {head}" in told
    page = write_report(tmp_path / "run").read_text()
    assert data_of(page)["network"] is None
    assert "The network is not in this page" in page


def test_another_network_under_the_same_name_is_noticed():
    fit, _ = plane(3)
    assert "not those of a plain GRU" in network_of(fit)
    fit, _ = fitted()
    meta_model = fit.emulator.meta_model
    states = type(meta_model).states
    other = type(
        "Other", (type(meta_model),), {"states": lambda self, *given: tuple(2 * s for s in states(self, *given))}
    )
    meta_model.__class__ = other
    assert "differs from the fit's own emulator" in network_of(fit)


def test_a_page_without_network_has_neither_weights_nor_inputs(digits):
    fit, folder = digits
    page = write_report(folder, with_network=False).read_text()
    assert data_of(page)["network"] is None
    assert "weight_hh&quot;" not in page
    with_it = data_of(write_report(folder).read_text())["network"]
    assert len(with_it["examples"]) == 12
    assert with_it["paint"] is True
    assert fit.probes is not None


# What it says. --------------------------------------------------------------------------------------------------------


def test_the_models_of_a_page_are_those_of_the_fit(digits):
    fit, folder = digits
    models = data_of(write_report(folder).read_text())["models"]
    assert models["names"] == fit.names
    np.testing.assert_array_equal(np.array(models["theta"], dtype=np.float32), fit.theta.numpy())
    assert {own["key"]: own["values"] for own in models["metadata"]}["note"] == fit.values_of("note")
    places = np.array(models["places"])
    apart = np.linalg.norm(places[:, None] - places, axis=2)
    assert np.corrcoef(apart.ravel(), fit.distances().matrix.ravel())[0, 1] > 0.7
    assert models["lines"] == [[0, 2, 4, 6], [1, 3, 5, 7]]  # the epochs of each group


def test_base_models_agree_as_their_decisions_do(digits):
    _, folder = digits
    models = Population.load(folder.parent / "population")
    test = models.dataset(models[0]).test.inputs[:512]
    decisions = [run_model(base.model, test).outputs[:, -1].argmax(-1) for base in models]
    wanted = [float((one == other).double().mean()) for one, other in combinations(decisions, 2)]
    np.testing.assert_allclose(np.sort(consensus(models)), np.sort(wanted))
    assert len(consensus(models, models=3)) == 3
    shown = next(section for section in content_of([folder]).sections if section.name == "fidelity")
    assert f"{np.median(wanted):.3f}" in " ".join(shown.told)


def test_a_run_without_its_population_or_fidelity_has_a_report_that_says_so(tmp_path):
    fit, _ = fitted(4)
    fit.save(tmp_path)
    page = write_report(tmp_path).read_text()
    assert "was not measured" in page
    assert [own["key"] for own in data_of(page)["models"]["fidelity"]] == []


def test_old_runs_without_probes_are_drawn_by_theta(tmp_path):
    fit, _ = fitted(4)
    attrs.evolve(fit, probes=None).save(tmp_path)
    page = write_report(tmp_path).read_text()
    assert "The map is drawn by θ" in page
    assert data_of(page)["network"]["examples"] == []


def test_recorded_systems_without_answers(tmp_path):
    states = np.random.default_rng(0).normal(size=(4, 6, 8, 2)).cumsum(-2)
    models = Population.from_recordings(states)
    options = FitOptions(meta_model="gru:hidden_size=6", theta_dim=3, models_per_step=None, batch_size=12, steps=3)
    trainer = Trainer(models, options)
    trainer.run()
    fit = Fit.of(trainer)
    fit.save(tmp_path)
    write_fidelity(measure_fidelity(fit, models), tmp_path)
    page = write_report(tmp_path).read_text()
    assert "give no answers" in page
    assert "nothing but their states" in page
    assert [own["key"] for own in data_of(page)["models"]["fidelity"]] == ["hidden R²"]
    for form in ("md", "pdf"):
        assert write_report(tmp_path, form=form).exists()


@pytest.mark.parametrize("count", [1, 2])
def test_the_report_on_one_model_or_two(count, tmp_path):
    fitted(count)[0].save(tmp_path)
    for form in ("html", "md", "pdf"):
        assert write_report(tmp_path, form=form).exists()


def test_the_noise_floor_is_on_the_map(tmp_path):
    fit = save_run(tmp_path, DIGITS, count=4)
    folder = tmp_path / "run"
    assert data_of(write_report(folder).read_text())["models"]["floor"] is None
    (folder / "distances").mkdir()
    noise = NoiseFloor("combined", ["net-0", "net-1"], [0.25, 0.75], 2.0)
    noise.write(folder / "distances")
    page = write_report(folder).read_text()
    assert data_of(page)["models"]["floor"] == pytest.approx(0.25 * fit.distances().typical)
    assert "The bar on the map is the noise floor" in page
    (folder / "distances" / "noise-combined.csv").write_text("a\nb\n")
    page = write_report(folder).read_text()
    assert data_of(page)["models"]["floor"] is None
    assert "The noise floor cannot be shown" in page


def test_several_runs_say_how_stable_the_map_is(digits, tmp_path):
    fit, folder = digits
    turned = attrs.evolve(fit)
    turned.save(tmp_path / "again")
    page = write_report([folder, tmp_path / "again"], tmp_path / "page.html").read_text()
    assert "2 fits; median distance between a model's places in two runs: 0.000" in page.replace("&#x27;", "'")
    with pytest.raises(DynamoError, match="name each once"):
        write_report([folder, folder])


# What analyses have left. ---------------------------------------------------------------------------------------------


def test_the_answers_of_a_run_are_in_its_report(tmp_path):
    save_run(tmp_path, DIGITS)
    folder = tmp_path / "run"
    assert answers(folder) == []
    assert dynamo("analyse", "clusters", folder, "--by", "group", "--draws", "19", "--permutations", "19") == 0
    assert dynamo("analyse", "fixed-points", folder, "--starts", "16", "--sequences", "16") == 0
    assert dynamo("analyse", "distances", folder) == 0
    found = {section.name: section for section in answers(folder)}
    assert list(found) == ["clusters", "distances", "fixed-points"]
    assert found["clusters"].picture.startswith(b"\x89PNG")
    assert found["clusters"].cautions
    assert dict(found["clusters"].tables)["agreement with the metadata"][1][0][0] == "ARI"
    points = [place for kind in found["fixed-points"].space["kinds"] for place in kind["places"]]
    assert np.array(points).shape[1] == 3
    page = write_report(folder).read_text()
    assert data_of(page)["spaces"][0]["kinds"][0]["places"]
    assert 'href="#fixed-points"' in page
    assert "The noise floor was not measured" in page


def test_every_question_has_a_part():
    from click import Context

    from dynamo.cli import cli

    group = cli.get_command(Context(cli), "analyse")
    assert set(group.list_commands(Context(group))) <= {question.folder for question in QUESTIONS}


def test_damaged_answers_are_named_and_the_rest_is_there(tmp_path):
    save_run(tmp_path, DIGITS, count=4)
    folder = tmp_path / "run"
    (folder / "clusters").mkdir()
    (folder / "clusters" / "agreement.csv").write_text("a,b\n1\n")
    (folder / "landscape").mkdir()
    (folder / "landscape" / "landscape.png").write_bytes(b"<svg onload=alert(1)>")
    (folder / "fixed-points").mkdir()
    (folder / "fixed-points" / "fixed-points.html").write_text("const content = {};\n")
    (tmp_path / "secret.csv").write_text("secret\n1\n")
    (folder / "words").mkdir()
    (folder / "words" / "words.csv").symlink_to(tmp_path / "secret.csv")
    found = {section.name: section.cautions[-1] for section in answers(folder)}
    assert "rows have different lengths" in found["clusters"]
    assert "no PNG picture" in found["landscape"]
    assert "no page of fixed points" in found["fixed-points"]
    assert "leaves its folder" in found["words"]
    page = write_report(folder).read_text()
    assert "onload" not in page
    assert "Something is missing here" in page


def test_numbers_of_a_table_are_numbers(tmp_path):
    (tmp_path / "table.csv").write_text("name,value,count\n'=1+1,0.25,3\n,nan,\n")
    assert read_table(tmp_path / "table.csv", tmp_path) == (
        ["name", "value", "count"],
        [["'=1+1", 0.25, "3"], ["", "nan", ""]],
    )


# Forms and files. -----------------------------------------------------------------------------------------------------


def test_a_report_in_markdown_and_on_paper(digits, tmp_path):
    fit, folder = digits
    text = write_report(folder, tmp_path / "r.md", form="md").read_text()
    for picture in re.findall(r"\]\((r-pictures/[^)]+)\)", text):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert all(name in text for name in fit.names)
    assert write_report(folder, tmp_path / "r.pdf", form="pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(DynamoError, match="did you mean 'pdf'"):
        write_report(folder, form="pfd")


def test_text_from_a_run_is_no_markup_in_markdown(tmp_path):
    fit, _ = fitted(3)
    mark = "<img src=x> [a](b) `c` **d** | e"
    attrs.evolve(fit, metadata=[{"note": mark} for _ in fit.names]).save(tmp_path)
    text = write_report(tmp_path, form="md").read_text()
    assert "<img" not in text.replace("\\<img", "")
    assert "[a](b)" not in text
    assert r"\| e" in text


def test_elements_escape_what_is_text():
    assert element("b", "<i>", element("i", "&"), title='"<') == '<b title="&quot;&lt;">&lt;i&gt;<i>&amp;</i></b>'


def test_the_same_run_gives_the_same_page(digits):
    _, folder = digits
    content = content_of([folder])
    assert isinstance(content.network, Network)
    assert html(content) == html(content_of([folder]))


def test_the_command(digits, tmp_path, capsys):
    _, folder = digits
    assert dynamo("report", folder, "--colour-by", "note", "-o", tmp_path / "a.html") == 0
    assert "a.html" in capsys.readouterr().out
    assert data_of((tmp_path / "a.html").read_text())["colour"] == "note"
    assert dynamo("report", folder, "--colour-by", "notes") == 2
    assert "did you mean 'note'" in capsys.readouterr().err
    assert dynamo("report", tmp_path / "none") == 2
    assert not (tmp_path / "none").exists()
    assert dynamo("report", folder, "-o", tmp_path) == 2
    assert dynamo("report", folder, "--population", tmp_path / "none") == 2
    assert dynamo("report", folder, "--format", "docx") == 2


def test_nothing_is_written_through_a_link(tmp_path):
    fitted(3)[0].save(tmp_path / "run")
    (tmp_path / "run" / "report.html").symlink_to(tmp_path / "elsewhere.html")
    with pytest.raises(DynamoError, match="is a link"):
        write_report(tmp_path / "run")
    assert not (tmp_path / "elsewhere.html").exists()
