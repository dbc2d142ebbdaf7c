"""The explorer answers what Python answers, and no request, however hostile, ends it."""

import http.client
import json
import socket
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load

pytest.importorskip("starlette", reason="the package starlette is not installed")
pytest.importorskip("uvicorn", reason="the package uvicorn is not installed")

from dynamo import DynamoError, Fit
from dynamo.analysis.networks.evaluate import scores_at
from dynamo.analysis.networks.few_labels import few_labels
from dynamo.cli import cli
from dynamo.contracts.trajectory import as_inputs
from dynamo.fit import exports
from dynamo.report.answer import plain
from dynamo.report.coordinates import map_coordinates
from dynamo.serve import server
from dynamo.serve.guard import LARGEST
from dynamo.serve.points import POINTS
from reports import DIGITS, FLIP_FLOP, IMAGES, SENTENCES, save_run
from serving import serving


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    root = tmp_path_factory.mktemp("sentences")
    save_run(root, SENTENCES)
    return root


@pytest.fixture(scope="module")
def one_for_all(sentences):
    with serving(sentences / "run", uploads=sentences) as running:
        yield running


@pytest.fixture
def served(one_for_all, sentences):
    """A server without points and without work, which answers still when the test is over."""
    (sentences / "run" / POINTS).unlink(missing_ok=True)
    yield one_for_all
    one_for_all.app.jobs.close()
    assert one_for_all.ask("/api/answer", {"model": "net-0", "values": [3]})[0] == 200


@pytest.mark.parametrize("spec", [SENTENCES, DIGITS, FLIP_FLOP, IMAGES], ids=lambda spec: spec.name)
def test_answers_are_those_of_python(spec, tmp_path):
    fit = save_run(tmp_path, spec)
    probe = fit.probes.values[0][fit.probes.mask[0]] if fit.probes.is_sequence else fit.probes.values[0]
    between = ((fit.theta[1] + fit.theta[4]) / 2).tolist()
    with serving(tmp_path / "run") as running:
        for where in ({"model": fit.names[2]}, {"theta": between}):
            status, told = running.ask("/api/answer", {**where, "values": probe.tolist(), "beside": fit.names[5:7]})
            assert status == 200
            assert [row["name"] for row in told["rows"]] == ["here", *fit.names[5:7]]
            inputs = as_inputs(fit.emulator.blueprint.inputs, probe[None])
            for row, theta in zip(told["rows"], [*where.values(), *fit.names[5:7]], strict=True):
                wanted = fit.emulate(theta, inputs).outputs[0].numpy()
                np.testing.assert_allclose(row["outputs"], wanted, atol=1e-6, rtol=1e-6)


def test_the_path_is_that_of_the_states_along_fixed_axes(served):
    fit = served.explorer.fit
    values = [3, 5, 7, 9]
    states = {}
    for name in fit.names[:2]:
        _, told = served.ask("/api/answer", {"model": name, "values": values})
        theta = fit.theta[fit.names.index(name)]
        states[name] = fit.emulate(theta, torch.tensor([values])).states[0][0].double().numpy()
        mean, axes = served.explorer.axes
        np.testing.assert_allclose(told["rows"][0]["path"], (states[name] - mean) @ axes.T, atol=1e-4)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)


def test_scores_are_those_of_the_task(served):
    fit = served.explorer.fit
    population = fit.open_population()
    test = population.dataset(population[0]).test
    _, told = served.ask("/api/answer", {"model": fit.names[0], "values": [3], "beside": [fit.names[3]], "score": True})
    assert told["scored"] == f"accuracy on {len(test)} test examples"
    wanted = scores_at(fit, fit.theta[[0, 3]].numpy(), test)
    np.testing.assert_allclose([row["score"] for row in told["rows"]], wanted, atol=1e-9)


def test_without_the_base_models_there_is_no_score_and_answers_go_on(tmp_path):
    save_run(tmp_path, SENTENCES)
    (tmp_path / "population").rename(tmp_path / "elsewhere")
    with serving(tmp_path / "run") as running:
        status, told = running.ask("/api/answer", {"theta": [0.0] * 4, "values": [3], "score": True})
    assert status == 200
    assert told["scored"] == "no score: the base models are not at hand"
    assert "score" not in told["rows"][0]


