"""Installs the ``qieemo_sb`` package and its ``qieemo`` command.

Authors
 * The Qieemo-SB authors 2026
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read(path: str) -> str:
    """The text of a file of this checkout."""
    return (ROOT / path).read_text(encoding="utf-8")


# Read, not imported: importing the package needs what is yet to be installed.
VERSION = re.search(r'__version__ = "(.+?)"', read("qieemo_sb/__init__.py"))[1]

REQUIRED = [
    "speechbrain>=1.1.2",
    # torchaudio's wheel refuses a torch of another CUDA build, even on a CPU:
    # torchaudio 2.11 fits torch up to 2.14. Lift when torchaudio follows.
    "torch>=2.7.1,<2.15",
    "torchaudio>=2.7.1",
    "transformers>=5",
    "huggingface_hub>=1.31",
    "hyperpyyaml>=1.2.3",
    "ruamel.yaml",
    "safetensors",
    "sentencepiece",
    "soundfile>=0.12.1",
    "av>=14",  # what soundfile cannot read: m4a, webm, videos
    "torchmetrics>=1.4",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "scipy>=1.11",
    "tqdm>=4.66",
    "onnxruntime>=1.20",  # runs exports, and finds speech
    "silero-vad>=6.2",  # its weights
    "praatio>=6.2",  # timelines as TextGrid
    "webvtt-py>=0.5",  # ... as WebVTT
]

DEMO = ["espeakng-loader>=0.2.4"]  # libespeak-ng: speaks the demo's corpus

PAGE = ["gradio>=6.31"]  # qieemo demo

ONNX = [
    # To write an export, with torch 2.9 or later.
    "onnx>=1.17",
    "onnxscript>=0.5",
]
TABLES = ["pandas>=2.0", "tabulate>=0.9"]  # cross_validate.py, ablate.py
PROBE = ["scikit-learn>=1.4", *TABLES]  # probe_blocks.py
BENCH = [
    "ctranslate2>=4.6",  # a peer in bench/inference.py
    "openvino>=2026.4",  # another, and
    "nncf>=3.4",  # ... its weights in 8 bits
    "opensmile>=2.5",  # functionals.py, and so ablate.py's grid
    *PROBE,
]
SERVE = [  # qieemo serve
    "fastapi>=0.115",
    "uvicorn>=0.32",
    "websockets>=13",
    "python-multipart>=0.0.18",
    "prometheus-client>=0.20",
]
# --ray of qieemo predict, cross_validate.py and ablate.py
RAY = ["ray[data,serve]>=2.40", *SERVE, *TABLES]

DOCS = [
    "mkdocs-material>=9.7",
    "mkdocstrings[python]>=1.0",
    "latex2mathml>=3.77",  # formulas without a script from elsewhere
]

DEV = [
    "pytest>=8.2",
    "pytest-xdist>=3.6",
    "hypothesis>=6.140",  # draws the inputs of tests/fuzz
    "nbclient>=0.10",  # runs the notebook, in
    "ipykernel>=6.29",
    "ruff==0.17.6",  # pinned: another release formats and lints otherwise
    "import-linter>=2.3",
    "mypy==2.4.1",  # pinned, too
    "httpx2>=2",  # a caller of the server
]

setup(
    name="qieemo-sb",
    version=VERSION,
    description="Speech emotion recognition from audio alone: Qieemo as a "
    "SpeechBrain recipe",
    long_description=read("README.md"),
    long_description_content_type="text/markdown",
    author="The Qieemo-SB authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["qieemo_sb", "qieemo_sb.*"])
    + ["qieemo_sb.pretrained"],
    package_dir={"qieemo_sb.pretrained": "pretrained"},
    package_data={
        "qieemo_sb.pretrained": ["*/*"],
        "qieemo_sb": ["py.typed", "serving/*.yaml", "evaluation/*.mplstyle"]
        + ["*/*.md", "*/*/*.md"],
    },
    install_requires=REQUIRED,
    extras_require={
        "demo": DEMO,
        "demo-page": PAGE,
        "onnx": ONNX,
        "tables": TABLES,
        "probe": PROBE,
        "bench": BENCH,
        "serve": SERVE,
        "ray": RAY,
        "docs": DOCS,
        "dev": DEV + DOCS + DEMO + PAGE + ONNX + PROBE + RAY,
    },
    entry_points={"console_scripts": ["qieemo=qieemo_sb.cli:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
