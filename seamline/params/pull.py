from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seamline.base.splits import SPLITS
from seamline.params.loading.types import Section, Text, check_source


class Pull(Section):
    source: Text
    layout: Literal["coco", "deepfashion2", "fashionpedia", "ccp", "penn-fudan"] | None
    annotations: (
        Text | Annotated[list[Text], Meta(min_length=1)] | Annotated[dict[str, Text], Meta(min_length=1)] | None
    )
    images: Text | None
    convention: (
        Literal[
            "rows", "inverted", "swapped", "flipped", "relative", "percent", "thousandths", "scaled", "in_box",
            "both_swapped", "box_centers", "box_swapped", "box_corners_swapped", "exchanged", "as_shown",
            "as_stored", "pixels", "drop",
        ]
        | Annotated[float, Meta(gt=0, le=1000)]
        | None
    )  # fmt: skip
    category_ids: Literal["own", "plus_one", "minus_one", "positions"] | None

    def __post_init__(self) -> None:
        check_source(self.source)
        for split in self.annotations if isinstance(self.annotations, dict) else ():
            if split not in SPLITS:
                raise ValueError(f"{split!r} in annotations is not a split; allowed are {', '.join(SPLITS)}")
