from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from seamline.base.splits import SPLITS
from seamline.base.urls import gives_access
from seamline.params.loading.types import Section, Text


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
        if not self.source.isprintable():
            raise ValueError("source has a character in its name that cannot be printed; rename it")
        if gives_access(self.source):  # DVC would write it into dvc.lock
            raise ValueError(
                "source has a password, key or signature in its address, or an argument that may be one; name it "
                "without, and give access by the AWS configuration (AWS_PROFILE, ...) or, on the web, by ~/.netrc"
            )
        for split in self.annotations if isinstance(self.annotations, dict) else ():
            if split not in SPLITS:
                raise ValueError(f"{split!r} in annotations is not a split; allowed are {', '.join(SPLITS)}")
