#!/usr/bin/env python3
"""Runs the script of IEMOCAP's recipe that has the name of this link.

A link straight to that script would not do: Python would look for modules in
IEMOCAP's folder and not find those of this one.

Authors
 * The Qieemo-SB authors 2026
"""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__)
    script = here.absolute().parents[2] / "IEMOCAP" / "qieemo" / here.name
    sys.path.append(str(script.parent))  # after this folder
    runpy.run_path(str(script), run_name="__main__")
