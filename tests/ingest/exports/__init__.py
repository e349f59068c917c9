"""What annotation tools hand out, written with each tool's own structure, and what every photo of it shows.

A module a tool. Its docstring names the tool's writer, file and function, that the structure was taken from. Where the
tool's package installs, `samples/` has what it wrote of the same scenes, and a test compares the two key for key: that
is Label Studio, FiftyOne, labelme2coco, Supervisely, Datumaro, and CVAT, whose exporter calls Datumaro. The writers of
Roboflow (which is not public) and COCO Annotator install from nowhere.
"""
