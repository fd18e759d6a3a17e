import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from conftest import assert_user_error
from PIL import Image

from export.parity import cases
from export.run import export_run
from keras_dae.config import TrainConfig
from keras_dae.errors import UserError
from keras_dae.evaluate.__main__ import main
from keras_dae.evaluate.intervals import confidence_interval
from keras_dae.evaluate.measure import evaluate
from keras_dae.evaluate.ranked_images import worst_median_best
from keras_dae.evaluate.trained_runs import distinct_names
from keras_dae.noise_names import REAL_PAIRS
from keras_dae.pretrained import MODEL_NAMES, model_folder
from keras_dae.report.text import remarks, results_table
from keras_dae.runs.evaluation import Evaluation, Interval, read_evaluation, write_evaluation_json
from keras_dae.runs.metrics_file import read_metrics, write_metrics
from keras_dae.torch_weights import export_weights, import_weights
from keras_dae.train.run import train_and_evaluate

CLASSICAL = ["noisy", "median 3×3", "non-local means", "total variation"]


@pytest.fixture(scope="module")
def run(digits_npz, tmp_path_factory):
    config = TrainConfig(dataset=str(digits_npz), epochs=1, batch_size=16)
    run = train_and_evaluate(config, tmp_path_factory.mktemp("evaluate") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "BATCH_SIZES", (2,))
        patch.setattr(cases, "IMAGE_SIZES", ((28, 28), (17, 30)))
        export_run(run)
    return run


@pytest.fixture(scope="module")
def evaluation(run, tmp_path_factory):
    """Of all backends at two levels."""
    output = tmp_path_factory.mktemp("evaluation")
    return evaluate([run], ["keras", "onnx", "int8", "saved_model"], [0.2, 0.5], output), output


def rows_of(evaluation, level=0):
    return {result.name: result for result in evaluation.levels[level].results}


@pytest.mark.slow
def test_gives_the_runs_own_metrics(run, tmp_path):
    rows = rows_of(evaluate([run], output_dir=tmp_path))
    metrics = json.loads((run / "metrics.json").read_text())
    for name, key in (("noisy", "noisy"), ("median 3×3", "median"), ("run", "test")):
        assert {m: getattr(rows[name], m).mean for m in ("mse", "psnr", "ssim")} == pytest.approx(metrics[key])


@pytest.mark.slow
def test_every_backend_at_every_level(evaluation):
    evaluation, _ = evaluation
    assert [level.noise_factor for level in evaluation.levels] == [(0.2,), (0.5,)]
    for level in (0, 1):
        rows = rows_of(evaluation, level)
        assert list(rows) == CLASSICAL + [f"run [{b}]" for b in ("keras", "onnx", "int8", "saved_model")]
        assert all(row.mse.low < row.mse.mean < row.mse.high for row in rows.values())
        assert [row.trained_for_this for row in rows.values()] == [None] * 4 + [level == 1] * 4
        for backend in ("onnx", "saved_model"):
            assert rows[f"run [{backend}]"].psnr.mean == pytest.approx(rows["run [keras]"].psnr.mean, 1e-5)
        assert rows["noisy"].psnr.mean < rows["non-local means"].psnr.mean


