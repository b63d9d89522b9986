"""Rows of JSONL, JSON and CSV files and of data sets of `datasets`: whole, or a sentence that says what is wrong."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    import datasets

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")


def read_text(path: Path) -> str:
    r"""
    The text of an annotation file, without the byte order mark that Excel and Notepad write.

    Raises:
        `ValueError`: If there is no such file, or it is not UTF-8.
    """
    if not path.is_file():
        raise ValueError(f"The data file {path} does not exist.")
    return _decode(path.read_bytes(), str(path))


def _decode(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is not UTF-8 text ({error.reason} at byte {error.start}). Save the file with the encoding UTF-8."
        ) from None
    if "\0" in text:
        raise ValueError(f"{where} has zero bytes, as UTF-16 has. Save the file as text with the encoding UTF-8.")
    return text


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return row


def parse_json(text: str, where: str) -> Any:
    """What a JSON text holds; a `ValueError` if it is none, or an object has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}.") from None


def read_json(path: Path) -> list[dict]:
    """The rows of a JSON file that is one list of objects; a `ValueError` says so if it is not."""
    rows = parse_json(read_text(path), str(path))
    if not isinstance(rows, list):
        raise ValueError(
            f"{path} must be a list of rows; it is a {type(rows).__name__}. A file of one row a line is named .jsonl."
        )
    check_objects(rows, str(path))
    return rows


def check_objects(rows: Iterable[Any], name: str) -> None:
    """Raises a `ValueError` that names the first row that is no dictionary."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{name}, row {number}: a row is an object of named cells; got {row!r}.")


def read_jsonl(path: Path, unfinished_end: bool = False) -> list[dict]:
    r"""
    The rows of a JSONL file; blank lines are passed over. Lines end at a newline only: U+2028 and its like are text.

    Args:
        path (`Path`): The file.
        unfinished_end (`bool`, *optional*, defaults to `False`):
            Whether a last line that was cut, as a killed process leaves it, is passed over too.

    Raises:
        `ValueError`: If there is no such file, it is not UTF-8, or a line is not an object; says which.
    """
    if not path.is_file():
        raise ValueError(f"The data file {path} does not exist.")
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            text = _decode(line, f"{path}, line {number}")
            if text.strip():
                rows.append(_parse_line(text, f"{path}, line {number}"))
        except ValueError:
            if not (unfinished_end and number == len(lines)):
                raise
    return rows


def _parse_line(line: str, where: str) -> dict:
    try:
        row = json.loads(line, object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not a JSON object on one line ({error}).") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object on one line, but {line.strip()[:80]}.")
    return row


def read_cells(path: Path, delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> list[list[str]]:
    """The cells of a CSV file, line by line, without blank lines; a `ValueError` if quotation marks do not pair up."""
    # Not strict where nothing is quoted: a quotation mark is a character like any other there.
    reader = csv.reader(
        io.StringIO(read_text(path), newline=""),
        delimiter=delimiter,
        quoting=quoting,
        strict=quoting != csv.QUOTE_NONE,
    )
    try:
        return [cells for cells in reader if len(cells) > 1 or (cells and cells[0].strip())]
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}. A cell with a comma, a line break or a quotation mark stands "
            "in quotation marks, and those inside it are doubled."
        ) from None


def read_csv(path: Path, delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; a `ValueError` names the row whose number of cells is another."""
    lines = read_cells(path, delimiter, quoting)
    if not lines:
        return []
    columns = [name.strip() for name in lines[0]]
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: the column {twice[0]} is there twice.")
    for number, cells in enumerate(lines[1:], start=1):
        if len(cells) != len(columns):
            raise ValueError(
                f"{path}, row {number}: it has {len(cells)} cells, but there are {len(columns)} columns "
                f"({', '.join(columns)}). A cell with {delimiter!r} in it stands in quotation marks."
            )
    return [dict(zip(columns, cells)) for cells in lines[1:]]


def read_table(source: str | Path, split: str) -> list[dict]:
    """The rows of a JSONL, JSON (one list), CSV or TSV file, or of a data set by its name or folder."""
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        return read_jsonl(path)
    if suffix == ".json":
        return read_json(path)
    if suffix in (".csv", ".tsv"):
        return read_csv(path, delimiter="\t" if suffix == ".tsv" else ",")
    return rows_of_dataset(load_dataset(source, split))


def load_dataset(source: str | Path, split: str) -> "datasets.Dataset":
    """A split of a data set that `datasets` knows by name or folder; a `ValueError` says why there is none."""
    import datasets  # here, because it is slow to import

    if Path(source).is_file():
        raise ValueError(f"The data file {source} must be one of {', '.join(SUFFIXES)}.")
    try:
        return with_encoded_videos(datasets.load_dataset(str(source), split=split))
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise ValueError(f"The split {split!r} of the data set {source} cannot be loaded: {error}") from None


def with_encoded_videos(
    dataset: "datasets.Dataset | datasets.IterableDataset",
) -> "datasets.Dataset | datasets.IterableDataset":
    """The data set with its videos as paths or bytes, which this package decodes itself."""
    import datasets

    for column, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Video):
            dataset = dataset.cast_column(column, datasets.Video(decode=False))
    return dataset


def rows_of_dataset(dataset: "datasets.Dataset | datasets.IterableDataset") -> list[dict]:
    """The rows of a `datasets` data set; a class label is its name, not its number."""
    import datasets

    features = dataset.features or {}
    labels = {column: feature for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)}
    rows = list(dataset)
    for row in rows:
        for column, feature in labels.items():
            known = row[column] is not None and row[column] >= 0
            row[column] = feature.int2str(row[column]) if known else None
    return rows


def rows_of(source: Any, split: str) -> list[dict]:
    r"""
    The rows of anything that holds some.

    Args:
        source: A file or name for [`read_table`], a `datasets` data set or dictionary of its splits, a pandas
            `DataFrame` (whose NaN is an empty cell), or any iterable of dictionaries.
        split (`str`): The split, where there are several.

    Returns:
        `list[dict]`: the rows.

    Raises:
        `ValueError`: If there is no such split, or a row is no dictionary.
    """
    if isinstance(source, str | Path):
        return read_table(source, split)
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
        raise ValueError(
            f"Rows are a list of dictionaries, one a question, or what else load_video_questions names; got a "
            f"{type(source).__name__}."
        )
    rows = list(source)
    check_objects(rows, "The rows")
    return rows


__all__ = ["parse_json", "read_cells", "read_csv", "read_json", "read_jsonl", "read_table", "read_text", "rows_of"]
