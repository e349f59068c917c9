"""Compare: experiments, commits or branches side by side, and whether their differences mean anything.

Prints each difference to the first one named with its interval and a verdict, and writes a page with curves, changed
parameters and the same test images as each model sees them. Reads what git has of reports/; nothing is run again.
A single revision is compared with the workspace.

Example: python -m stages.compare main quick-lynx workspace
"""

import argparse
from pathlib import Path

from seamline.base.files import write_text
from seamline.base.process import SCRATCH, run

PICTURE_BYTES = 3_500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="+", metavar="REV", help="commit, branch, tag, experiment, or workspace")
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    parser.add_argument("--out", type=Path, default=SCRATCH / "compare.html", help="the page to write")
    args = parser.parse_args()

    from seamline.charts.evaluation import curve_figure
    from seamline.experiments.comparing import (
        Model,
        accuracy_differences,
        differences_to_lines,
        parameters_that_differ,
        read_model,
        speed_differences,
    )
    from seamline.experiments.revisions import WORKSPACE, read_at, revision
    from seamline.report.page import bytes_to_data, figure_to_svg, render

    names = list(dict.fromkeys(args.revisions))
    if len(names) == 1:
        names = [*names, WORKSPACE] if names != [WORKSPACE] else ["HEAD", WORKSPACE]
    first, *others = (read_model(revision(name), args.reports) for name in names)
    models = [first, *others]
    tables = [(other, accuracy_differences(first, other) + speed_differences(first, other)) for other in others]
    changed = parameters_that_differ(models)

    for other, differences in tables:
        print("\n".join(differences_to_lines(first, other, differences)), end="\n\n")
    for key, values in changed:
        print(f"{key}: {', '.join(f'{value} ({model.name})' for value, model in zip(values, models, strict=True))}")

    def pictures() -> list[tuple[str, list[str]]]:
        """Images that all of them show, each as every model sees it, as many as the page can hold."""
        found, room = [], PICTURE_BYTES
        for record in first.sample:
            if all(any(record["file_name"] == one["file_name"] for one in model.sample) for model in models):
                path = args.reports / "evaluate" / "sample" / f"{record['image_id']}.jpg"
                row = [bytes_to_data(read_at(model.revision, path), "jpeg") for model in models]
                room -= sum(map(len, row))
                if room < 0:
                    break
                found.append((record["file_name"], row))
        return found

    def validation(model: Model) -> dict[int, float]:
        return {row["epoch"]: row["val_mask_mAP50_95"] for row in model.validation}

    epochs = sorted({epoch for model in models for epoch in validation(model)})
    curves = {model.name: [validation(model).get(epoch) for epoch in epochs] for model in models}
    page = render(
        "compare.html",
        title=f"{' and '.join(names)} compared",
        models=models,
        classes=list(dict.fromkeys(name for model in models for name in model.per_class["test"]["mask"])),
        tables=tables,
        changed=changed,
        curves=figure_to_svg(
            curve_figure(epochs, curves, "The trainer's own validation", xlabel="epoch", ylabel="mask mAP50-95")
        ),
        pictures=pictures(),
    )
    write_text(args.out, page)
    print(f"page: {args.out}")


if __name__ == "__main__":
    run(main)
