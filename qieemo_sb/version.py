"""The version, said once: setup.py reads this file, the package imports it.

Authors
 * The Qieemo-SB authors 2026
"""

__version__ = "0.1.0"
