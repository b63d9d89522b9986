"""Reads the rows of JSONL, JSON, CSV, TSV and Parquet files and of data sets of `datasets`, one by one."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    import datasets

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def read_text(path: Path) -> str:
    r"""
    Reads an annotation file, without the byte order mark that Excel and Notepad write.

    Raises:
        `ValueError`: If there is no such file, or it is not UTF-8.
    """
    if not path.is_file():
        raise ValueError(f"The file {path} does not exist.")
    return _decode(path.read_bytes(), str(path))


def _decode(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: the encoding must be UTF-8; {error.reason} at byte {error.start}.") from None
    if "\0" in text:
        raise ValueError(f"{where}: the encoding must be UTF-8; it has zero bytes, as UTF-16 has.")
    return text


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return row


def parse_json(text: str, where: str, form: type = object) -> Any:
    """Parses a JSON text; raises a `ValueError` if it is not JSON or not a `form`, or an object has a key twice."""
    try:
        content = json.loads(text, object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}; got {text!r:.80}.") from None
    if not isinstance(content, form):
        got = f"an object with the keys {', '.join(content):.100}" if isinstance(content, dict) else text.strip()[:80]
        raise ValueError(f"{where} must be a JSON {'list' if form is list else 'object'}; got {got}.")
    return content


def read_json(path: Path, form: type[list | dict] = list) -> Any:
    """Reads a JSON file that is one list, or one object; raises a `ValueError` if it is something else."""
    return parse_json(read_text(path), str(path), form)


def check_objects(rows: Iterable[Any], name: str) -> Iterator[Mapping]:
    """Yields the rows; raises a `ValueError` at the first that is not a dictionary."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{name}, row {number}: a row must be an object with named cells; got {str(row)[:80]}.")
        yield row


def read_jsonl(path: Path, unfinished_end: bool = False) -> Iterator[dict]:
    r"""
    Yields the rows of a JSONL file without its blank lines. Only a newline ends a line: U+2028 and its like are text.

    Args:
        path (`Path`): The file.
        unfinished_end (`bool`, *optional*, defaults to `False`):
            Whether to leave out a last line that was cut, as a killed process leaves it.

    Raises:
        `ValueError`: If there is no such file, it is not UTF-8, or a line is not an object; says which.
    """
    if not path.is_file():
        raise ValueError(f"The file {path} does not exist.")
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            try:
                text = _decode(line, where)
                row = parse_json(text, where, dict) if text.strip() else None
            except ValueError:
                if unfinished_end and not line.endswith(b"\n"):
                    return
                raise
            if row is not None:
                yield row


def read_csv(
    path: Path, delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL, columns: Sequence[str] | None = None
) -> Iterator[dict[str, str]]:
    r"""
    Yields the rows of a CSV file that are not blank.

    Args:
        path (`Path`): The file.
        delimiter (`str`, *optional*): What stands between cells; a comma, or a semicolon if the header has no comma.
        quoting (`int`, *optional*): How cells are quoted, see the module `csv`.
        columns (`Sequence[str]`, *optional*): The columns of a file without a header.

    Raises:
        `ValueError`: At an unpaired quote, a column that is there twice, and a row of another number of cells.
    """
    header = read_text(path).partition("\n")[0]
    if columns is None and delimiter == "," and "," not in header and ";" in header:
        delimiter = ";"  # as Excel writes where the comma is the decimal sign
    with open(path, encoding="utf-8-sig", newline="") as file:
        # Not strict where nothing is quoted: a quotation mark is a character like any other there.
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=quoting != csv.QUOTE_NONE)
        lines = (cells for cells in reader if len(cells) > 1 or (cells and cells[0].strip()))
        try:
            columns = columns or [name.strip() for name in next(lines, [])]
            twice = [name for name in columns if name and columns.count(name) > 1]
            if twice:
                raise ValueError(f"{path}: the column {twice[0]} is there twice.")
            for number, cells in enumerate(lines, start=1):
                if len(cells) != len(columns):
                    raise ValueError(
                        f"{path}, row {number}: cells: {len(cells)}, but columns: {len(columns)} "
                        f"({', '.join(columns)}). Quote a cell that has {delimiter!r} in it."
                    )
                yield dict(zip(columns, cells))
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {reader.line_num}: {error}. Quote a cell that has a comma, a line break or a quotation "
                "mark, and double the quotation marks in it."
            ) from None


