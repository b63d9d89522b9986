"""The error of a video that cannot be read."""

LONGEST_NAME = 300  # characters in an error


def first_line(error: Exception) -> str:
    """Returns the first line of an error, or its type if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


class VideoDecodingError(ValueError):
    """
    A video that cannot be read.

    Args:
        video (`str`): The file or address.
        reason (`str`): Why not.
    """

    def __init__(self, video: str, reason: str):
        super().__init__(video, reason)  # both, so that the error survives the way back from a worker process
        self.video, self.reason = video, reason

    def __str__(self) -> str:
        name = self.video if len(self.video) <= LONGEST_NAME else f"{self.video[:LONGEST_NAME]}…"
        sentence = f"Cannot read the video {name}: {self.reason}."
        return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in sentence)