def test_what_is_written(evaluation):
    evaluation, folder = evaluation
    assert read_evaluation(folder / "evaluation.json") == evaluation
    assert json.loads((folder / "evaluation.json").read_text()) == evaluation.to_dict()
    with open(folder / "evaluation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 8
    assert float(rows[-1]["psnr_high"]) == pytest.approx(rows_of(evaluation, 1)["run [saved_model]"].psnr.high)
    for name in ("psnr.png", "ranked-run.png"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 200
    assert len(list(folder.iterdir())) == 4


def test_table_and_remarks(evaluation):
    evaluation, _ = evaluation
    lines = results_table(evaluation).splitlines()
    assert lines[0] == "tiny: 20 test images, gaussian noise"
    keras = [line for line in lines if line.startswith("run [keras]")]
    assert [" * " in line for line in keras] == [True, False]
    trained, untrained = remarks(evaluation)[:2]
    rows = rows_of(evaluation, 1)
    best = max(rows[name].psnr.mean for name in CLASSICAL[1:])
    gain = rows["run [keras]"].psnr.mean - best
    assert f"{gain:+.2f} dB (at 0.5) against the best of the classical methods here" in trained
    assert "not trained for: " in untrained
    assert "(at 0.2)" in untrained
    worse = rows_of(evaluation, 0)["run [keras]"].made_worse
    assert untrained.endswith(f"images made worse: {f'{worse} of 20 at 0.2' if worse else 'none'}")


def test_other_images_and_noise(run, digits, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", x_train=digits, x_test=255 - digits[:6])
    options = ["--dataset", str(tmp_path / "other.npz"), "--noise", "salt", "--noise-factor", "0.1"]
    assert main([str(run), *options, "--output-dir", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("other: 6 test images, salt noise\n")
    assert "run *" in out
    assert f"written to {tmp_path / 'out'}" in out
    assert not (run / "evaluation").exists()


@pytest.mark.slow
def test_several_runs_of_one_name_and_the_card(run, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(run, other)
    rows = rows_of(evaluate([other, run]))
    names = [f"{folder.parent.name}/run" for folder in (other, run)]  # of the path, what tells them apart
    assert list(rows) == [*CLASSICAL, *names]
    assert rows[names[0]].psnr == rows[names[1]].psnr
    assert sorted(path.suffix for path in (other / "evaluation").iterdir()) == [".csv", ".json", ".png", ".png", ".png"]
    card = (other / "README.md").read_text()
    assert "evaluation/psnr.png" in card
    assert f"{rows['total variation'].psnr.mean:.2f}" in card


@pytest.mark.slow
def test_a_range_of_noise_is_drawn_as_in_training(digits_npz, tmp_path):
    config = TrainConfig(
        dataset=str(digits_npz), epochs=1, batch_size=16, noise=("salt", "speckle"), noise_factor=(0, 1)
    )
    run = train_and_evaluate(config, tmp_path / "blind")
    evaluation = evaluate([run])
    assert evaluation.levels[0].noise_factor == (0, 1)
    assert rows_of(evaluation)["blind"].trained_for_this
    assert (
        rows_of(evaluate([run], noise=("pepper",), output_dir=tmp_path / "pepper"))["blind"].trained_for_this is False
    )
    assert "noise 0 to 1" in results_table(evaluation)


@pytest.mark.slow
def test_results_are_replaced_only_when_asked(run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    command = [str(run), "--output-dir", str(out), "--limit", "4"]
    assert main(command) == 0
    (out / "evaluation.csv").write_text("kept")
    assert_user_error(main(command), capsys.readouterr().err, f"{out} holds an evaluation; give --overwrite")
    assert (out / "evaluation.csv").read_text() == "kept"
    with monkeypatch.context() as patch:  # results that cannot be finished leave the earlier ones
        patch.setattr("keras_dae.evaluate.results.plot_psnr", Mock(side_effect=OSError(28, "No space left on device")))
        assert_user_error(main([*command, "--overwrite"]), capsys.readouterr().err, "No space left on device")
    assert (out / "evaluation.csv").read_text() == "kept"
    assert main([*command, "--overwrite"]) == 0
    assert (out / "evaluation.csv").read_text() != "kept"
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["out"]
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "a.png").write_bytes(b"")
    other = [str(run), "--output-dir", str(tmp_path / "photographs"), "--overwrite"]
    assert_user_error(main(other), capsys.readouterr().err, "which is something else")


@pytest.mark.slow
def test_noise_that_is_not_clipped(run, tmp_path):
    rows = rows_of(evaluate([run], ["keras", "onnx"], [0.5], tmp_path, clip=False))
    assert rows["run [onnx]"].psnr.mean == pytest.approx(rows["run [keras]"].psnr.mean, 1e-5)


@pytest.mark.slow
def test_a_folder_from_another_place_and_what_was_trained_on(photographs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(dataset=photographs.name, epochs=1, batch_size=16, patch_size=20)
    run = train_and_evaluate(config, tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = evaluate([run], limit=4, output_dir=tmp_path / "again")
    metrics = read_metrics(run / "metrics.json")
    assert (again.images, again.patches) == (metrics.images, metrics.patches)
    assert rows_of(again)["run"].psnr.mean == pytest.approx(metrics.test.psnr)
    with open(run / "images.csv", newline="") as file:
        learned = [row["name"] for row in csv.DictReader(file) if row["split"] in ("train", "validation")]
    for name in learned:
        shutil.copy(photographs / name, f"copy-{Path(name).name}")
    arguments = [str(run), "--dataset", ".", "--output-dir", str(tmp_path / "out")]
    assert_user_error(main(arguments), capsys.readouterr().err, "test images in elsewhere were used to train")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_real_pairs(photographs, tmp_path):
    pairs = TrainConfig(noisy_dir=str(photographs), clean_dir=str(photographs), epochs=1, batch_size=16)
    run = train_and_evaluate(pairs, tmp_path / "pairs")
    evaluation = evaluate([run])
    assert evaluation.noise == (REAL_PAIRS,)
    assert read_evaluation(run / "evaluation" / "evaluation.json") == evaluation
    assert "real noise" in results_table(evaluation)
    assert rows_of(evaluation)["pairs"].made_worse == evaluation.images  # they were clean
    with pytest.raises(UserError, match="expected no --noise or --noise-factor"):
        evaluate([run], noise_factors=[0.1])


@pytest.mark.slow
def test_imported_weights(run, digits_npz, tmp_path):
    export_weights(run, tmp_path / "original.safetensors")
    import_weights(tmp_path / "original.safetensors", tmp_path / "imported")
    evaluation = evaluate([tmp_path / "imported"], dataset=str(digits_npz))
    assert rows_of(evaluation)["imported"].trained_for_this is None
    assert "trained for unknown noise" in remarks(evaluation)[0]
    assert rows_of(evaluation)["imported"].psnr == rows_of(evaluate([run], output_dir=tmp_path / "run"))["run"].psnr
    assert read_evaluation(tmp_path / "imported" / "evaluation" / "evaluation.json") == evaluation


def test_no_run_or_artefact(run, tmp_path, capsys):
    assert_user_error(main([str(tmp_path)]), capsys.readouterr().err, "config.json")
    bare = tmp_path / "bare"
    shutil.copytree(run, bare, ignore=shutil.ignore_patterns("*.onnx", "saved_model"))
    for backend, name in (("onnx", "model.onnx"), ("int8", "model.int8.onnx"), ("saved_model", "saved_model")):
        assert_user_error(main([str(bare), "--backend", backend]), capsys.readouterr().err, f"expected {name} in")
    (tmp_path / "file").write_text("")
    options = ["--output-dir", str(tmp_path / "file" / "out")]
    assert_user_error(main([str(run), *options]), capsys.readouterr().err, "cannot write")
    assert_user_error(main([str(run), "--noise-factor", "nan"]), capsys.readouterr().err, "noise_factor")


def test_names_of_runs_at_the_root(tmp_path):
    assert distinct_names([tmp_path / "a", tmp_path / "b" / "a"]) == [f"{tmp_path.name}/a", "b/a"]
    assert distinct_names(["/run", "/a/run", "/run/../run"]) == ["//run", "a/run", "//run"]


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_json_files_of_shipped_models_come_back_byte_for_byte(name, tmp_path):
    shipped = model_folder(name)
    write_evaluation_json(tmp_path / "evaluation.json", read_evaluation(shipped / "evaluation" / "evaluation.json"))
    shipped_evaluation = (shipped / "evaluation" / "evaluation.json").read_bytes()
    assert (tmp_path / "evaluation.json").read_bytes() == shipped_evaluation
    write_metrics(tmp_path / "metrics.json", read_metrics(shipped / "metrics.json"))
    metrics = json.loads((shipped / "metrics.json").read_text())
    del metrics["int8"]  # added by the export
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written.pop("problems") == []  # not in the files of keras_dae 0.1.0
    assert list(written.items()) == list(metrics.items())


def test_json_of_patches_and_of_unknown_training(evaluation):
    """Keys that the shipped files lack."""
    evaluation, _ = evaluation
    changed = replace(evaluation, patches=40, noise=(REAL_PAIRS,), trained_for={"run": None})
    values = json.loads(json.dumps(changed.to_dict()))
    assert list(values)[:5] == ["dataset", "dataset_sha256", "images", "patches", "noise"]
    assert values["noise"] == ["real pairs"]
    assert Evaluation.from_dict(values) == changed
    assert "patches" not in evaluation.to_dict()


def test_interval_is_students():
    found = confidence_interval(np.array([1.0, 2.0, 3.0]))
    assert found.mean == 2
    assert found.high - 2 == pytest.approx(4.303 / np.sqrt(3), rel=1e-3)  # t(0.975, 2) = 4.303, deviation 1
    assert confidence_interval(np.array([5.0])) == Interval(5, None, None)


def test_worst_median_best():
    psnr = np.array([5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0])
    assert list(worst_median_best(psnr, 2)) == [1, 5, 3, 0, 6, 2]
    assert list(worst_median_best(psnr[:1], 4)) == [0, 0, 0]
