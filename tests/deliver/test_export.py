"""A trial's net as a file: it does what the net does, runs without lightsweep, or is not there at all."""

import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from plain_records import plain_record
from torch import Tensor, nn
from waiting import HANGS_SECONDS

from lightsweep.cli import main as cli
from lightsweep.data.datasets import describe, load
from lightsweep.data.imagedata import Images
from lightsweep.deliver import export as exporting
from lightsweep.deliver import netfile
from lightsweep.deliver.export import Exported, choose, export, find_completed, some_images
from lightsweep.deliver.netfile import METADATA_FILE, ExportError, compare, make_file
from lightsweep.errors import InputError, WriteError
from lightsweep.planning.design import design_tree
from lightsweep.planning.plan import Plan, plan
from lightsweep.runfolder.folder import RunFolder
from lightsweep.runfolder.records import DataIdentity, Record, record
from lightsweep.store.claims import LocalStore
from lightsweep.store.folder import FolderStore, stage_file
from lightsweep.sweepfile.sweep import Sweep
from lightsweep.training.attempt import attempt
from lightsweep.trials.trial import Trial

ARMS = {
    "single": {"model.inputs": "single"},
    "batch norm": {"model.inputs": "single", "model.batch_norm": True, "model.fusion": "none"},
    "reference": {
        "model": {"net": "lenet-5", "width": 0.5},
        "stages": [{"name": "all", "epochs": 5}],
    },
    "int8": {"compression": {"quantise": "int8"}},
}
SWEEP = {
    "name": "nets",
    "dataset": {"name": "digits", "validation": 100, "train_limit": 600},
    "seeds": 1,
    "base": {
        "model": {"filters": [4, 8]},
        "batch_size": 16,
        "stages": {
            "preset": "paper",
            "epochs": {"dual": 4, "fusion": 2, "finetune": 2},
            "lr": 0.005,
            "finetune_lr": 0.005,
        },
    },
    "ablation": {"arms": ARMS},
}
NETS = ["base", *ARMS]
FILES = [arm + ".onnx" for arm in NETS] + [arm + ".pt2" for arm in ("base", "reference", "int8")]
DIGITS_TEST_IMAGES = 359


class Run:
    """A run whose trials were trained here, one after the other, and recorded as workers record them."""

    def __init__(self, out: Path, sweep: dict[str, Any], data_dir: Path) -> None:
        self.sweep = Sweep.model_validate(sweep)
        self.data_dir, self.store = data_dir, out / ".stages"
        self.planned: Plan = plan(self.sweep, lambda spec: describe(spec, data_dir))
        self.run = RunFolder.create(out, self.sweep)
        trained = [self.train(trial) for trial in self.planned.trials]
        keys = {found.trial["trial_id"]: tuple(stage["key"] for stage in found.stages) for found in trained}
        self.run.describe(self.sweep, design_tree(self.planned), self.planned.trials, keys)
        for found in trained:
            self.run.journal.append(found)
        self.run.compact()

    def train(self, trial: Trial) -> Record:
        dataset = load(trial.dataset, self.data_dir, download=False)
        steps = attempt(trial, dataset, LocalStore(FolderStore(self.store)), torch.device("cpu"))
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return record(
                    trial,
                    self.planned.costs[trial.trial_id],
                    end.value,
                    "c0ffee",
                    DataIdentity(trial.dataset.name, "f1"),
                )

    def id_of(self, arm: str) -> str:
        return next(trial.trial_id for trial in self.planned.trials if trial.arm == arm)

    def export(self, arm: str, output: Path) -> Exported:
        return export(self.run, self.planned, self.id_of(arm), self.store, output, self.data_dir)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs")
    return Run(out, SWEEP, out)


