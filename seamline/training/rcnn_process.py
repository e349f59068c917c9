"""One process of a training on several processors; seamline/training/processes.py starts it, and names it by its rank.

Example, as one of two: python -m seamline.training.rcnn_process .seamline/train/<key>
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from seamline.base.errors import SeamlineError
from seamline.base.files import read_json, write_json
from seamline.base.process import end_with_named
from seamline.training.processes import arguments_file, error_file
from seamline.training.rcnn import record_to_plan, run_trainer
from seamline.training.trial import Stopped


def main() -> None:
    end_with_named()
    folder = Path(sys.argv[1])
    try:
        run_trainer(record_to_plan(read_json(arguments_file(folder))), folder)
    except SeamlineError as error:
        found = {"stopped": isinstance(error, Stopped), "sentence": str(error)}
        write_json(error_file(folder, int(os.environ["RANK"])), found)
        sys.exit(1)


if __name__ == "__main__":
    main()
