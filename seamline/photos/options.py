"""The options with which tools run a model."""

import argparse

from seamline.base.numbers import MOST_PIXELS, MOST_THREADS, number_from


def add_model_options(parser: argparse.ArgumentParser, photos: str, million_pixels: int) -> None:
    """How a model is run.

    Args:
        photos: what larger ones are called.
        million_pixels: of one of them, unless the user says otherwise.
    """
    add = parser.add_argument
    add("--confidence", type=number_from(float, 0, 1), help="leave out weaker detections (default: the model's own)")
    add(
        "--max-pixels",
        type=number_from(int, 1, MOST_PIXELS),
        default=million_pixels * 1_000_000,
        help=f"refuse larger {photos} (default: {million_pixels} million)",
    )
    add("--threads", type=number_from(int, 1, MOST_THREADS), help="CPU threads (default: all usable cores)")
    add("--precision", default="f32", help="f32 (default); bf16 for OpenVINO; f16, bf16 or tf32 on a GPU")
    add(
        "--device",
        default="auto",
        help="cpu, cuda or cuda:1 (default: auto, a GPU for best.pt where there is one, and else the CPU)",
    )
