"""Personal values become keyed hashes at the door; the way back is kept for the owner's eyes only."""

import hashlib
import hmac
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq

from analysis import paths
from analysis.errors import RapportError

KEY_VARIABLE = "RAPPORT_KEY"
_ROOM = 500_000  # values that are held before repeated ones are dropped


def key() -> bytes:
    """The key for personal columns, from the environment.

    Raises
    ------
    RapportError
        There is none, or it is too short.
    """
    value = os.environ.get(KEY_VARIABLE, "")
    if len(value) < 16:
        raise RapportError(
            f"privacy.personal marks personal columns, so the environment variable {KEY_VARIABLE} must hold a key of 16 "
            "characters or more; keep it secret and unchanged"
        )
    return value.encode()


def key_mark() -> str:
    """What tells two keys for personal columns apart and says nothing about either; errors as in :func:`key`."""
    return hashlib.pbkdf2_hmac("sha256", key(), b"rapport", 100_000).hex()


class Pseudonyms:
    """Tokens for personal values under one key, and the values that they stand for."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._seen: list[pa.Table] = []
        self._room = _ROOM
        self._tokens: dict[str, str] = {}  # of values met before: a customer's address comes back with every order

    def of(self, array: pa.Array) -> pa.Array:
        """Each value as 32 hexadecimal digits of HMAC-SHA256, blind to case and surrounding white space, so that an address
        written in two ways is one; nulls and blanks stay."""
        encoded = array.dictionary_encode()
        values = encoded.dictionary.to_pylist()
        if len(self._tokens) > _ROOM:
            self._tokens.clear()
        new = [value for value in values if value not in self._tokens and value and value.strip()]
        if new:
            self._tokens.update((value, self._token(value)) for value in new)
            self._remember(new)
        tokens = pa.array([self._tokens.get(value, value) for value in values], pa.string())
        return pa.DictionaryArray.from_arrays(encoded.indices, tokens).dictionary_decode()

    def of_fields(self, malformed: pa.Array) -> pa.Array:
        """Every field of the rows that do not fit the header: which of them is personal cannot be known."""
        if malformed.null_count == len(malformed):
            return malformed
        rows = [
            None if row is None else json.dumps(self.of(pa.array(json.loads(row), pa.string())).to_pylist())
            for row in malformed.to_pylist()
        ]
        return pa.array(rows, pa.string())

    def _remember(self, values: list[str]) -> None:
        tokens = [self._tokens[value] for value in values]
        self._seen.append(pa.table({"token": pa.array(tokens, pa.string()), "original": pa.array(values, pa.string())}))
        if sum(table.num_rows for table in self._seen) > self._room:
            self._seen = [_firsts(self._seen)]
            self._room = max(_ROOM, 2 * self._seen[0].num_rows)

    def _token(self, value: str) -> str:
        return hmac.digest(self._secret, value.strip().casefold().encode(), "sha256").hex()[:32]

    def keep(self, study: str, source: str) -> None:
        """Add the values seen to what is kept under ``data/private``; the first writing of a value stays."""
        if not self._seen:
            return
        folder = paths.private(study)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{source}.parquet"
        known = [pq.read_table(path, columns=["token", "original"])] if path.exists() else []
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                pq.write_table(_firsts([*known, *self._seen]), file)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        self._seen.clear()


def _firsts(tables: list[pa.Table]) -> pa.Table:
    """Each token once, with its first original."""
    both = pa.concat_tables(tables).group_by("token", use_threads=False).aggregate([("original", "first")])
    return both.select(["token", "original_first"]).rename_columns(["token", "original"])
