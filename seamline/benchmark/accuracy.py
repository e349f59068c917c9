"""The accuracy of the benchmark's rows on test, beside that of the row that the others are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from seamline.base.coco import Record
from seamline.base.errors import SeamlineError
from seamline.evaluation.average_precision import Evaluation, average_precision, read_ground_truth
from seamline.evaluation.kinds import primary_kind
from seamline.evaluation.measure import groups_beside, groups_of_images
from seamline.export.drops import drop_interval
from seamline.params.evaluate import Evaluate


def accuracy_figures(
    test: Path, found: Mapping[str, Sequence[Record]], reference: str, kinds: Sequence[str], limits: Evaluate
) -> dict[str, Record]:
    """Each row's mAP50-95 on test: the primary one with its difference to the reference's, then the other one.

    The interval of the difference is that of INT8's gate with its sign reversed, so that one rule decides of every
    precision: None for few groups, and for the reference itself.

    Args:
        test: the split's COCO file, beside groups.json.
        found: COCO results of each row.
        reference: the row that the others are compared with.
        kinds: of shapes that the models find.
        limits: the section evaluate.

    Raises:
        SeamlineError: when there is nothing to measure with.
    """
    truth, groups, primary = read_ground_truth(test), groups_beside(test), primary_kind(kinds)

    def measured(records: Sequence[Record], kind: str) -> Evaluation:
        return average_precision(truth, list(records), kind, limits.iou_thresholds)

    primaries = {name: measured(records, primary) for name, records in found.items()}
    rows: dict[str, Record] = {}
    for name, records in found.items():
        own, base = primaries[name].summary["mAP50_95"], primaries[reference].summary["mAP50_95"]
        others = {f"{kind}_mAP50_95": measured(records, kind).summary["mAP50_95"] for kind in kinds if kind != primary}
        if own is None or base is None or None in others.values():
            raise SeamlineError(f"{test}: has no instances to measure with; give test a larger share in split.ratios.")
        first, other = primaries[reference].matches, primaries[name].matches
        drop = drop_interval(first, other, groups_of_images(first, groups))
        rows[name] = {
            f"{primary}_mAP50_95": own,
            f"{primary}_mAP50_95_delta": own - base,
            f"{primary}_mAP50_95_delta_interval": None if drop is None else [-drop[1], -drop[0]],
            **others,
        }
    return rows
