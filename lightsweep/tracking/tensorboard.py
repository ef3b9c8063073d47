"""TensorBoard tracker: event files under RUN/tensorboard."""

import shutil
from pathlib import Path
from typing import Any

from lightsweep.runfolder.records import Record
from lightsweep.system.files import read_text, refuse_link, write_text
from lightsweep.tracking.words import (
    EPOCH_METRICS,
    FINAL_METRICS,
    TAGS,
    as_code,
    config_names,
    end_of,
    import_optional,
    present,
    stage_names,
    timed_epochs,
    version_of_record,
)

HPARAMS = ("arm", "seed", "fold", "dataset", "status")
"""Columns that identify a trial in TensorBoard's HParams tab, besides its settings."""


class TensorBoard:
    """Event files under RUN/tensorboard: a folder per trial, and `sweep` for the sweep's progress."""

    def __init__(self, run_folder: Path, sweep_name: str, sweep_text: str) -> None:
        import_optional("tensorboard", "tensorboard")
        self.summary = import_optional("torch.utils.tensorboard.summary", "tensorboard")
        self.writer = import_optional("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self.folder, self.name, self.text = run_folder / "tensorboard", sweep_name, sweep_text
        refuse_link(self.folder)
        self.label, self.is_remote = f"TensorBoard ({self.folder})", False
        self.sweep: Any = None

    def connect(self) -> None:
        """Open the event file of the sweep."""
        self.sweep = self.writer(str(self.folder / "sweep"))
        self.sweep.add_text("sweep", f"# {self.name}\n\n" + as_code(self.text), 0)
        self.sweep.flush()

    def show(self, record: Record) -> None:
        """Show a trial, replacing an older record of it."""
        folder = self.folder / record.trial["trial_id"]
        marker = folder / "shown"  # written last: a folder without it was left by a killed run
        version = version_of_record(record.trial)
        if marker.exists() and read_text(marker) == version:
            return
        shutil.rmtree(folder, ignore_errors=True)
        writer = self.writer(str(folder))
        try:
            self._write(writer, record)
            writer.flush()  # raises errors of the writer's thread, which close does not
        finally:
            writer.close()
        write_text(marker, version)

    def _write(self, writer: Any, record: Record) -> None:
        trial, end = record.trial, end_of(record.trial)
        for epoch, moment in timed_epochs(record):
            for name in present(epoch, EPOCH_METRICS):
                writer.add_scalar(f"epoch/{name}", epoch[name], epoch["trial_epoch"], moment)
        finals, last = present(trial, FINAL_METRICS), len(record.epochs)
        for name in finals:
            writer.add_scalar(name, trial[name], last, end)
        settings = present(trial, (*HPARAMS, *config_names(trial)))
        values = {name: trial[name] for name in settings}
        # add_hparams would write a second event file, which a running TensorBoard misses
        for part in self.summary.hparams(values, dict.fromkeys(finals, 0.0)):
            writer.file_writer.add_summary(part, None, end)
        lines = [f"{name}: {trial[name]}" for name in present(trial, TAGS)]
        writer.add_text("record", as_code("\n".join([*lines, f"stages: {stage_names(record)}"])), last, end)

    def show_counts(self, counts: dict[str, float], step: int) -> None:
        """Show the sweep's progress after `step` trials."""
        for name, value in counts.items():
            self.sweep.add_scalar(f"sweep/{name}", value, step)
        self.sweep.flush()

    def finish(self) -> None:
        """Close the sweep's event file."""
        self.sweep.flush()
        self.sweep.close()