def load_dataset(source: str | Path, split: str) -> "datasets.Dataset":
    """Loads a Parquet file, or a split of a data set by its name or folder; raises a `ValueError` if it cannot."""
    import datasets  # here, because it is slow to import
    import pyarrow.parquet

    path = Path(source)
    if path.suffix.lower() != ".parquet" and path.is_file():
        raise ValueError(f"The data file {source} must be one of {', '.join(SUFFIXES)}.")
    try:
        if path.suffix.lower() == ".parquet":
            return with_encoded_videos(datasets.Dataset(pyarrow.parquet.read_table(path)))
        return with_encoded_videos(datasets.load_dataset(str(source), split=split))
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"The split {split!r} of the data set {source} cannot be loaded: {error}") from None


def with_encoded_videos(
    dataset: "datasets.Dataset | datasets.IterableDataset",
) -> "datasets.Dataset | datasets.IterableDataset":
    """Makes a data set return its videos as paths or bytes, which this package decodes itself."""
    import datasets

    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Video):
            dataset = dataset.cast_column(column, datasets.Video(decode=False))
        elif isinstance(getattr(feature, "feature", None), datasets.Video):
            dataset = dataset.cast_column(column, datasets.List(datasets.Video(decode=False)))
    return dataset


def rows_of_dataset(dataset: "datasets.Dataset | datasets.IterableDataset") -> Iterator[dict]:
    """Yields the rows of a `datasets` data set, with the names of class labels instead of their numbers."""
    import datasets

    features = dataset.features or {}
    labels = {column: feature for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)}
    for batch in dataset.iter(batch_size=1000):
        for cells in zip(*batch.values()):
            row = dict(zip(batch, cells))
            for column, feature in labels.items():
                known = row[column] is not None and row[column] >= 0
                row[column] = feature.int2str(row[column]) if known else None
            yield row


def rows_of(source: Any, split: str = "train") -> Iterable[Mapping]:
    r"""
    Reads rows from a file, a data set, a table or a list.

    Args:
        source: A file in one of the formats above, the name or folder of a data set, a `datasets` data set or
            dictionary of its splits, a pandas `DataFrame` (whose NaN is an empty cell), or an iterable of rows.
        split (`str`, *optional*, defaults to `"train"`): The split, where there are several.

    Returns:
        `Iterable[Mapping]`: the rows, read as they are asked for.

    Raises:
        `ValueError`: If there is no such split, or a row is not a dictionary.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        suffix = path.suffix.lower()
        if suffix == ".jsonl":
            return read_jsonl(path)
        if suffix == ".json":
            return check_objects(read_json(path), str(path))
        if suffix in (".csv", ".tsv"):
            return read_csv(path, delimiter="\t" if suffix == ".tsv" else ",")
        return rows_of_dataset(load_dataset(source, split))
    if not isinstance(source, list | tuple):
        import datasets  # here, because they are slow to import
        import pandas

        if isinstance(source, datasets.DatasetDict | datasets.IterableDatasetDict):
            if split not in source:
                raise ValueError(f"The data set has no split {split!r}; it has {', '.join(source)}.")
            source = source[split]
        if isinstance(source, datasets.Dataset | datasets.IterableDataset):
            return rows_of_dataset(with_encoded_videos(source))
        if isinstance(source, pandas.DataFrame):
            source = source.astype(object).where(source.notna(), None).to_dict("records")
    if isinstance(source, Mapping | bytes) or not isinstance(source, Iterable):
        raise ValueError(f"The rows must be a list of dictionaries, a data set or a table; got {type(source)}.")
    return check_objects(source, "The rows")
