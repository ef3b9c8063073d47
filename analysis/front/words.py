"""The page's text on accuracy against a cost.

Tables are rows of `mark_membership` by that cost.
"""

import pandas as pd

from analysis import notation
from analysis.arms import ARM_KEY
from analysis.front.figure import FEWEST_FOR_BARS, MOST_WITH_BARS
from analysis.front.result import FEW_SEEDS, REFERENCE_PARAMETERS, RESAMPLES, Cost, covered_share

BYTES_ARE = (
    "Bytes are those of the weights as stored: 4 each (float32); for nets pruned weight by weight, the "
    "remaining weights and a one-bit mask; for int8 nets, 1 each and the scales."
)

LATENCY_IS = (
    "Latency is the time for one image on one thread: the median that lightsweep costs measured, or the "
    "shortest of 30 timings by a search."
)


def state_finding(dataset: str, drawn: pd.DataFrame, front: pd.DataFrame, cost: Cost = "parameters") -> str:
    """State in a sentence how many of the drawn arms form the front, and what its ends are."""
    ends = [
        f"{notation.amount(cost, arm[cost])} with "
        f"{notation.percent_spread(arm['val_mean'], arm['val_std'])} validation accuracy"
        for arm in front.iloc[[0, -1]].to_dict("records")
    ]
    span = f"from {ends[0]} to {ends[1]}" if len(front) > 1 else ends[0]
    by = "" if cost == "parameters" else f" by {notation.objective(cost)}"
    front_size = f"{len(front):,} of {notation.counted(len(drawn), 'arm')}"
    return f"On {dataset}, {front_size} {'form' if len(front) > 1 else 'is'} the Pareto front{by}: {span}."


def state_basis(judged: pd.DataFrame) -> list[str]:
    """State what the front is based on if there are searches among the rows of `judged_trials`."""
    runs = judged["run"].nunique()
    sentences = []
    for phase in ("confirmation", "search"):
        trials = judged[judged["phase"] == phase]
        if trials.empty:
            continue
        names = [str(run) for run in trials["run"].unique()]
        place = f"Of {notation.listed(names)}: " if runs > 1 else ""
        nets = notation.counted(trials[ARM_KEY].drop_duplicates().shape[0], "net")
        sentences.append(
            f"{place}{nets}, confirmed and shown with fresh seeds only: the search’s own seed "
            "selected them, and the best of many single results are lucky."
            if phase == "confirmation"
            else f"{place}unconfirmed, single-seed results of a search ({nets}), the best of which are "
            "lucky: no net has a completed trial with fresh seeds."
        )
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def caption_pareto(arms: pd.DataFrame, drawn: pd.DataFrame, cost: Cost = "parameters") -> str:
    """Explain how to read the figure and, for parameters, state what the front covers."""
    n = sorted(drawn["n_seeds"].unique())
    seeds = notation.counted(n[0], "seed") if len(n) == 1 else f"{n[0]} to {n[-1]} seeds"
    sentences = [
        "Up and to the left is better. An arm is on the front if no other is at least as good in both "
        f"{notation.objective(cost)} and mean validation accuracy and better in one. Test accuracy is not "
        "used for that: in both views the line joins the same arms, numbered as in the table below.",
        f"Each point is the mean over an arm’s {seeds} (n), folds averaged within their seed; ± is "
        "the sample standard deviation over seeds. A seed with a missing fold has no result.",
        *_explain_lacking(drawn),
        _explain_bars(drawn),
        "The opacity of a point’s fill is the probability that its arm is on the front: solid is 100%, "
        "hollow 0%.",
    ]
    if len(arms) > len(drawn):
        undrawn = notation.counted(len(arms) - len(drawn), "arm")
        is_unknown = arms.loc[arms["n_seeds"] > 0, cost].isna().any()
        unknown = f" or known {notation.objective(cost)}" if is_unknown else ""
        sentences.append(f"Not drawn: {undrawn} without a result{unknown}.")
    if cost == "weight_bytes":
        sentences.append(BYTES_ARE)
    elif cost == "latency_ms":
        sentences.append(LATENCY_IS)
    elif cost == "parameters":
        sentences += _state_hypervolume(drawn)
    return " ".join(sentences)


def _explain_lacking(drawn: pd.DataFrame) -> list[str]:
    """State how many of the arms lack seeds, and how their means were corrected."""
    lacking = int((drawn["n_seeds"] < drawn["n_seeds_tried"]).sum())
    corrected = int(drawn["is_corrected"].sum())
    sentences = []
    if lacking:
        have = "has" if lacking == 1 else "have"
        sentences.append(
            f"{notation.counted(lacking, 'arm')} {have} seeds without a result (n: k of n): seeds that "
            "diverged are not missing at random, and a mean over the others flatters such an arm."
        )
    if corrected:
        sentences.append(
            f"The mean of {notation.counted(corrected, 'arm')} (*) is over other seeds than the others’ and "
            "is corrected for that: arm + seed, by least squares."
        )
    return sentences


def _explain_bars(drawn: pd.DataFrame) -> str:
    if drawn["n_seeds"].max() < FEWEST_FOR_BARS:
        return "There are no error bars: an interval needs three seeds or more."
    some = " of arms on the front" if len(drawn) > MOST_WITH_BARS else ""
    return (
        f"Error bars are 95% intervals of the mean over seeds{some} (Student’s t; folds averaged first), for "
        "three seeds or more."
    )


def _state_hypervolume(drawn: pd.DataFrame) -> list[str]:
    reference = notation.count(REFERENCE_PARAMETERS)
    sentences = [
        f"Hypervolume of the front: {covered_share(drawn):.4f}. That is the share of the area between the "
        f"reference point ({reference} parameters, accuracy 0%) and the best conceivable net (1 parameter, "
        "accuracy 100%) that some arm dominates, with parameters on a log scale and accuracy by "
        f"validation; arms with {reference} parameters or more add nothing."
    ]
    runs = drawn.groupby("run", sort=False)
    if len(runs) > 1:
        shares = ", ".join(f"{run} {covered_share(rows):.4f}" for run, rows in runs)
        sentences.append(f"For each run’s own front: {shares}.")
    return sentences


def explain_probability(drawn: pd.DataFrame, cost: Cost = "parameters") -> str:
    """Explain the column of probabilities, and name arms off the front that might be on it."""
    if drawn["front_probability"].isna().all():
        return (
            "No arm has results at two seeds or more, so the probability of being on the front is "
            f"unknown ({notation.MISSING})."
        )
    draws = notation.count(RESAMPLES)
    sentences = [
        f"On the front, probability: the share of {draws} bootstrap resamples of the seeds, drawn for all "
        "arms together, in which the arm’s mean validation accuracy puts it on the front; "
        f"{notation.MISSING} for an arm with a single seed."
        if drawn["n_seeds"].max() >= FEW_SEEDS
        else f"On the front, probability: the share of {draws} draws of the arms’ means from their posterior "
        "in which the arm is on the front. With fewer than "
        f"{FEW_SEEDS} seeds, the spread of results is estimated from all arms together, as one normal "
        "variance, after the effects of arms and seeds are subtracted."
    ]
    off = drawn[~drawn["on_front"] & (drawn["front_probability"] >= 0.005)]
    likeliest = off.sort_values(["front_probability", "label"], ascending=[False, True]).head(3)
    if not likeliest.empty:
        named = "; ".join(
            f"{arm['label']} ({notation.amount(cost, arm[cost])}) {notation.share(arm['front_probability'])}"
            for arm in likeliest.to_dict("records")
        )
        sentences.append(f"Off the front, but most likely to be on it: {named}.")
    return " ".join(sentences)
