"""A replica of the Ray app without Ray: batches, budgets, threads and application names, with stubs."""

import asyncio
import contextlib
import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[ray]'")

import ray
from ray import serve

from export.serving.ray import app, replica, rest
from export.serving.ray.batcher import Budget
from export.serving.ray.servable import MAX_PIXELS, Asked, Images, Refused
from keras_dae.errors import UserError

ROW = [[[0.5]] * 20] * 20


class StubServable:
    """Records what is computed together, and in which thread."""

    def __init__(self, pixels=400):
        self.pixels, self.batches, self.threads, self.gate = pixels, [], set(), threading.Event()
        self.gate.set()
        self.version = 1

    def check(self, asked):
        assert asked == Asked("denoiser")

    def images(self, signature, value):
        self.threads.add(threading.current_thread())
        return Images(list(value), self.pixels)

    def denoise(self, items):
        assert self.gate.wait(30)
        self.threads.add(threading.current_thread())
        self.batches.append(len(items))
        return items

    def output(self, signature, denoised):
        self.threads.add(threading.current_thread())
        return np.stack(denoised)


@pytest.fixture
def made(monkeypatch):
    """Return a function that makes a replica around a `StubServable`."""

    def make(servable):
        monkeypatch.setattr(replica, "Servable", lambda *args: servable)
        return replica.Replica.func_or_class("run", "denoiser", {}, False, False)

    return make


