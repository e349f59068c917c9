"""Summary: say where the results are and what they amount to; reads reports/, changes nothing.

Example: python -m stages.summary
"""

import argparse
from pathlib import Path

from seamline.base.files import read_json
from seamline.base.process import run

EXPORTED = ("onnx", "openvino", "openvino_f16", "openvino_int8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, default=Path("reports"))
    args = parser.parse_args()
    metrics = read_json(args.report / "metrics.json")
    benchmark, made = read_json(args.report / "benchmark.json"), read_json(args.report / "export.json")

    if not Path("models/train/best.pt").is_file():
        print(
            "\nFigures of an earlier run: the model is not here. A run is at work, or dvc repro or dvc pull brings it."
        )
    print("\naccuracy (pycocotools)   mask mAP50-95  mask mAP50   box mAP50-95  box mAP50")
    for split, kinds in metrics.items():
        row = [kinds[kind][key] for kind in ("mask", "box") for key in ("mAP50_95", "mAP50")]
        print(f"{split:<24}" + "".join(f"{'-' if value is None else format(value, '.3f'):>14}" for value in row))
    print("\nspeed (test, files to masks)  images/s   p50 ms   MB   mask mAP50-95")
    for name, row in benchmark.items():
        print(
            f"{name:<28}{row['throughput_img_s']:>10.1f}{row['latency_ms']['p50']:>9.1f}"
            f"{row['model_mb']:>5.1f}{row['mask_mAP50_95']:>16.3f}"
        )
    print(f"\nreport:  {args.report / 'index.html'} (open it), {args.report}/*.json (every number)")
    exported = [name for name in EXPORTED if name in made]
    print(f"models:  models/train/best.pt, models/export/{{{','.join(exported)}}}")
    if made["int8_refused"]:
        print(f"no INT8: {made['int8_refused']}")
    print("metrics: dvc metrics show, dvc plots show; compare with dvc metrics diff")


if __name__ == "__main__":
    run(main)
