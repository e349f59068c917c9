from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from seamline.params.loading.types import AtLeastZero, Count, Section, Seed, Text


class Subset(Section):
    classes: Annotated[list[Text], Meta(min_length=1)] | Annotated[dict[Text, list[Text]], Meta(min_length=1)] | None
    images: Count | None
    background: Annotated[float, Meta(ge=0, lt=1)]
    min_area_px: AtLeastZero
    crowd: bool | Literal["instances"]
    group_by: Text | None
    seed: Seed

    def __post_init__(self) -> None:
        sources = [name for names in self.sources_by_class().values() for name in names]
        twice = sorted({name for name in sources if sources.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} stands twice in classes; a source class may go to one class only")

    def sources_by_class(self, shown: Sequence[str] = ()) -> dict[str, list[str]]:
        """Class names in the order of their ids, each with the source's names that are merged into it.

        Args:
            shown: the source's names that have an annotation, which are the classes where none are chosen.
        """
        if self.classes is None:
            return {name: [name] for name in shown}
        if isinstance(self.classes, list):
            return {name: [name] for name in self.classes}
        return {name: sources or [name] for name, sources in self.classes.items()}