@pytest.fixture(scope="module")
def exported(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """The arms' nets as `FILES`."""
    folder = tmp_path_factory.mktemp("exported")
    return {name: trained.export(Path(name).stem, folder / name) for name in FILES}


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    return some_images(load(Sweep.model_validate(SWEEP).dataset, Path(), download=False).test)


class Said:
    """What a command said, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def lightsweep(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """The command line in this process: what reaches the terminal, also from C++, and the exit status."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["lightsweep", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Said(int(ended.value.code or 0), *capfd.readouterr())

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` puts its own in its place
    return call


class TestFile:
    @pytest.mark.parametrize("name", FILES)
    def test_predicts_what_was_recorded(self, trained: Run, exported: dict[str, Exported], name: str) -> None:
        """On all test images: normalisation is inside, the weights are the trained ones."""
        made, arm = exported[name], Path(name).stem
        row = trained.run.journal.records()[trained.id_of(arm)].trial
        assert made.agreement.images == DIGITS_TEST_IMAGES
        assert made.agreement.accuracy == row["test_accuracy"]
        assert made.agreement.accuracy > 0.5  # it learned something, so other weights would be noticed
        assert made.agreement.largest_difference <= (0.5 if arm == "int8" else 1e-4)
        assert made.size_bytes == made.path.stat().st_size

    @pytest.mark.parametrize("name", FILES)
    def test_takes_batches_of_any_size(
        self, exported: dict[str, Exported], digits: tuple[Tensor, Tensor], name: str
    ) -> None:
        """And both kinds of file give the same logits."""
        images, arm = digits[0][:300].numpy(), Path(name).stem
        session = onnxruntime.InferenceSession(exported[arm + ".onnx"].path)
        (images_in,), (logits_out,) = session.get_inputs(), session.get_outputs()
        assert (images_in.name, images_in.type) == ("images", "tensor(float)")
        assert (images_in.shape, logits_out.shape) == (["batch", 1, 28, 28], ["batch", 10])
        whole = session.run(["logits"], {"images": images})[0]
        module = torch.export.load(exported[name].path).module() if name.endswith(".pt2") else None
        for size in (1, 2, 7, 300):
            part = images[:size]
            logits = module(torch.from_numpy(part)) if module else session.run(None, {"images": part})[0]
            assert logits.shape == (size, 10)
            np.testing.assert_allclose(logits, whole[:size], atol=0.5 if arm == "int8" else 1e-4)

    def test_says_what_it_is_and_where_it_comes_from(
        self, trained: Run, exported: dict[str, Exported]
    ) -> None:
        made = exported["base.onnx"]
        said = onnxruntime.InferenceSession(made.path).get_modelmeta().custom_metadata_map
        row = trained.run.journal.records()[made.trial.trial_id].trial
        assert json.loads(said["classes"]) == list("0123456789")
        assert (
            said["input"] == "images: float32 [n, 1, 28, 28] in [0, 1] (bytes / 255); normalisation is inside"
        )
        assert said["output"].startswith("logits: float32 [n, 10]")
        for name in ("trial_id", "arm", "seed", "val_accuracy", "test_accuracy", "parameters", "spec_hash"):
            assert said[name] == str(row[name])
        assert (said["run"], said["dataset"], said["commit"]) == ("nets", "digits", "c0ffee")
        assert len(said["dataset_fingerprint"]) == 64
        assert said["stage_key"] == trained.run.journal.records()[made.trial.trial_id].stages[-2]["key"]
        assert f"torch {torch.__version__}" in said["trained_with"]
        assert "fold" not in said  # it has none: left out, not "None"
        extra = {METADATA_FILE: ""}
        torch.export.load(exported["base.pt2"].path, extra_files=extra)
        assert json.loads(extra[METADATA_FILE]) == said

    @pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
    def test_holds_the_weights_and_nothing_of_this_machine(
        self, exported: dict[str, Exported], suffix: str
    ) -> None:
        """One file with all in it; torch would add source lines, with paths, to every layer."""
        made = exported["base" + suffix]
        assert made.size_bytes > 4 * made.record.trial["parameters"]
        content = [made.path.read_bytes()]
        if suffix == ".pt2":
            with zipfile.ZipFile(made.path) as archive:
                content = [archive.read(name) for name in archive.namelist()]
        for part in content:
            assert str(Path(cli.__file__).parent).encode() not in part
        assert {path.name for path in made.path.parent.iterdir()} == set(FILES)

    def test_int8_weights_stay_a_byte_each(self) -> None:
        """Folded with their scales into float32, as torch has it, the file would be as large as before."""
        wide = {**SWEEP["base"]["model"], "filters": [20, 40]}  # type: ignore[index]
        sizes = {arm: _untrained_bytes(wide, arm) for arm in ("base", "int8")}
        assert sizes["int8"] < 0.5 * sizes["base"]

    def test_runs_in_a_process_that_has_never_heard_of_lightsweep(
        self, exported: dict[str, Exported], digits: tuple[Tensor, Tensor], tmp_path: Path
    ) -> None:
        images, labels = digits
        np.save(tmp_path / "images.npy", images.numpy())
        onnx = (
            "import sys, json, numpy, onnxruntime\n"
            "session = onnxruntime.InferenceSession(sys.argv[1])\n"
            "classes = json.loads(session.get_modelmeta().custom_metadata_map['classes'])\n"
            "logits = session.run(None, {'images': numpy.load(sys.argv[2])})[0]\n"
            "assert 'torch' not in sys.modules\n"
        )
        pt2 = (
            "import sys, json, numpy, torch\n"
            "extra = {'metadata.json': ''}\n"
            "module = torch.export.load(sys.argv[1], extra_files=extra).module()\n"
            "classes = json.loads(json.loads(extra['metadata.json'])['classes'])\n"
            "logits = module(torch.from_numpy(numpy.load(sys.argv[2]))).numpy()\n"
        )
        last = (
            "assert not any(name.startswith('lightsweep') for name in sys.modules)\n"
            "print(''.join(classes[place] for place in logits.argmax(1)))"
        )
        for name, code in (("base.onnx", onnx), ("base.pt2", pt2)):
            made = exported[name]
            done = subprocess.run(
                [sys.executable, "-I", "-c", code + last, made.path, tmp_path / "images.npy"],
                cwd=tmp_path, capture_output=True, text=True, check=True, timeout=HANGS_SECONDS,
            )  # fmt: skip
            predicted = torch.tensor([int(digit) for digit in done.stdout.strip()])
            assert (predicted == labels).double().mean() == made.agreement.accuracy

    def test_importing_the_code_imports_no_onnx(self) -> None:
        """Other commands must not pay for what only an export needs."""
        code = (
            "import sys, lightsweep.cli.main, lightsweep.deliver.export, lightsweep.deliver.measure\n"
            "assert not {'onnx', 'onnxscript', 'onnxruntime'} & set(sys.modules)"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=HANGS_SECONDS)


def _untrained_bytes(model: dict[str, Any], arm: str) -> int:
    changed = {
        **SWEEP,
        "base": {**SWEEP["base"], "model": model},
        "ablation": {"arms": {"int8": ARMS["int8"]}},
    }  # type: ignore[dict-item]
    planned = plan(Sweep.model_validate(changed), lambda spec: describe(spec, Path()))
    trial = next(trial for trial in planned.trials if trial.arm == arm)
    result = exporting.StageResult(weights={}, metrics={"network": "fused"})
    net = exporting.final_net(trial, result)
    return len(make_file(".onnx", net, (1, 28, 28)))


class Offset(nn.Module):
    """A net of no use whose logits are the first ten pixels, plus a number; called as nets are."""

    def __init__(self, by: float = 0.0) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.full((10,), by))

    def forward(self, images: Tensor, _: Tensor) -> tuple[Tensor]:
        return (images.flatten(1)[:, :10] + self.by,)


class OneAtATime(Offset):
    """A net that cannot take another batch than that of its example."""

    def forward(self, images: Tensor, _: Tensor) -> tuple[Tensor]:
        return (images.reshape(2, -1)[:, :10] + self.by,)


class TestComparison:
    images = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = images.flatten(1)[:, :10].argmax(1)

    @pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
    def test_of_a_file_with_its_own_net(self, suffix: str) -> None:
        found = compare(make_file(suffix, Offset(), (1, 4, 4)), suffix, Offset(), self.images, self.labels)
        assert (found.images, found.largest_difference, found.accuracy) == (40, 0.0, 1.0)

    @pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
    def test_gives_the_largest_difference(self, suffix: str) -> None:
        """Equal predictions, for all logits are a quarter greater."""
        found = compare(
            make_file(suffix, Offset(0.25), (1, 4, 4)), suffix, Offset(), self.images, self.labels
        )
        assert found.largest_difference == pytest.approx(0.25, abs=1e-6)

    @pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
    def test_one_other_prediction_of_forty_is_refused(self, suffix: str) -> None:
        images, other = self.images.clone(), Offset()
        images[17] = 0
        images[17, 0, 0, :3] = torch.tensor([0.5, 0.5 - 1e-4, 0.0])
        with torch.no_grad():
            other.by[1] = 2e-4  # decides that image alone
        others = (other(images, images)[0].argmax(1) != Offset()(images, images)[0].argmax(1)).sum()
        assert others == 1
        with pytest.raises(ExportError, match=r"differ for 1 of 40 test images, .* by up to 0\.0002$"):
            compare(make_file(suffix, Offset(), (1, 4, 4)), suffix, other, images, self.labels)

    def test_logits_that_are_no_numbers_are_refused(self) -> None:
        content = make_file(".onnx", Offset(float("nan")), (1, 4, 4))
        with pytest.raises(ExportError, match="differ by up to nan"):
            compare(content, ".onnx", Offset(float("nan")), self.images, self.labels)

    def test_a_damaged_file_is_refused_in_one_line(self) -> None:
        for suffix in (".onnx", ".pt2"):
            content = make_file(suffix, Offset(), (1, 4, 4))
            with pytest.raises(ExportError, match=r"^nothing was written: the exported net cannot be run \("):
                compare(content[: len(content) // 2], suffix, Offset(), self.images, self.labels)

    def test_a_file_for_one_batch_size_is_no_file(self) -> None:
        """What is exported must take any batch, else torch's many pages become a line."""
        with pytest.raises(ExportError, match=r"^torch cannot export this net to \.onnx \(") as caught:
            make_file(".onnx", OneAtATime(), (1, 4, 4))
        assert len(str(caught.value)) < 400

    def test_images_are_taken_from_the_whole_test_set(self) -> None:
        """An image folder's images stand class after class."""
        labels = np.repeat(np.arange(10), 30)
        pixels = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (300, 2, 3, 1))
        images, found = some_images(Images(pixels, labels), at_most=50)
        assert torch.bincount(found).tolist() == [5] * 10
        assert (images.shape, images.dtype) == ((50, 1, 2, 3), torch.float32)
        assert torch.equal(images[:, 0, 0, 0], found / 255)
        assert len(some_images(Images(pixels, labels))[0]) == 300


class TestCommand:
    def test_says_what_it_made_and_how_it_was_checked(
        self, trained: Run, tmp_path: Path, lightsweep: Any
    ) -> None:
        """A beginning of the id will do; nothing else reaches the terminal, from torch or from C++."""
        output, id_ = tmp_path / "model.onnx", trained.id_of("base")
        said = lightsweep("export", trained.run.folder, id_[:6], "-o", output)
        assert (said.status, said.err) == (0, "")
        lines = said.out.splitlines()
        size = output.stat().st_size
        assert lines[0] == f"{output}: {size:,} bytes, 5,694 parameters: base (seed 0)"
        assert lines[1] == "images float32 [n, 1, 28, 28] in [0, 1] to logits float32 [n, 10], for any n"
        assert lines[2].startswith(
            "checked on 359 test images against PyTorch: predictions are equal, logits differ by at most "
        )
        assert 0 < float(lines[2].split()[-1]) < 1e-4
        share = f"{trained.run.journal.records()[id_].trial['test_accuracy']:.2%}"
        assert lines[3] == f"accuracy on these images {share} (recorded on all 359: {share})"
        assert len(lines) == 4
        assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]

    def test_warns_of_a_net_that_other_code_trained(
        self, trained: Run, tmp_path: Path, lightsweep: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A layer that was changed since would make another net of the same weights."""
        monkeypatch.setattr("lightsweep.trials.keys.training_code", lambda: {"source": "other"})
        said = lightsweep("export", trained.run.folder, trained.id_of("base"), "-o", tmp_path / "model.pt2")
        assert said.out.startswith("warning: the trial was trained with different training code or images")
        assert len(said.out.splitlines()) == 5

    def test_chooses_for_a_budget(self, trained: Run, tmp_path: Path, lightsweep: Any) -> None:
        output = tmp_path / "model.pt2"
        said = lightsweep("export", trained.run.folder, "--best-under", 2500, "--output", output)
        assert said.status == 0, said.err
        assert said.out.startswith(
            f"trial {trained.id_of('batch norm')}: batch norm, the only arm with at most 2,500 parameters by "
        )
        assert output.is_file()

    @pytest.mark.data
    @pytest.mark.parametrize(
        "arms", [["base"], pytest.param(ARMS, marks=pytest.mark.slow)], ids=["base", "all"]
    )
    def test_agrees_on_a_thousand_images_of_mnist(
        self, tmp_path: Path, lightsweep: Any, real_data: Path, arms: Iterable[str]
    ) -> None:
        dataset = {"name": "mnist", "validation": 500, "train_limit": 600}
        chosen = {arm: ARMS[arm] for arm in arms if arm in ARMS}
        run = Run(
            tmp_path,
            {**SWEEP, "dataset": dataset, "ablation": {"arms": chosen} if chosen else None},
            real_data,
        )
        for arm in arms:
            for suffix in (".onnx", ".pt2"):
                output = tmp_path / f"model{suffix}"
                said = lightsweep(
                    "export", run.run.folder, run.id_of(arm), "-o", output, "--data-dir", real_data
                )
                assert said.status == 0, said.err
                assert "checked on 1,000 test images against PyTorch: predictions are equal" in said.out
                assert float(said.out.splitlines()[2].split()[-1]) < (0.5 if arm == "int8" else 1e-3)


class TestRefusal:
    """One line, exit status 2, no file, no draft, and what was there before stays."""

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["ID", "-o", "model.onx"], "(ONNX) or .pt2 (torch.export); did you mean .onnx?"),
            (["ID", "-o", "model"], "error: -o model: the suffix selects the format, .onnx (ONNX) or "),
            (["ID", "-o", "no/model.onnx"],
             "error: no/model.onnx: there is no folder no; create it, or name another file with -o"),
            (["ID", "-o", "/proc/model.onnx"], "error: /proc/model.onnx: cannot be written ("),
            (["ID", "-o", "folder.onnx"], "folder.onnx"),
            (["-o", "model.onnx"], "error: give either a TRIAL or --best-under N"),
            (["ID", "--best-under", "99", "-o", "model.onnx"], "error: give either a TRIAL or --best-under"),
            (["ffffffffffffff", "-o", "model.onnx"],
             ": there is no trial ffffffffffffff; completed and best by validation: "),
            (["--best-under", "99", "-o", "model.onnx"], ": no completed arm has at most 99 parameters; the "
             "smallest, batch norm, has 2,358: --best-under 2358"),
            (["--best-under", "0", "-o", "model.onnx"], "0 is not in the range x>=1"),
            (["ID"], "Missing option '-o'"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )  # fmt: skip
    def test_of_wrong_input(
        self, trained: Run, tmp_path: Path, lightsweep: Any, monkeypatch: pytest.MonkeyPatch,
        arguments: list[str], expected: str,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        Path("folder.onnx").mkdir()
        id_ = trained.id_of("base")
        said = lightsweep("export", trained.run.folder, *(id_ if a == "ID" else a for a in arguments))
        assert (said.status, said.out) == (2, "")
        assert said.err.startswith("error: ")
        assert expected in said.err
        assert said.err.count("\n") == 1
        assert [path.name for path in tmp_path.rglob("*")] == ["folder.onnx"]

    def test_of_an_almost_right_id_names_the_right_one(self, trained: Run) -> None:
        id_ = trained.id_of("single")
        with pytest.raises(InputError, match=rf"no trial {id_[:-1]}x; did you mean {id_}\?$"):
            find_completed(trained.run, id_[:-1] + "x")

    def test_when_the_weights_are_gone_or_damaged(self, tmp_path: Path) -> None:
        run = Run(tmp_path, {**SWEEP, "ablation": None}, tmp_path)
        key = run.run.journal.records()[run.id_of("base")].stages[-2]["key"]
        file = stage_file(run.store, key)
        content = bytearray(file.read_bytes())
        content[-100] ^= 1
        file.write_bytes(content)
        command = (
            f"; lightsweep run {run.run.folder / 'sweep.yaml'} --out {tmp_path} --fresh trains the run again"
        )
        with pytest.raises(InputError, match=r"are damaged .*checksum") as caught:
            run.export("base", tmp_path / "model.onnx")
        assert str(caught.value).endswith(command)
        assert file.exists()  # an export reads only
        file.unlink()
        with pytest.raises(InputError, match="are no longer stored; ") as caught:
            run.export("base", tmp_path / "model.onnx")
        assert str(caught.value).endswith(command)
        assert not list(tmp_path.glob("model*"))

    def test_when_the_net_is_another_now(self, trained: Run, tmp_path: Path) -> None:
        """sweep.yaml was changed behind the records' back, or an npz file has other images."""
        other = Sweep.model_validate(
            {**SWEEP, "dataset": {**trained.sweep.dataset.model_dump(), "image_size": 20}}
        )
        planned = plan(other, lambda spec: describe(spec, tmp_path))
        id_ = trained.id_of("base")
        with pytest.raises(InputError, match="no longer in the plan"):
            export(trained.run, planned, id_, trained.store, tmp_path / "m.onnx", tmp_path)
        (trial,) = (trial for trial in planned.trials if trial.arm == "base")
        trial.__dict__["trial_id"] = id_
        with pytest.raises(InputError, match=r"do not fit the net .*RuntimeError"):
            export(trained.run, planned, id_, trained.store, tmp_path / "m.onnx", tmp_path)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("fault", [KeyboardInterrupt(), ExportError("other"), OSError(28, "No space")])
    def test_leaves_no_draft_and_what_was_there(
        self, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
    ) -> None:
        """Also when Ctrl-C comes in the middle, or the disk is full."""
        output = tmp_path / "model.onnx"
        output.write_text("before")

        def fail(*_: object) -> None:
            assert len(list(tmp_path.iterdir())) == 2  # the draft is there
            raise fault

        monkeypatch.setattr(exporting, "compare", fail)
        expected = WriteError if isinstance(fault, OSError) else type(fault)
        with pytest.raises(expected):
            trained.export("base", output)
        assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
        assert output.read_text() == "before"

    def test_of_a_file_that_disagrees(
        self, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lightsweep: Any
    ) -> None:
        """An exporter with a fault: it writes another net's weights."""
        net = _net_of(trained, "single")
        right = netfile.make_file
        monkeypatch.setattr(exporting, "make_file", lambda suffix, _, *rest: right(suffix, net, *rest))
        said = lightsweep("export", trained.run.folder, trained.id_of("base"), "-o", tmp_path / "model.onnx")
        assert said.status == 2
        assert said.err.startswith("error: nothing was written: the exported net disagrees with PyTorch; ")
        assert not list(tmp_path.iterdir())


def _net_of(run: Run, arm: str) -> nn.Module:
    found = run.run.journal.records()[run.id_of(arm)]
    trial = next(trial for trial in run.planned.trials if trial.arm == arm)
    _, last = exporting.last_stage(run.run, found, run.store)
    return exporting.final_net(trial, last)


PLANNED = {"fold": None, "changes": {}, "keys": []}


class TestChoice:
    """From records made by hand: nothing else is asked."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> RunFolder:
        (tmp_path / "plan.json").write_text("[]")
        return RunFolder(tmp_path)

    def add(self, run: RunFolder, id_: str, arm: str, parameters: int, val: float, **other: Any) -> None:
        columns: dict[str, Any] = {
            "arm": arm, "status": "completed", "error": None, "parameters": parameters, "val_accuracy": val,
            "test_accuracy": 0.5,
        }  # fmt: skip
        run.journal.append(plain_record(id_, "1" * 64, "2" * 64, **columns | other))
        self.plan(run, id_, arm)

    def plan(self, run: RunFolder, id_: str, arm: str, seed: int = 0) -> None:
        entries = [*run.plan.trials(), {**PLANNED, "trial_id": id_, "arm": arm, "seed": seed}]
        (run.folder / "plan.json").write_text(json.dumps(entries))

    def test_is_by_mean_validation_of_the_arm_then_by_the_trial(self, run: RunFolder) -> None:
        """A single lucky trial does not make its arm the best; test accuracy decides nothing."""
        self.add(run, "a0", "lucky", 900, 0.99, test_accuracy=0.99)
        self.add(run, "a1", "lucky", 900, 0.80, test_accuracy=0.99, seed=1)
        self.add(run, "b0", "steady", 1000, 0.91, test_accuracy=0.10)
        self.add(run, "b1", "steady", 1000, 0.93, test_accuracy=0.05, seed=1)
        self.add(run, "c0", "large", 1001, 0.999)
        found = choose(run, 1000)
        assert (found.trial_id, found.arm, found.trials, found.arms) == ("b1", "steady", 2, 2)
        assert found.val_mean == pytest.approx(0.92)
        assert choose(run, 1001).trial_id == "c0"
        assert choose(run, 999).trial_id == "a0"

    def test_passes_over_what_failed_was_stopped_or_is_no_longer_planned(self, run: RunFolder) -> None:
        self.add(run, "a0", "a", 100, 0.9)
        self.add(run, "a1", "a", 100, 0.0, status="failed", error="NaN")
        self.add(run, "b0", "b", 100, 0.99, status="early_stopped")
        self.add(run, "c0", "c", 100, 0.99)
        (run.folder / "plan.json").write_text(json.dumps(run.plan.trials()[:-1]))
        found = choose(run, 100)
        assert (found.trial_id, found.val_mean, found.trials, found.arms) == ("a0", 0.9, 1, 1)

    def test_of_a_search_is_of_what_was_confirmed(self, run: RunFolder) -> None:
        """What a search drew is best in part by luck; the report's front is of the confirmed alone."""
        self.add(run, "a0", "net 0", 100, 0.95, phase="search")
        self.add(run, "a1", "net 1", 100, 0.99, phase="search")
        assert choose(run, 100).arm == "net 1"
        self.add(run, "b0", "net 0", 100, 0.93, phase="confirmation")
        self.add(run, "b1", "net 0", 100, 0.94, phase="confirmation", seed=1)
        found = choose(run, 100)
        assert (found.trial_id, found.trials, found.arms) == ("b1", 2, 1)
        assert found.val_mean == pytest.approx(0.935)

    def test_of_equals_is_the_smaller_one(self, run: RunFolder) -> None:
        self.add(run, "a0", "a", 300, 0.9)
        self.add(run, "b0", "b", 200, 0.9)
        self.add(run, "c0", "c", 200, 0.9)
        assert choose(run, 300).arm == "b"

    def test_is_not_made_between_data_sets(self, run: RunFolder) -> None:
        """Their accuracies cannot be compared: MNIST's would always win."""
        self.add(run, "a0", "a", 100, 0.99, dataset="mnist")
        self.add(run, "b0", "b", 200, 0.90, dataset="cifar10")
        with pytest.raises(
            InputError, match=r"on 2 data sets cannot be compared.*cifar10: b0 \(b\); mnist: a0"
        ):
            choose(run, 200)
        assert choose(run, 150).trial_id == "a0"

    @pytest.mark.parametrize("told_by", ["data_fingerprint", "config.dataset.path"])
    def test_is_not_made_between_files_of_one_kind(self, run: RunFolder, told_by: str) -> None:
        """Older records, which have no fingerprint, say where the images lay."""
        self.add(run, "a0", "a", 100, 0.99, dataset="npz", **{told_by: "one"})
        self.add(run, "b0", "b", 200, 0.90, dataset="npz", **{told_by: "two"})
        with pytest.raises(InputError, match="on 2 data sets cannot be compared"):
            choose(run, 200)

    def test_is_of_seeds_whose_every_fold_is_completed(self, run: RunFolder) -> None:
        """The arm of which only the easy fold came out is not the best for it."""
        for fold, val in enumerate((0.95, 0.80, 0.78)):
            self.add(run, f"a{fold}", "a", 100, val, fold=fold)
        self.add(run, "b0", "b", 100, 0.945, fold=0)
        self.add(run, "b1", "b", 100, 0.0, fold=1, status="failed")
        for fold, entry in enumerate(
            plan := [*run.plan.trials(), {**PLANNED, "trial_id": "b2", "arm": "b", "seed": 0}]
        ):
            entry["fold"] = fold % 3
        (run.folder / "plan.json").write_text(json.dumps(plan))
        found = choose(run, 100)
        assert (found.trial_id, found.arm, found.trials) == ("a0", "a", 3)
        assert found.val_mean == pytest.approx(2.53 / 3)

    def test_needs_a_completed_trial(self, run: RunFolder) -> None:
        with pytest.raises(InputError, match="no trial is completed yet"):
            choose(run, 10**6)

    def test_of_a_trial_that_is_not_finished_is_refused_with_a_near_one(self, run: RunFolder) -> None:
        """Planned, failed and stopped trials have no final net; the same arm's other trials come first."""
        self.plan(run, "d0", "d", seed=4)
        self.plan(run, "a2", "a", seed=9)
        with pytest.raises(
            InputError, match=r"trial d0 \(d, seed 4\) is not trained yet.*none is completed yet"
        ):
            find_completed(run, "d0")
        self.add(run, "a0", "a", 100, 0.8)
        self.add(run, "b0", "b", 100, 0.9)
        self.add(run, "c0", "c", 100, 0.0, status="failed", error="stage dual: NaN loss")
        self.add(run, "e0", "e", 100, 0.0, status="early_stopped")
        for trial, said in {
            "a2": r"trial a2 \(a, seed 9\) is not trained yet, so it has no final net; .*: a0$",
            "c": r"trial c0 \(c, seed 0\) failed \(stage dual: NaN loss\), so .*: b0, a0$",
            "e0": r"trial e0 \(e, seed 0\) was stopped early, so .*: b0, a0$",
            "a": "trial a matches 2 trials, such as a2, a0$",
        }.items():
            with pytest.raises(InputError, match=said):
                find_completed(run, trial)
        assert find_completed(run, "b") == "b0"
