#!/usr/bin/env python3
"""Runs the script of IEMOCAP's recipe that this file's link is named after.

Python puts the folder of a script first on its path, and of a link the folder
that it leads to: links to IEMOCAP's scripts would not find the modules here.

Authors
 * The Qieemo-SB authors 2026
"""

import runpy
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__)
    script = here.absolute().parents[2] / "IEMOCAP" / "qieemo" / here.name
    runpy.run_path(str(script), run_name="__main__")
