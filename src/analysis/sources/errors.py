"""The error of this package, and how faults of the operating system and of archives become one line."""

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from analysis.errors import RapportError


class SourceError(RapportError):
    """A source that cannot be brought in; the message is one line with the cure."""


@contextmanager
def reading(label: str) -> Iterator[None]:
    """Say what could not be read, whichever library met the fault.

    Raises
    ------
    SourceError
        In the place of an error of the operating system or of decompression.
    """
    try:
        yield
    except PermissionError:
        raise SourceError(f"{label}: may not be read by this user; change its permissions") from None
    except (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _damaged(label, error) from None
    except OSError as error:
        if error.errno is None:  # not the operating system's, but a decompressor's or Arrow's
            raise _damaged(label, error) from None
        raise SourceError(f"{label}: cannot be read: {error.strerror or error}") from None


def _damaged(label: str, error: Exception) -> SourceError:
    # Some libraries quote the bytes at fault, and some write several lines.
    first_line = "".join(letter for letter in str(error).partition("\n")[0] if letter.isprintable()).strip()
    return SourceError(f"{label}: is damaged or cannot be decompressed ({first_line}); export it again")
