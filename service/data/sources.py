"""Files of rows by their suffix; what reads one is imported when one is read."""

from importlib import import_module
from pathlib import Path
from typing import Final

from service.data.blocks import Source

SOURCES: Final = {
    ".npz": "service.data.npz_file:NpzFile",
    ".csv": "service.data.csv_file:CsvFile",
    ".parquet": "service.data.parquet_file:ParquetFile",  # polars costs a server 0.2 s and 23 MB
}


def open_source(path: Path) -> Source:
    """A file to be read in blocks; DataError for one that is damaged, or that names a column twice."""
    module, name = SOURCES[path.suffix.lower()].split(":")
    source: Source = getattr(import_module(module), name)(path)
    return source
