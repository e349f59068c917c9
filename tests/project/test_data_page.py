"""The second table of docs/data.md: what a source as a whole may hold. tests/ingest/test_canonical.py has the first."""

from __future__ import annotations

import ast
import re

from tests.conftest import PROJECT

# Row -> the tests that hold it.
HELD_BY = {
    "folders that tools of Windows pack as empty files": [
        "ingest/test_archives::test_folders_that_windows_packs_as_files"
    ],
    "a hard link to a file in the same tar, also by way of other links": [
        "ingest/test_archives::test_a_hard_link_to_a_file_of_the_tar_is_that_file",
        "ingest/test_archives::test_a_hard_link_to_a_hard_link_is_the_file_at_the_end",
    ],
    "any other link, a device, a name that is absolute or leads outside": [
        "ingest/test_archives::test_other_hard_links_are_refused",
        "ingest/test_archives::test_a_link_is_refused",
        "ingest/test_archives::test_a_member_that_leads_outside_is_refused",
    ],
    "an archive that unpacks to more than 250 times its size, archives inside it included": [
        "ingest/test_archives::test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused",
        "ingest/test_archives::test_nor_may_archives_inside_it_together",
        "ingest/test_archives::test_hard_links_count_in_what_a_tar_unpacks_to",
    ],
    "frames of a video, some without a record: if they were extracted again, their numbers may differ from the "
    "annotation tool's": [
        "ingest/test_exports::test_frames_that_may_be_numbered_otherwise_are_said",
        "ingest/test_exports::test_photo_for_photo_and_mask_for_mask",
    ],
    "a name twice in a zip": ["ingest/test_archives::test_a_name_that_is_there_twice_is_said"],
    "characters in names of an archive whose second byte is that of a backslash (Shift-JIS, GBK, Big5)": [
        "ingest/test_archives::test_a_backslash_that_is_half_of_a_character_makes_no_folder",
        "ingest/test_archives::test_backslashes_that_separate_folders_still_do",
        "ingest/test_archives::test_such_a_name_leads_nowhere",
    ],
    "names in old zips and tars, which do not say how they are coded": [
        "ingest/test_archives::test_names_in_zips_that_do_not_say_how_they_are_coded",
        "ingest/test_archives::test_names_in_tars_that_are_not_utf_8",
        "ingest/test_matching::test_names_that_differ_in_their_form_alone",
    ],
    "PNG and TIFF of 16 bits that use the lower 14 or fewer, as sensors of 12 bits do: of the upper 8, which are read, "
    "almost nothing is left": ["ingest/test_usable_photos::test_a_photo_of_16_bits_that_is_nearly_black_is_said"],
    "crowds (`iscrowd: 1`)": [
        "ingest/test_crowds::test_crowds_can_be_taken_for_instances",
        "ingest/test_exports::test_photo_for_photo_and_mask_for_mask",
    ],
    "at least nine in ten masks of one form (RLE, several parts) are crowds, and at most one in ten of the "
    "others, with at least five such masks or no others: a tool's habit": [
        "ingest/test_crowds::test_a_habit_is_said",
    ],
    "one of several files, in which more than a tenth of the annotations contradict themselves, if those are 10 or "
    "more, or 3 or more and over a quarter": [
        "ingest/test_contradictions::test_a_small_file_in_another_convention_stops_beside_a_large_one",
        "ingest/test_contradictions::test_two_mistakes_in_a_small_file_stop_nothing",
        "ingest/test_conventions::test_one_of_several_files_stops_where_a_few_cannot_be_mistakes",
    ],
    "boxes that agree with their masks and areas that do not, in over a tenth of the annotations, or of one of "
    "several files": [
        "ingest/test_witnesses::test_areas_of_a_part_of_a_file_are_said",
        "ingest/test_witnesses::test_boxes_that_agree_beside_areas_that_do_not_are_said",
    ],
    "masks of four points whose sides cross, in over a tenth: the points may be in a wrong order, and the mask is two "
    "triangles": [
        "ingest/test_conventions::test_four_corners_are_a_rectangle_or_cross",
        "ingest/test_conventions::test_points_in_an_order_that_crosses_are_said",
    ],
    "masks without a box that nothing confirms: outlines, whose area is the same wherever they lie, and RLE of "
    "which neither area nor shape says anything (on square photos the shape does only beside other masks)": [
        "ingest/test_boxless::test_other_photos_tell_which_way_the_runs_go",
        "ingest/test_boxless::test_what_nothing_can_be_held_to_is_counted",
        "ingest/test_boxless::test_outlines_without_a_box_are_counted",
    ],
    "RLE without box and area, of which over half (at least 10, or 3 in one of several files) cover all four "
    "corners of their photo: the background": [
        "ingest/test_boxless::test_four_corners_in_one_of_several_files",
        "ingest/test_boxless::test_without_an_area_four_corners_do",
    ],
    "outlines and boxes that agree with each other, over a tenth of which leave their photo, and none with y before "
    "x": [
        "ingest/test_boxless::test_masks_and_boxes_with_y_before_x",
        "project/test_troubleshooting::both_y_before_x",
    ],
    "photos that EXIF turns, of which nothing says how their masks lie": [
        "ingest/test_orientation::test_the_user_says_how_masks_lie",
    ],
    "photos of another size than their records say": [
        "ingest/test_boxless::test_photos_enlarged_after_annotation",
        "ingest/test_boxless::test_some_photos_of_another_size_are_said",
        "ingest/test_boxless::test_photos_of_another_shape_are_said_to_be_that",
        "ingest/test_boxless::test_width_and_height_exchanged_in_the_records",
    ],
    "no mask (of 10 or more) reaches beyond three quarters of its photo, and masks begin nearer to the left or upper "
    "edge: photos may have been enlarged": [
        "ingest/test_extents::test_photos_enlarged_are_said",
        "ingest/test_extents::test_garments_in_the_middle_of_photos_are_not_in_their_corner",
    ],
    "`pull.convention: percent`, `thousandths` or a number, where the masks of a file lie in their photos as they "
    "are": [
        "ingest/test_extents::test_what_is_right_stays_under_a_convention_of_before",
    ],
    "`pull.convention` with a number below 1, where most masks of a file lie in their photos as they are": [
        "ingest/test_extents::test_a_number_is_said_where_it_scales_masks_that_may_be_right",
    ],
    "annotations without a box, or whose box fits both ways, in a file of which all other boxes bear "
    "`pull.convention` out": [
        "ingest/test_contradictions::test_without_a_box_its_shape_tells_whether_a_convention_holds_or_nothing_does"
    ],
    "records without a size, and no mask (of 10 or more) reaches beyond three quarters of its photo: photos may have "
    "been enlarged": ["ingest/test_boxless::test_photos_enlarged_whose_records_have_no_size"],
    "images that show crowds only": [
        "ingest/test_crowds::test_a_photo_of_crowds_alone_is_not_background",
        "ingest/test_exports::test_photos_of_brush_masks_alone_are_not_background",
    ],
    "images of which `pull` left an annotation out, and that show no other of the chosen classes": [
        "ingest/test_crowds::test_a_photo_whose_annotations_pull_left_out_is_not_background",
    ],
    "one of several files without any annotation that can be used, such as boxes without masks": [
        "ingest/test_crowds::test_one_of_several_files_without_a_usable_mask_is_said",
    ],
    "nothing but crowds": [
        "ingest/test_crowds::test_a_dataset_of_crowds_alone_stops_and_names_the_parameter",
        "ingest/test_exports::test_brush_masks_alone_stop_with_a_sentence",
    ],
    "versions of one photo, by their names (`look00_jpg.rf.HASH.jpg`, `extra.name`)": [
        "stages/test_splitting::test_versions_of_a_look_stay_in_one_split",
        "ingest/test_exports::test_names_alone_keep_the_versions_of_a_photo_together",
    ],
    "one photo in two annotation files or folders, byte for byte": [
        "ingest/test_canonical::test_one_photo_in_two_annotation_files_is_said",
        "stages/test_splitting::test_equal_files_stay_in_one_split",
    ],
    "mirrored, turned, resized or lighter copies": [
        "dataset/test_near_duplicates::test_a_mirrored_or_turned_copy_is_a_near_duplicate",
        "dataset/test_near_duplicates::test_a_fingerprint_survives_rescaling_and_tells_pictures_apart",
        "dataset/test_near_duplicates::test_different_garments_on_white_are_not_near_duplicates",
    ],
    "such copies, or versions of one photo, across splits of `split.official`": [
        "stages/test_splitting::test_versions_across_official_splits_are_counted",
        "ingest/test_exports::test_official_splits_are_the_tools_own",
    ],
    "an image without a value, or with blank text, in the field of `split.group_by`": [
        "dataset/test_groups::test_images_with_an_empty_value_are_each_a_group_of_their_own",
        "dataset/test_groups::test_a_dot_leads_into_an_object",
    ],
    "a class without an instance in train": ["stages/test_splitting::test_a_class_in_official_test_alone_is_said"],
    "fewer groups in val or test than intervals need": [
        "stages/test_splitting::test_a_class_in_official_test_alone_is_said",
    ],
    "train, val or test without any instance": [
        "stages/test_splitting::test_an_official_val_of_background_alone_stops",
    ],
}


def rows() -> dict[str, str]:
    """What comes -> what is said."""
    text = (PROJECT / "docs" / "data.md").read_text()
    table = text.split("| What comes | What is done | Said |")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {comes: said for comes, _, said in cells}


def test_each_row_has_tests_that_are_there() -> None:
    assert list(rows()) == list(HELD_BY)
    for name in (name for names in HELD_BY.values() for name in names):
        module, _, test = name.partition("::")
        tree = ast.parse((PROJECT / "tests" / f"{module}.py").read_text())
        assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_what_is_said_is_in_the_code() -> None:
    """Words of errors and keys of reports, some of which are put together; texts over several lines count as one."""
    code = "".join(path.read_text() for folder in ("seamline", "stages") for path in (PROJECT / folder).rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    for comes, said in rows().items():
        words = [word for word in re.findall("`([^`]+)`", said) if not word.startswith("reports/") and word != "pull"]
        assert all(word.replace("_across_splits", "") in code for word in words), comes
