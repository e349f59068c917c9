"""A fair comparison of models of several families, from their trainings to what may be said of them."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from pathlib import Path

from seamline.base.coco import Record, read_coco
from seamline.base.errors import SeamlineError
from seamline.base.files import delete
from seamline.evaluation.kinds import PLURALS
from seamline.experiments.fairness import Fair, same_for_all
from seamline.experiments.family_differences import differences, figures_of, speed_ratios, summaries
from seamline.experiments.family_speed import TIMED, Exported, exported, timed
from seamline.experiments.family_trainings import Contest, Data, Seeded, Trainings
from seamline.params.loading.loader import Params
from seamline.training.finished import trainings_folder


def compare_families(fair: Fair, params: Params, data: Data, trials: int, seeds: Sequence[int]) -> Record:
    """Train, evaluate, export and time all models; what reports/families.json says.

    Nothing but the store of finished trainings is written: exported models are deleted at the end.

    Raises:
        SeamlineError: what a training, an export or the benchmark raises.
    """
    trainings = Trainings(fair, data, trials, seeds)
    trainings.check()
    with only_comparison(trainings_folder().parent / "families") as work:
        contests = []
        for number, entrant in enumerate(fair.entrants):
            folder = work / str(number)
            folder.mkdir()
            contests.append(trainings.contest(entrant, folder))
        models = [exported(one.entrant.model, one.weights, one.seeds[0].training, params) for one in contests]
        speed, machine = timed(models, data.split, data.images, params, fair.kind)
    names = [category.name for category in read_coco(data.split / "test.json").category_refs()]
    figures = [figures_of(one.entrant.model, [seed.test[fair.kind] for seed in one.seeds]) for one in contests]
    rounds = [(name, rows[TIMED]["throughput_rounds_img_s"]) for name, rows in speed.items()]
    return {
        "kind": fair.kind,
        "same": {**same_for_all(fair, params, data.split, names, seeds), "trials": trials},
        "not_the_same": [*fair.not_the_same, *devices_to_sentences(contests), *edges_to_sentences(contests)],
        "models": {
            one.entrant.model: contest_to_record(one, model, speed[one.entrant.model], fair.kind)
            for one, model in zip(contests, models, strict=True)
        },
        "differences": differences(figures, fair.kind),
        "speed": speed_ratios(rounds),
        "machine": machine,
    }


@contextlib.contextmanager
def only_comparison(folder: Path) -> Iterator[Path]:
    """An empty folder, which is deleted at the end, or by the next comparison after a kill.

    Raises:
        SeamlineError: when another comparison is running in this project.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SeamlineError(
                "families: another comparison is running in this project; wait for it or stop it."
            ) from None
        work = folder / "work"
        delete(work)
        work.mkdir()
        try:
            yield work
        finally:
            delete(work)


def contest_to_record(contest: Contest, model: Exported, speed: dict[str, Record], kind: str) -> Record:
    """All that is known of one model."""
    return {
        "family": contest.entrant.family,
        "licence": model.licence,
        "start": contest.entrant.start,
        "parameters": model.parameters,
        "lr0": contest.lr0,
        "trials": [
            {
                "lr0": trial.lr0,
                f"val_{kind}_mAP50_95": None if trial.value is None else round(trial.value, 6),
                "training": trial.training,
            }
            for trial in contest.trials
        ],
        "seeds": {str(one.seed): seed_to_record(one) for one in contest.seeds},
        **summaries([one.test for one in contest.seeds]),
        "speed": speed,
    }


def seed_to_record(seeded: Seeded) -> Record:
    figures = {
        f"test_{kind}_{measure}": measured.summary[measure]
        for kind, measured in seeded.test.items()
        for measure in ("mAP50_95", "mAP50")
    }
    return {**figures, "training": seeded.training}


def devices_to_sentences(contests: Sequence[Contest]) -> list[str]:
    """Where not all trainings ran on one kind of device, or were interrupted otherwise."""
    records = [trial.training for one in contests for trial in one.trials if trial.training is not None]
    records += [seeded.training for one in contests for seeded in one.seeds]
    kinds = sorted({device_to_text(record) for record in records})
    found = [f"Trainings ran on different devices: {'; '.join(kinds)}."] if len(kinds) > 1 else []
    if any(record["processor_s"] is None for record in records):
        found.append("What some trainings took is not known, as they were made or begun by another command.")
    return found


def device_to_text(record: Record) -> str:
    threads = record["threads"]
    return record["device"] if threads is None else f"{record['device']}, {threads} threads"


def edges_to_sentences(contests: Sequence[Contest]) -> list[str]:
    """Models whose best learning rate was the lowest or the highest tried."""
    found = []
    for one in contests:
        rates = sorted(trial.lr0 for trial in one.trials)
        if one.lr0 in (rates[0], rates[-1]):
            end = "lowest" if one.lr0 == rates[0] else "highest"
            found.append(
                f"The best lr0 of {one.entrant.model} was the {end} that was tried, {one.lr0:g}; "
                "more trials may find a better one."
            )
    return found


def comparison_to_lines(record: Record) -> list[str]:
    """The result for a terminal."""
    kind = record["kind"]
    head = f"{'':<40}{kind + ' mAP50-95':>14}{'range of seeds':>18}{'p50 ms':>9}{'images/s':>10}"
    lines = [f"{head}   licence; speed is OpenVINO's, from file to {PLURALS[kind]}"]
    for name, model in record["models"].items():
        found, speed = model[f"test_{kind}_mAP50_95"], model["speed"][TIMED]
        low, high = found["range"]
        lines.append(
            f"{name:<40}{found['mean']:>14.3f}{f'{low:.3f} to {high:.3f}':>18}"
            f"{speed['latency_ms']['p50']:>9.1f}{speed['throughput_img_s']:>10.1f}   {model['licence']}"
        )
    return [*lines, *(one["says"] for one in (*record["differences"], *record["speed"]))]
