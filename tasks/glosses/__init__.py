"""The bundled data set: definitions of WordNet 3.0 and the field each belongs to. See README.md beside this file."""

from pathlib import Path

PATH = Path(__file__).parent / "glosses.parquet"
LICENCE = "WordNet 3.0 licence"
