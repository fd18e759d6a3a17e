"""An interrupted run is continued by the same training only: same versions, workers and threads, or on demand."""

import dataclasses
import json
import shutil

import pytest
from conftest import assert_same_run, assert_user_error
from test_train import Killed, kill_in_second_epoch

from keras_dae.config import TrainConfig
from keras_dae.errors import UserError
from keras_dae.train import fit as fit_module
from keras_dae.train.__main__ import main
from keras_dae.train.run import train_and_evaluate


@pytest.fixture(scope="module")
def tiny(digits_npz):
    """A config that trains in a second."""
    return TrainConfig(dataset=str(digits_npz), epochs=3, batch_size=16, initialization="he")


@pytest.fixture(scope="module")
def killed(tiny, tmp_path_factory):
    """The folder of a run that was killed in its second epoch."""
    run = tmp_path_factory.mktemp("killed") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        kill_in_second_epoch(patch, times=1)
        train_and_evaluate(tiny, run)
    return run.with_name("run.partial")


@pytest.fixture
def interrupted(killed, tmp_path):
    """A function that changes config.json of a run that was killed in its second epoch, and returns the run's path."""

    def interrupt(**changes):
        shutil.copytree(killed, tmp_path / "run.partial")
        file = tmp_path / "run.partial/config.json"
        content = json.loads(file.read_text())
        for name, values in changes.items():
            content[name] |= values
        file.write_text(json.dumps(content))
        return tmp_path / "run"

    return interrupt


def about(run):
    return json.loads((run / "config.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("package", ["keras_dae", "tensorflow", "keras", "numpy"])
def test_other_versions_are_refused(tiny, interrupted, package):
    run = interrupted(versions={package: "0.0.1"})
    now = about(run.with_name("run.partial"))["versions"]
    with pytest.raises(UserError, match=rf"began with {package} 0\.0\.1; here it is {package} .*--resume-anyway"):
        train_and_evaluate(tiny, run)
    assert about(run.with_name("run.partial"))["versions"] == now
    assert not run.exists()


@pytest.mark.slow
def test_other_versions_are_continued_on_demand(tiny, interrupted, monkeypatch):
    run = interrupted(versions={"tensorflow": "2.0.0"})
    kill_in_second_epoch(monkeypatch, times=1)
    with pytest.raises(Killed):  # in the third epoch, the second of this call
        train_and_evaluate(tiny, run, resume_anyway=True)
    train_and_evaluate(tiny, run)  # with the versions that continued it
    content = about(run)
    assert content["versions"]["tensorflow"] != "2.0.0"
    assert [versions["tensorflow"] for versions in content["earlier_versions"]] == ["2.0.0"]
    card = (run / "README.md").read_text()
    assert "continued with other versions" in card
    assert "tensorflow 2.0.0" in card


@pytest.mark.slow
def test_versions_without_influence(tiny, interrupted):
    run = interrupted(versions={"python": "3.9.0", "matplotlib": None})
    train_and_evaluate(tiny, run)
    assert [versions["python"] for versions in about(run)["earlier_versions"]] == ["3.9.0"]


@pytest.mark.slow
def test_overwrite_drops_a_run_of_other_versions(tiny, tmp_path, interrupted, capsys):
    run = interrupted(versions={"tensorflow": "2.0.0"})
    train_and_evaluate(tiny, run, overwrite=True)
    assert "continuing" not in capsys.readouterr().out
    assert "earlier_versions" not in about(run)
    assert_same_run(run, train_and_evaluate(tiny, tmp_path / "whole"))


@pytest.mark.slow
def test_other_threads_are_refused(tiny, interrupted):
    """A run that the command began is not continued by a library call whose bits are others."""
    run = interrupted(conditions={"threads_per_operation": 17, "workers": 2})
    with pytest.raises(UserError, match=r"began with workers 2, threads_per_operation 17; here it is workers 1, "):
        train_and_evaluate(tiny, run)
    train_and_evaluate(tiny, run, resume_anyway=True)
    assert [conditions["workers"] for conditions in about(run)["earlier_conditions"]] == [2]
    card = (run / "README.md").read_text()
    assert "continued with other settings of the machine" in card
    assert "workers 2" in card


@pytest.mark.slow
def test_another_number_of_cores_is_refused(tiny, interrupted):
    """A batch is split into a part for each core, and the parts are added in another order."""
    run = interrupted(conditions={"micro_batches": 17})
    with pytest.raises(UserError, match="began with micro_batches 17; here it is micro_batches 1"):
        train_and_evaluate(tiny, run)


@pytest.mark.slow
def test_nothing_trained_yet(tiny, tmp_path, monkeypatch):
    """Without a checkpoint there is nothing to continue, so other versions do not matter."""

    def killed(*args):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "fit", killed)
        with pytest.raises(Killed):
            train_and_evaluate(tiny, tmp_path / "run")
    file = tmp_path / "run.partial/config.json"
    file.write_text(json.dumps(about(tmp_path / "run.partial") | {"versions": {"tensorflow": "2.0.0"}}))
    content = about(train_and_evaluate(tiny, tmp_path / "run"))
    assert content["versions"]["tensorflow"] != "2.0.0"
    assert "earlier_versions" not in content


@pytest.mark.slow
def test_the_command_names_the_option(tiny, interrupted, capsys):
    run = interrupted(versions={"keras": "3.0.0"})
    arguments = ["--dataset", tiny.dataset, "--output-dir", str(run), "--no-export", "--initialization", "he"]
    arguments += ["--epochs", "3", "--batch-size", "16"]
    assert_user_error(main(arguments), capsys.readouterr().err, "keras 3.0.0", "--resume-anyway", "--overwrite")


@pytest.mark.slow
@pytest.mark.parametrize("content", ["{", "", "[]", '{"format": 2}', "\xff", '{"format": 99, "config": {}}'])
def test_damaged_config(tiny, tmp_path, interrupted, content):
    run = interrupted()
    run.with_name("run.partial").joinpath("config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"whose config\.json is damaged .*; give --overwrite to drop it"):
        train_and_evaluate(tiny, run)


@pytest.mark.slow
def test_overwrite_drops_a_damaged_config(tiny, tmp_path, interrupted):
    run = interrupted()
    run.with_name("run.partial").joinpath("config.json").write_text("{")
    config = dataclasses.replace(tiny, epochs=1)
    assert about(train_and_evaluate(config, run, overwrite=True))["config"]["epochs"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run", ".run.lock"}


@pytest.mark.slow
def test_damaged_config_of_a_finished_run(tiny, tmp_path):
    """Also when the checkpoints of the finished run are still there."""
    config = dataclasses.replace(tiny, epochs=1)
    run = train_and_evaluate(config, tmp_path / "run")
    (run / "config.json").write_text("{")
    (run / "checkpoint").mkdir()
    with pytest.raises(UserError, match="--overwrite"):
        train_and_evaluate(config, run)
    assert about(train_and_evaluate(config, run, overwrite=True))["config"]["epochs"] == 1
