"""Packaging of recbole_hetcomp; pyproject.toml holds the settings of the tools."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
YAML = ["", *sorted(f".{folder.name}" for folder in (HERE / "properties").iterdir() if folder.is_dir())]

# RecBole 1.2.1 declares `ray`, which has no wheel for Python 3.12 and later; there it is installed without its
# requirements (docs/compatibility.md), and these are what it really needs.
RECBOLE_NEEDS = [
    "scikit-learn>=0.23.2",
    "tqdm>=4.48.2",
    "colorlog==4.7.2",
    "colorama==0.4.4",
    "pyyaml>=5.1",
    "tensorboard>=2.5.0",
    "thop>=0.1.1.post2207130030",
    "tabulate>=0.8.10",
    "plotly>=4.0.0",
    "texttable>=0.9.0",
    "psutil>=5.9.0",
]

setup(
    name="recbole_hetcomp",
    version="0.1.0",
    description="An ensemble of recommenders, distilled into one small model: HetComp for RecBole",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    keywords="recommender systems, knowledge distillation, recbole, collaborative filtering, sequential recommendation",
    project_urls={"Paper": "https://arxiv.org/abs/2303.01130", "RecBole": "https://recbole.io"},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(9, 14)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.9",
    packages=[*find_packages(include=["recbole_hetcomp*"]), *(f"recbole_hetcomp.properties{part}" for part in YAML)],
    package_dir={f"recbole_hetcomp.properties{part}": f"properties{part.replace('.', '/')}" for part in YAML},
    package_data={
        "recbole_hetcomp": ["py.typed", "*.pyi"],
        "recbole_hetcomp.report": ["templates/*.html"],
        **{f"recbole_hetcomp.properties{part}": ["*.yaml"] for part in YAML},
    },
    entry_points={"console_scripts": ["hetcomp = recbole_hetcomp.cli:main"]},
    install_requires=[
        "recbole==1.2.1; python_version < '3.12'",
        "torch>=2.4",
        "numpy>=1.22.4,<3",
        "pandas>=1.5,<4",
        "scipy>=1.7",
        "safetensors>=0.4",
        "joblib>=1.3",
        "tabulate>=0.8.10",
        "rich>=12",
        "filelock>=3.12",
        "jinja2>=3.0",
        "setuptools<81",
    ],
    extras_require={
        "tune": ["hyperopt==0.2.5", "optuna>=4.0"],
        "ray": ["ray>=2.6"],
        "parquet": ["pyarrow>=14.0.1"],
        "export": ["onnx>=1.14", "onnxruntime>=1.16", "faiss-cpu>=1.7.4"],
        "py312": RECBOLE_NEEDS,
        "dev": [
            "pytest>=7",
            "pytest-xdist>=3",
            "hypothesis>=6",
            "pyarrow>=14.0.1",
            "ruff>=0.6",
            "mypy>=1.8",
            "types-PyYAML",
            "types-tabulate",
        ],
    },
)
