"""Which layout a source has, and its reading by the adapter of that layout."""

from __future__ import annotations

import re
from pathlib import Path

from seamline.base.errors import SeamlineError
from seamline.ingest.archives import files_below
from seamline.ingest.canonical.source import Source
from seamline.ingest.layouts import annotation_files, ccp, coco, deepfashion2, fashionpedia, penn_fudan
from seamline.ingest.layouts.annotation_files import Named
from seamline.ingest.layouts.other_files import say_packed

KEY_POINTS = re.compile("key_?points|_vis|_gt|query|gallery", re.IGNORECASE)  # DeepFashion2's own COCO files


def read_source(folder: Path, layout: str | None, annotations: Named, images: str | None = None) -> Source:
    """Read a dataset.

    Args:
        folder: with its files.
        layout: pull.layout: coco, deepfashion2, fashionpedia, ccp or penn-fudan; None to recognise it.
        annotations: pull.annotations: the COCO file, several, or one a split; None to find it.
        images: pull.images: the photos' folder of a COCO file; None where they may lie anywhere.

    Raises:
        SeamlineError: when nothing is recognised, or the files are not what the layout says.
    """
    layouts = possible_layouts(folder, layout, annotations)
    if len(layouts) > 1:
        print(f"the source looks like {layouts[0]} and is read as that; pull.layout chooses {' or '.join(layouts[1:])}")
    say_packed(folder)
    if images is not None and layouts[0] in ("deepfashion2", "ccp", "penn-fudan"):
        raise SeamlineError(
            f"pull.images: names the photos' folder of a COCO file, but the layout is {layouts[0]}; one has to be "
            "null, or pull.layout coco."
        )
    match layouts[0]:
        case "deepfashion2":
            return deepfashion2.read(folder)
        case "fashionpedia":
            return fashionpedia.read(folder, images)
        case "ccp":
            return ccp.read(folder)
        case "penn-fudan":
            return penn_fudan.read(folder)
        case _:
            return coco.read(folder, annotations, images)


def category_names(folder: Path, layout: str | None, annotations: Named) -> list[str]:
    """What a dataset's categories are called, without reading what may be a file an image.

    Raises:
        SeamlineError: as `read_source` does, where the annotations are not found.
    """
    match possible_layouts(folder, layout, annotations)[0]:
        case "deepfashion2":
            deepfashion2.found_split_folders(folder)
            return list(deepfashion2.NAMES)
        case "fashionpedia":
            return coco.category_names(fashionpedia.found_annotation_files(folder))
        case "ccp":
            return ccp.category_names(folder)
        case "penn-fudan":
            penn_fudan.found_dataset_folders(folder)
            return [str(category["name"]) for category in penn_fudan.CATEGORIES]
        case _:
            return coco.category_names(annotation_files.find_annotations(folder, annotations))


def possible_layouts(folder: Path, layout: str | None, annotations: Named) -> list[str]:
    """The layout that is asked for, else those the folder may be of, the likeliest first.

    Raises:
        SeamlineError: when a COCO file is named for another layout.
    """
    if annotations is None:
        return layouts_of(folder) if layout is None else [layout]
    if layout not in (None, "coco"):
        raise SeamlineError(f"pull.annotations: names a COCO file, but pull.layout is {layout}; one has to be null.")
    return ["coco"]


def layouts_of(folder: Path) -> list[str]:
    """The layouts whose marks a folder bears, the likeliest first; coco where it bears none.

    DeepFashion2 comes with COCO files for its key points, Fashionpedia's are COCO files: both go before coco. Label
    maps go after it, since who has put a COCO file beside them means it to be used.
    """
    if deepfashion2.is_recognised(folder):
        annos = set(deepfashion2.split_folders(folder))
        listed = [path for path in files_below(folder, (".json",)) if path.parent.parent not in annos]
        of_instances = (path for path in listed if not KEY_POINTS.search(str(path.relative_to(folder))))
        return ["deepfashion2", *(["coco"] if any(map(annotation_files.looks_like_coco, of_instances)) else [])]
    if fashionpedia.annotation_files(folder):
        return ["fashionpedia"]
    label_maps = ["ccp"] if ccp.label_list(folder) is not None else []
    label_maps += ["penn-fudan"] if penn_fudan.dataset_folders(folder) else []
    return ["coco", *label_maps] if annotation_files.coco_files(folder) else label_maps or ["coco"]
