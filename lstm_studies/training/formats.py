"""The format of checkpoints and of config.json, and the version of the collection that reads it."""

from lstm_studies import __version__ as VERSION

FORMAT = 2  # files written before it was recorded have none


def written_later(content: dict) -> str:
    """Error message for a file of a newer format, or ""."""
    number, version = content.get("format", 0), content.get("version")
    if isinstance(number, int) and 0 <= number <= FORMAT:
        return ""
    known = isinstance(number, int) and isinstance(version, str) and version.isprintable()
    needed = f"format {number}, which version {version} of this collection reads" if known else "an unknown format"
    return f"expected a file of format {FORMAT} at most, which this version, {VERSION}, reads, found {needed}"