def test_a_point_is_named_kept_exported_and_loaded(served, sentences):
    fit, theta = served.explorer.fit, [0.25, -0.5, 1.0, 2.0]
    status, _ = served.ask("/api/points", {"name": "half <way>", "theta": theta, "place": [0.1, 0.2]})
    assert status == 201
    again = served.ask("/api/points")[1]["points"]
    assert [(point["name"], point["theta"], point["place"]) for point in again] == [("half <way>", theta, [0.1, 0.2])]
    tensors = load(served.ask("/api/points/half%20%3Cway%3E/file")[1])
    lines = served.ask("/api/points/half%20%3Cway%3E/lines")[1]["lines"]
    (sentences / "half--way-.safetensors").write_bytes(served.ask("/api/points/half%20%3Cway%3E/file")[1])
    scope = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sentences)
        exec(lines, scope)
    ids = torch.tensor([[3, 5, 7]])
    wanted = fit.emulate(theta, ids).outputs[:, -1]
    torch.testing.assert_close(scope["model"](ids), wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(tensors["theta"], torch.tensor(theta))
    assert served.ask("/api/points/half%20%3Cway%3E", method="DELETE")[0] == 200
    served.ask("/api/points", {"name": "a/../b/file", "theta": theta})
    assert load(served.ask("/api/points/a%2F..%2Fb%2Ffile/file")[1])["theta"].tolist() == theta
    assert served.ask("/api/points/a%2F..%2Fb%2Ffile", method="DELETE")[0] == 200
    assert served.ask("/api/points")[1]["points"] == []


def test_the_mean_of_chosen_models_is_the_mean_of_their_thetas(served):
    fit = served.explorer.fit
    status, point = served.ask("/api/points", {"name": "mean", "models": fit.names[1:4]})
    assert status == 201
    np.testing.assert_allclose(point["theta"], fit.theta[1:4].mean(0), rtol=1e-6)
    assert point["models"] == fit.names[1:4]
    status, told = served.ask("/api/points", {"name": "mean", "models": fit.names[:1]})
    assert (status, told["error"]) == (400, "a point is called 'mean' already: choose another name, or remove it first")


def test_points_of_two_browsers_are_all_kept(served):
    def name(number):
        return served.ask("/api/points", {"name": f"p{number}", "theta": [number / 10] * 4})[0]

    with ThreadPoolExecutor(8) as many:
        assert set(many.map(name, range(16))) == {201}
    kept = served.ask("/api/points")[1]["points"]
    assert {point["name"] for point in kept} == {f"p{number}" for number in range(16)}


def test_a_damaged_file_of_points_is_told(served, sentences):
    served.ask("/api/points", {"name": "one", "theta": [0.0] * 4})
    path = sentences / "run" / POINTS
    path.write_text(path.read_text().replace("one", "two"))
    status, told = served.ask("/api/points")
    assert status == 400
    assert "is not as it was saved" in told["error"]


WRONG = {
    "no JSON": b"{",
    "no table": b"[1]",
    "nested": b"[" * 100_000,
    "nowhere": {"values": [3]},
    "two wheres": {"values": [3], "model": "net-0", "theta": [0, 0, 0, 0]},
    "unknown model": {"values": [3], "model": "../../etc/passwd"},
    "short theta": {"values": [3], "theta": [0, 0]},
    "NaN": b'{"values": [3], "theta": [NaN, 0, 0, 0]}',
    "infinite": b'{"values": [3], "theta": [1e999, 0, 0, 0]}',
    "huge whole number": b'{"values": [3], "theta": [' + b"9" * 4000 + b", 0, 0, 0]}",
    "text for theta": {"values": [3], "theta": ["0", 0, 0, 0]},
    "truth for theta": {"values": [3], "theta": [True, 0, 0, 0]},
    "unknown head": {"values": [3], "theta": [0, 0, 0, 0], "head": "x"},
    "no values": {"theta": [0, 0, 0, 0]},
    "empty": {"theta": [0, 0, 0, 0], "values": []},
    "real ids": {"theta": [0, 0, 0, 0], "values": [1.5]},
    "negative id": {"theta": [0, 0, 0, 0], "values": [-1]},
    "id beyond": {"theta": [0, 0, 0, 0], "values": [10**6]},
    "id beyond 64 bits": {"theta": [0, 0, 0, 0], "values": [2**70]},
    "another kind": {"theta": [0, 0, 0, 0], "values": [[[0.0] * 8] * 8]},
    "a long paste": {"theta": [0, 0, 0, 0], "values": [3] * 5000},
    "many beside": {"theta": [0, 0, 0, 0], "values": [3], "beside": ["net-0"] * 1000},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_question_gives_a_message_and_the_server_goes_on(served, wrong):
    content = wrong if isinstance(wrong, bytes) else json.dumps(wrong).encode()
    status, told = served.ask("/api/answer", content=content)
    assert status == 400
    assert isinstance(told["error"], str)
    assert len(told["error"]) > 10


@pytest.mark.parametrize(("far", "wanted"), [(1e3, 200), (1e29, (200, 400))])
def test_a_theta_far_outside_is_told(served, far, wanted):
    status, told = served.ask("/api/answer", {"theta": [far, 0, 0, 0], "values": [3, 4]})
    assert status == wanted or status in np.atleast_1d(wanted)
    assert "times as far" in told["warn"] if status == 200 else "not finite" in told["error"]
    assert served.ask("/api/answer", {"model": "net-0", "values": [3]})[1]["warn"] == ""


@pytest.mark.parametrize("name", ["", " ", "x" * 81, "a\x1b[2J", "\u202e", 7, None])
def test_a_name_that_cannot_be(served, name):
    assert served.ask("/api/points", {"name": name, "theta": [0.0] * 4})[0] == 400
    assert served.ask("/api/points")[1]["points"] == []


def test_other_sites_are_refused(served):
    question = {"model": "net-0", "values": [3]}
    own = {"host": f"localhost:{served.address.port}", "origin": f"http://localhost:{served.address.port}"}
    assert served.ask("/api/answer", question, **own)[0] == 200
    assert served.ask("/api/answer", question, origin=served.url)[0] == 200
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{served.address.port}", "http://127.0.0.1:1"):
        assert served.ask("/api/answer", question, origin=origin)[0] == 403
        assert served.ask("/api/points", origin=origin)[0] == 403
    for site in ("cross-site", "same-site"):
        assert served.ask("/api/points", sec_fetch_site=site)[0] == 403
    assert served.ask("/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200
    for host in ("evil.example", f"evil.example:{served.address.port}", "127.0.0.1:1", "127.0.0.1", ""):
        assert served.ask("/", host=host)[0] == 421
    assert served.ask("/api/answer", question, content_type="text/plain")[0] == 415
    assert served.ask("/api/answer", question, content_type="application/x-www-form-urlencoded")[0] == 415


def test_the_token_is_asked_for(sentences):
    with serving(sentences / "run", token="a secret/&=") as running:
        for headers in ({}, {"authorization": "Bearer no"}, {"cookie": f"dynamo-{running.address.port}=no"}):
            assert running.ask("/", **headers)[0] == 401
            assert running.ask("/api/points", **headers)[0] == 401
        assert running.ask("/?token=no")[0] == 401
        assert running.ask("/api/points?token=a%20secret%2F%26%3D")[0] == 401  # in the page's address only
        assert running.ask("/api/points", authorization="Bearer a secret/&=")[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", running.address.port)
        connection.request("GET", "/?token=a%20secret%2F%26%3D")
        answer = connection.getresponse()
        cookie = answer.headers["set-cookie"]
        assert (answer.status, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert running.ask("/api/points", cookie=cookie.partition(";")[0])[0] == 200


def test_paths_lead_nowhere(served, tmp_path):
    for path in ("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api/points/..%2F..%2Frun.toml/file", "/static/x"):
        connection = http.client.HTTPConnection("127.0.0.1", served.address.port)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status in (400, 404)
        assert b"error" in answer.read()
    (served.app.uploads / "link").unlink(missing_ok=True)
    (served.app.uploads / "link").symlink_to(tmp_path)
    for folder in ("..", "../..", "/etc", "link", str(tmp_path), "population/../..", "a\0b", "x" * 5000):
        status, told = served.ask("/api/jobs", {"kind": "embed", "folder": folder})
        assert status == 400, folder
        assert "error" in told
    (served.app.uploads / "link").unlink()
    assert all(job["state"] != "running" for job in served.ask("/api/jobs")[1]["jobs"])


def test_a_huge_body_is_refused(served):
    assert served.ask("/api/answer", content=b" " * (LARGEST + 1))[0] == 413
    with socket.create_connection(("127.0.0.1", served.address.port), timeout=30) as raw:  # it is not waited for
        raw.sendall(
            f"POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1:{served.address.port}\r\n"
            "Content-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n".encode()
        )
        assert raw.recv(1000).split()[1] == b"413"
    with socket.create_connection(("127.0.0.1", served.address.port), timeout=30) as raw:  # without a length
        raw.sendall(
            f"POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1:{served.address.port}\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        chunk = b" " * 65536
        for _ in range(LARGEST // len(chunk) + 2):
            raw.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        raw.sendall(b"0\r\n\r\n")
        assert raw.recv(1000).split()[1] == b"413"


def test_two_hundred_requests_at_once(served):
    fit = served.explorer.fit
    wanted = {name: fit.emulate(name, torch.tensor([[3, 5]])).outputs[0].numpy() for name in fit.names}

    def question(number):
        name = fit.names[number % len(fit.names)]
        status, told = served.ask("/api/answer", {"model": name, "values": [3, 5]})
        return status == 200 and np.allclose(told["rows"][0]["outputs"], wanted[name], atol=1e-6)

    with ThreadPoolExecutor(200) as many:
        assert all(many.map(question, range(200)))


def test_fixed_points_are_a_job(served):
    status, job = served.ask("/api/jobs", {"kind": "fixed-points", "model": "net-0"})
    assert status == 202
    ended = served.wait(job["job"])
    assert ended["state"] == "done", ended["note"]
    assert ended["result"]["told"].startswith("fixed points: ")
    from dynamo.analysis.dynamics.state_space import state_space
    from dynamo.serve.work import INPUTS, STARTS

    fit = served.explorer.fit
    wanted = state_space(fit.model_at(fit.theta[0]), fit.probes[:INPUTS], starts=STARTS)
    assert ended["result"]["told"] == wanted.points.describe(wanted.linearisation)
    shown = sum(len(kind["places"]) for kind in ended["result"]["space"]["kinds"])
    assert shown == int((~wanted.points.is_outlier).sum())


def test_new_models_are_put_on_the_map(served):
    job = served.ask("/api/jobs", {"kind": "embed", "folder": "population"})[1]
    ended = served.wait(job["job"], 200)
    assert ended["state"] == "done", ended["note"]
    assert [model["name"] for model in ended["result"]["models"]] == served.explorer.fit.names
    assert all(len(model["place"]) == 2 and len(model["theta"]) == 4 for model in ended["result"]["models"])
    assert ended["total"] == ended["done"] > 0


def test_few_labels_are_learned_from_a_theta_as_python_learns_them(served):
    fit = served.explorer.fit
    job = served.ask("/api/jobs", {"kind": "few-labels", "model": "net-3", "labels": 12})[1]
    ended = served.wait(job["job"])
    assert ended["state"] == "done", ended["note"]
    wanted = few_labels(fit, fit.open_population(), 12, draws=2, balanced=True, start="net-3")
    columns, rows = wanted.table()
    assert (ended["result"]["columns"], ended["result"]["rows"]) == (columns, plain(rows))
    assert ended["result"]["told"] == wanted.describe()
    assert [end["steps"] for end in ended["result"]["ends"]] == list(wanted.steps)
    np.testing.assert_allclose([end["theta"] for end in ended["result"]["ends"]], wanted.learned, atol=1e-6)
    assert [part["step"] for part in ended["parts"]] == list(range(0, 51, 5))
    walk = np.array([part["theta"] for part in ended["parts"]])
    np.testing.assert_allclose(walk.transpose(1, 0, 2), wanted.thetas[:, ::5], atol=1e-6)
    home = map_coordinates(fit).places.coordinates[3, :2]  # the walk begins at the model
    np.testing.assert_allclose(ended["parts"][0]["places"], [home, home], atol=1e-5)
    for wrong in (None, 0, -3, 1.5, True, "30", 10**6):
        assert served.ask("/api/jobs", {"kind": "few-labels", "model": "net-0", "labels": wrong})[0] == 400


def test_few_labels_can_be_cancelled_while_theta_walks_and_too_many_are_told(served):
    job = served.ask("/api/jobs", {"kind": "few-labels", "theta": [0.5] * 4, "labels": 12})[1]["job"]
    end = time.monotonic() + 60
    while not served.ask(f"/api/jobs/{job}")[1]["parts"] and time.monotonic() < end:
        time.sleep(0.02)
    told = served.ask(f"/api/jobs/{job}", method="DELETE")[1]
    assert told["state"] == "cancelled"
    assert 0 < len(told["parts"]) < 11
    assert told["parts"][0]["theta"] == [[0.5] * 4] * 2
    job = served.ask("/api/jobs", {"kind": "few-labels", "model": "net-0", "labels": 9999})[1]["job"]
    ended = served.wait(job)
    assert ended["state"] == "failed"
    assert "9999 labels are asked for; there are" in ended["note"]


def test_a_network_leaves_as_onnx(served, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    fit, theta = served.explorer.fit, served.explorer.fit.theta[:3].mean(0)
    job = served.ask("/api/jobs", {"kind": "onnx", "theta": theta.tolist()})[1]["job"]
    ended = served.wait(job)
    assert ended["state"] == "done", ended["note"]
    inputs = fit.probes[:7]
    given = {"values": inputs.values.numpy(), "mask": inputs.mask.numpy()}
    fit.to_onnx(tmp_path / "model.onnx", "net-5")
    for file, where in ((b64decode(ended["result"]["file"]), theta), (tmp_path / "model.onnx", "net-5")):
        (found,) = runtime.InferenceSession(file).run(None, given)
        wanted = fit.model_at(where)(inputs.values, inputs.mask).detach()
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_without_onnx_it_says_what_to_install(served, monkeypatch):
    monkeypatch.setattr(exports, "find_spec", lambda name: None)
    status, told = served.ask("/api/jobs", {"kind": "onnx", "model": "net-0"})
    assert (status, told["error"].partition(":")[0]) == (400, "ONNX needs onnx")
    assert "pip install 'dynamo-embedding[export]'" in told["error"]


def test_a_job_is_cancelled_and_the_next_one_runs(served):
    first = served.ask("/api/jobs", {"kind": "embed", "folder": "population"})[1]["job"]
    second = served.ask("/api/jobs", {"kind": "fixed-points", "model": "net-1"})[1]["job"]
    assert served.ask(f"/api/jobs/{second}")[1]["state"] == "waiting"
    process = None
    end = time.monotonic() + 60
    while process is None and time.monotonic() < end:
        process = served.app.jobs.get(first).process
        time.sleep(0.01)
    while served.ask(f"/api/jobs/{first}")[1]["done"] == 0 and time.monotonic() < end:
        time.sleep(0.05)  # until it is at work
    assert served.ask(f"/api/jobs/{first}", method="DELETE")[1]["state"] == "cancelled"
    assert served.wait(second)["state"] == "done"
    assert not process.is_alive()
    assert served.ask(f"/api/jobs/{first}")[1]["state"] == "cancelled"
    assert served.ask("/api/jobs/0123456789abcdef", method="DELETE")[0] == 400


def test_a_job_that_fails_says_why(served, sentences):
    (sentences / "empty").mkdir(exist_ok=True)
    job = served.ask("/api/jobs", {"kind": "embed", "folder": "empty"})[1]["job"]
    ended = served.wait(job)
    assert ended["state"] == "failed"
    assert "empty" in ended["note"]
    for wrong in (
        {"kind": "x"},
        {"kind": "fixed-points", "model": "net-0", "held": "token:a"},
        {"kind": "fixed-points"},
    ):
        assert served.ask("/api/jobs", wrong)[0] == 400


def test_the_page_and_its_policy(served):
    connection = http.client.HTTPConnection("127.0.0.1", served.address.port)
    connection.request("GET", "/")
    answer = connection.getresponse()
    policy, page = answer.headers["content-security-policy"], answer.read().decode()
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert policy in page.replace("&#x27;", "'")
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_taken_port_and_hosts(tmp_path):
    taken = server.listen(port=0)
    with pytest.raises(DynamoError, match=rf"port {taken.port}: .*; \d+ is free: --port \d+"):
        server.listen(port=taken.port)
    assert taken.token == ""
    taken.socket.close()
    everywhere = server.listen("0.0.0.0", 0)
    assert len(everywhere.token) > 20
    assert everywhere.token in everywhere.url
    everywhere.socket.close()
    with pytest.raises(DynamoError, match=r"cannot listen on 203\.0\.113\.1"):
        server.listen("203.0.113.1", 0)


def test_the_command_says_what_is_wrong(tmp_path, sentences, monkeypatch):
    told = CliRunner().invoke(cli, ["serve", "--help"]).output
    assert "--port" in told
    assert "--no-browser" in told
    none = CliRunner().invoke(cli, ["serve", str(tmp_path), "--port", "0", "--no-browser"])
    assert "there is no finished run" in str(none.exception)
    lost = CliRunner().invoke(
        cli, ["serve", str(sentences / "run"), "--port", "0", "--no-browser", "--uploads", str(tmp_path / "no")]
    )
    assert "there is no folder" in str(lost.exception)
    monkeypatch.setattr(server, "find_spec", lambda name: None)
    missing = CliRunner().invoke(cli, ["serve", str(sentences / "run"), "--no-browser"])
    assert "pip install 'dynamo-embedding[serve]'" in str(missing.exception)


def test_what_was_saved_before_is_there_again(sentences):
    with serving(sentences / "run") as running:
        running.ask("/api/points", {"name": "kept", "theta": [1.0, 0, 0, 0]})
    with serving(sentences / "run") as running:
        assert "kept" in [point["name"] for point in running.ask("/api/points")[1]["points"]]
    assert Fit.load(sentences / "run").names
