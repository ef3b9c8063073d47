"""The data inside a page: what goes in comes out, compactly."""

import base64
import gzip
import json

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from analysis.page.payload import by_column, confusions, epochs_by_trial, pack, stages_by_trial

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, width=64)
)


def unpack(text):
    return gzip.decompress(base64.b64decode(text)).decode()


def cells(column):
    return column if isinstance(column, list) else [column["of"][code] for code in column["at"]]


@given(st.text())
def test_a_packed_text_comes_back_and_ends_no_script(text):
    packed = pack(text)
    assert unpack(packed) == text
    assert "<" not in packed
    assert packed == pack(text)


@given(st.lists(VALUES, max_size=40))
def test_a_column_comes_back_with_its_types(values):
    column = by_column(pd.DataFrame({"a": pd.Series(values, dtype=object)}))["a"]
    found = cells(json.loads(json.dumps(column)))
    assert [(type(value), value) for value in found] == [(type(value), value) for value in values]


def test_columns_of_every_kind_are_plain():
    table = pd.DataFrame(
        {
            "text": pd.Series(["a", None, "c"], dtype="str"),
            "count": pd.Series([1, None, 3], dtype="Int64"),
            "share": [0.1, np.nan, 1 / 3],
            "flag": pd.Series([True, None, False], dtype="boolean"),
        }
    )
    found = {name: cells(column) for name, column in by_column(table).items()}
    assert found == {
        "text": ["a", None, "c"],
        "count": [1, None, 3],
        "share": [0.1, None, 1 / 3],
        "flag": [True, None, False],
    }


def test_few_different_values_are_stored_once():
    column = by_column(pd.DataFrame({"a": ["mnist", "digits"] * 50}))["a"]
    assert column == {"of": ["mnist", "digits"], "at": [0, 1] * 50}


def test_epochs_stand_in_the_order_of_their_trials():
    trials = pd.DataFrame({"run": "r", "trial_id": ["b", "none", "a"]})
    common = {"run": "r", "is_kept": True, "train_accuracy": 0.25, "val_accuracy_b": None}
    rows = [
        {"trial_id": "a", "trial_epoch": 2, "stage": "fusion", "val_accuracy": 0.98765},
        {"trial_id": "b", "trial_epoch": 1, "stage": "dual", "val_accuracy": 0.5},
        {"trial_id": "a", "trial_epoch": 1, "stage": "dual", "val_accuracy": None},
        {"trial_id": "of no trial", "trial_epoch": 1, "stage": "dual", "val_accuracy": 0.1},
    ]
    epochs = pd.DataFrame([{**common, **row, "val_accuracy_a": row["val_accuracy"]} for row in rows])
    found = epochs_by_trial(epochs.astype({"val_accuracy_b": float}), trials)
    assert found["start"] == [0, 1, 1, 3]
    assert [found["stages"][code] for code in found["stage"]] == ["dual", "dual", "fusion"]
    assert found["val"] == found["a"] == [5_000, None, 9_876]  # whole 1/10,000
    assert found["b"] == [None] * 3
    assert found["train"] == [2_500] * 3
    assert found["kept"] == [1] * 3


def test_stages_stand_in_the_order_of_their_trials():
    trials = pd.DataFrame({"run": "r", "trial_id": ["b", "a"]})
    stage = {"run": "r", "epochs": 1, "epochs_trained": 1, "waited_seconds": 0.0, "host": "h"}
    rows = [("a", 1, "stored"), ("b", 0, "trained"), ("a", 0, "trained")]
    table = pd.DataFrame(
        [
            {
                **stage,
                "trial_id": trial,
                "stage_index": index,
                "stage": f"s{index}",
                "origin": origin,
                "seconds": 1.239,
            }
            for trial, index, origin in rows
        ]
    )
    found = stages_by_trial(table, trials)
    assert found["start"] == [0, 1, 3]
    assert cells(found["stage"]) == ["s0", "s0", "s1"]
    assert cells(found["origin"]) == ["trained", "trained", "stored"]
    assert cells(found["seconds"]) == [1.24] * 3


def test_confusions_are_flat_and_large_ones_are_left_out():
    small, large = [[5, 1], [0, 4]], np.eye(21, dtype=int).tolist()
    texts = [json.dumps(small), None, json.dumps(large)]
    assert confusions(pd.DataFrame({"test_confusion": texts})) == [[5, 1, 0, 4], None, None]