def request(body, chunks=1):
    """Return what a replica reads of a REST request."""
    size = -(-len(body) // chunks)

    async def stream():
        for start in range(0, len(body), size):
            yield body[start : start + size]

    url = SimpleNamespace(path="/v1/models/denoiser:predict")
    return SimpleNamespace(method="POST", url=url, stream=stream)


BODY = json.dumps({"instances": [ROW]}).encode()


def answers(server, requests):
    """Send requests at once; return `[(status, JSON)]`."""

    async def send():
        given = await asyncio.gather(*(server(request) for request in requests))
        return [(answer.status_code, json.loads(answer.body)) for answer in given]

    return asyncio.run(send())


def test_batches_have_at_most_so_many_pixels(made):
    """Requests of a fourth of the largest request: four of them are one batch."""
    servable = StubServable(pixels=MAX_PIXELS // 4)
    server = made(servable)
    server.pixels.limit = 64 * MAX_PIXELS
    assert {status for status, _ in answers(server, [request(BODY) for _ in range(17)])} == {200}
    assert sum(servable.batches) == 17
    assert max(servable.batches) <= 4


def test_small_requests_are_one_batch(made):
    servable = StubServable()
    server = made(servable)

    assert {status for status, _ in answers(server, [request(BODY) for _ in range(33)])} == {200}
    assert len(servable.batches) <= 3  # the first has those that were read until then
    assert sum(servable.batches) == 33


def test_an_error_belongs_to_the_requests_of_its_batch(made):
    servable = StubServable()
    servable.denoise = lambda items: [][1]
    with pytest.raises(IndexError):
        answers(made(servable), [request(BODY)])


def test_the_largest_request_fits_alone(made):
    servable = StubServable(pixels=MAX_PIXELS)
    assert [status for status, _ in answers(made(servable), [request(BODY)])] == [200]


def test_more_pixels_than_a_replica_holds_are_refused_with_503(made):
    servable = StubServable(pixels=MAX_PIXELS)
    server = made(servable)

    async def send():
        servable.gate.clear()
        sent = [asyncio.ensure_future(server(request(BODY))) for _ in range(5)]
        done, waiting = await asyncio.wait(sent, timeout=100, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            more, waiting = await asyncio.wait(waiting, timeout=100, return_when=asyncio.FIRST_COMPLETED)
            done |= more
        servable.gate.set()
        return [answer.result() for answer in done], await asyncio.gather(*waiting)

    refused, answered = asyncio.run(send())
    assert [answer.status_code for answer in refused] == [503] * 3
    assert "pixels of other requests" in json.loads(refused[0].body)["error"]
    assert [answer.status_code for answer in answered] == [200] * 2
    assert server.pixels.used == server.bytes.used == 0


def test_more_bytes_than_a_replica_holds_are_refused_while_they_arrive(made):
    server = made(StubServable())
    server.bytes.limit = len(BODY) // 2
    ((status, answer),) = answers(server, [request(BODY, chunks=10)])
    assert status == 503
    assert "bytes of other requests" in answer["error"]
    assert server.bytes.used == 0


def test_requests_are_read_and_answered_outside_of_the_event_loop(made, monkeypatch):
    servable, threads = StubServable(), set()

    def recording(function):
        def recorded(*args):
            threads.add(threading.current_thread())
            return function(*args)

        return recorded

    for name in ("read_predict", "write_predict"):
        monkeypatch.setattr(rest, name, recording(getattr(rest, name)))
    server = made(servable)
    assert [status for status, _ in answers(server, [request(BODY)])] == [200]
    assert threads | servable.threads
    assert threading.main_thread() not in threads | servable.threads


def test_a_budget_is_given_back_after_an_error():
    budget = Budget(10, "pixels")
    with pytest.raises(KeyError), budget.reserved(10):
        with pytest.raises(Refused, match="10 pixels of other requests, of at most 10"), budget.reserved(1):
            pass
        raise KeyError
    with budget.reserved(10):
        pass


class StubServe:
    """Ray Serve's functions for applications: name -> when it was deployed."""

    def __init__(self, applications, failing=False):
        self.applications, self.failing, self.clock = dict(applications), failing, 100

    def status(self):
        shown = {name: SimpleNamespace(last_deployed_time_s=time) for name, time in self.applications.items()}
        return SimpleNamespace(applications=shown)

    def run(self, application, name):
        self.clock += 1
        self.applications[name] = self.clock
        if self.failing:
            raise RuntimeError("deploy failed")

    def delete(self, name):
        del self.applications[name]


class TestApplicationNames:
    @pytest.fixture
    def stub(self, monkeypatch):
        def use(*args, **kwargs):
            stub = StubServe(*args, **kwargs)
            monkeypatch.setattr(replica, "serve", stub)
            return stub

        return use

    def test_a_name_that_exists_is_refused(self, stub):
        running = stub({"denoiser": 1})
        with (
            pytest.raises(UserError, match=r"got denoiser, .*--replace"),
            replica._application(None, "denoiser", False),
        ):
            pass
        assert running.applications == {"denoiser": 1}

    def test_it_is_replaced_on_demand(self, stub):
        running = stub({"denoiser": 1, "other": 2})
        with replica._application(None, "denoiser", True):
            assert running.applications == {"denoiser": 101, "other": 2}
        assert running.applications == {"other": 2}

    def test_what_another_process_put_there_is_not_deleted(self, stub):
        running = stub({})
        with pytest.raises(KeyboardInterrupt), replica._application(None, "denoiser", False):
            running.run(None, "denoiser")
            raise KeyboardInterrupt
        assert running.applications == {"denoiser": 102}

    def test_an_application_that_does_not_start_is_deleted(self, stub):
        running = stub({}, failing=True)
        with pytest.raises(RuntimeError), replica._application(None, "denoiser", False):
            pass
        assert running.applications == {}


def test_the_environment_is_as_before(monkeypatch):
    """Also Ray's settings, and the token with which its processes know each other."""
    import os

    from keras_dae.denoise.ray import cluster

    seen = {}

    @contextlib.contextmanager
    def connected(address, **options):
        seen.update(os.environ)
        yield

    monkeypatch.setattr(cluster, "connected", connected)
    monkeypatch.setattr(app, "_check_free", lambda *args: None)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_STATS_PORT", "1234")
    before = dict(os.environ)
    with app._local_ray("127.0.0.1", 8501, 0, 1):
        assert {**app.RAY_ENVIRONMENT, **app.HAPROXY_FILES}.keys() <= seen.keys()
        assert len(seen["RAY_AUTH_TOKEN"]) == 64
        assert seen["RAY_SERVE_HAPROXY_STATS_PORT"] == "1234"
    assert dict(os.environ) == before


class TestTheInstalledRay:
    """What is no public API of Ray. If one of these fails, look what the newer version has instead."""

    def test_its_version_was_tried(self):
        major, minor = map(int, ray.__version__.split(".")[:2])
        assert (2, 60) <= (major, minor) < (2, 64), "setup.cfg allows ray[serve]>=2.60,<2.64"

    def test_it_reads_the_environment_variables(self):
        from pathlib import Path

        sources = "".join(path.read_text() for path in Path(serve.__file__).parent.rglob("*.py"))
        names = {name for name in {**app.RAY_ENVIRONMENT, **app.HAPROXY_FILES} if name.startswith("RAY_SERVE_")}
        assert len(names) == 16
        assert [name for name in sorted(names) if f'"{name}"' not in sources] == []

    def test_its_details_name_the_options(self):
        from ray.serve.schema import ServeInstanceDetails

        assert {"http_options", "grpc_options", "applications"} <= set(ServeInstanceDetails.model_fields)
        assert callable(replica.get_client)
        assert hasattr(ray.serve.context.ServeControllerClient, "get_serve_details")
