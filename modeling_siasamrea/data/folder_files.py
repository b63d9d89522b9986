"""Files of a folder and its subfolders, found by their names without suffix."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path


def walk_files(folder: str | Path, suffixes: Collection[str]) -> Iterator[str]:
    """
    Yields the paths of the files of a folder and its subfolders that have one of `suffixes` (lower case), sorted in
    each folder. Linked folders are read like others, each folder once. macOS's hidden `._` twins are left out.
    """
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if os.path.realpath(os.path.join(parent, name)) not in seen)
        seen |= {os.path.realpath(parent), *(os.path.realpath(os.path.join(parent, name)) for name in folders)}
        for file in sorted(files):
            if os.path.splitext(file)[1].lower() in suffixes and not file.startswith("._"):
                yield os.path.join(parent, file)


class FolderFiles:
    """
    Finds files by their names without suffix.

    Args:
        folder (`str` or `Path`, *optional*): The folder, searched with its subfolders; without one, nothing is found.
        suffixes (`Collection[str]`): Suffixes of the files, in lower case.
    """

    def __init__(self, folder: str | Path | None, suffixes: Collection[str]):
        self.folder = folder
        self.paths: dict[str, list[str]] = defaultdict(list)
        for path in walk_files(folder, suffixes) if folder is not None else ():
            self.paths[os.path.splitext(os.path.basename(path))[0]].append(path)

    def find(self, official: str, *others: str) -> str:
        """
        Finds a file by its official name or another, or returns where it should be; `a/v.mp4` is a file v in a folder
        a, however deep.

        Raises:
            `ValueError`: If two different files have the name.
        """
        for name in (official, *others):
            name = os.path.splitext(name)[0]
            paths = self.paths.get(name.rsplit("/", 1)[-1], [])
            paths = [path for path in paths if f"/{os.path.splitext(path)[0]}".endswith(f"/{name}")]
            if len({os.path.realpath(path) for path in paths}) > 1:
                raise ValueError(f"The folder {self.folder} must have one file {name}; there are {', '.join(paths)}.")
            if paths:
                return paths[0]
        return official if self.folder is None else str(Path(self.folder) / official)
