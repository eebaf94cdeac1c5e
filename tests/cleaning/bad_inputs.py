"""Bad inputs as data: files, studies and rows, each with what a person is told of it, or what becomes of it.

No message may repeat anything that ``SECRETS`` finds.
"""

# ruff: noqa: E501 (one case is one line)

import bz2
import gzip
import io
import lzma
import zipfile
from dataclasses import dataclass, field

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

from tests.conftest import ORDERS, shop

SECRET = "anna.secret@example.org"
SECRETS = r"(?i)anna.?secret|a secret word|se\$ cret"
GOOD = ORDERS.replace("c1", SECRET).encode()
HEADER = GOOD.splitlines()[0]


def zipped(members):
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


def locked(members):
    content = bytearray(zipped(members))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(mark) + place] |= 1
    return bytes(content)


def parquet(columns, names=None):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns, names=names), sink)
    return sink.getvalue()


def book(*rows):
    sink, made = io.BytesIO(), openpyxl.Workbook()
    for row in rows:
        made.active.append(row)
    made.save(sink)
    return sink.getvalue()


def charts_only():
    sink, made = io.BytesIO(), openpyxl.Workbook()
    made.create_chartsheet()
    made.remove(made.worksheets[0])
    made.save(sink)
    return sink.getvalue()


def broken_part(content, part):
    """A spreadsheet of which one part breaks off."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return zipped(members | {part: members[part][: len(members[part]) // 2]})


def overwritten(content, start, count):
    return content[:start] + b"\xff" * count + content[start + count :]


@dataclass(frozen=True)
class File:
    """Files of a source that cannot be brought in; ``message`` is a regular expression of what is said."""

    what: str
    message: str
    content: bytes | dict[str, bytes] = b""
    file: str = "orders.csv"
    options: dict = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        return self.content if isinstance(self.content, dict) else {self.file: self.content}


_SHEET = book(["order", "customer"], ["A1", SECRET])
_COLUMN = parquet({"a": [f"{SECRET} {i}" for i in range(2_000)]})
_NO_BOOK = r"orders\.xlsx: is not an \.xlsx spreadsheet, or is damaged; save it as one again, or say format: csv"
_DAMAGED = r"is damaged or cannot be decompressed \(.+\); export it again"
_MARKS = r"is not text; if it is a spreadsheet or Parquet, say format: excel or parquet"

FILES = [
    File("missing", r"^orders\.csv: no such file; put it there, or correct file in the study$", {}),
    File("missing folder", r"^orders: no such file; put it there", {}, "orders/"),
    File("folder of nothing", r"^orders: is a folder without files; put the source's files there$", {"orders/.keep": b""}, "orders/"),
    File("folder of office locks", r"is a folder without files", {"orders/~$orders.xlsx": b"x", "orders/Thumbs.db": b"x"}, "orders/"),
    File("pattern that nothing fits", r"\*\.csv: no file fits this pattern", {"orders/a.txt": GOOD}, "orders/*.csv"),
    File("unknown ending in a folder", r"notes\.doc: cannot tell its format; save it as \.csv", {"orders/notes.doc": GOOD}, "orders/"),
    File("no ending", r"^orders: cannot tell its format", GOOD, "orders"),
    File("package that is not there", r"^package no-such is not installed", {}, "x.csv", {"package": "no-such"}),
    File("package without a name", r"^package  is not installed", {}, "x.csv", {"package": ""}),
    File("file that a package does not have", r"^package lifetimes has no file \.\./x\.csv", {}, "../x.csv", {"package": "lifetimes"}),
    File("empty", r"^orders\.csv: is empty; export it again$", b""),
    File("white space only", r"is empty; export it again", b"\n \r\n\t\n"),
    File("delimiters only", r"is empty; export it again", b",,,\n,,,\n"),
    File("a byte order mark only", r"is empty; export it again", b"\xef\xbb\xbf"),
    File("a byte order mark of UTF-16 only", r"is empty; export it again", b"\xff\xfe"),
    File("header only", r"^orders\.csv: has a header but no rows; nothing to read$", HEADER + b"\n"),
    File("headers only in every month", r"has a header but no rows", {"orders/1.csv": HEADER, "orders/2.csv": HEADER}, "orders/"),
    File("column without a name", r"^orders\.csv: column 2 has no name in the header; name it", b"order,,day\n1,2,3\n"),
    File("no column with a name", r"column 1 has no name in the header", b" , \n1,2\n"),
    File("two columns of one name", r"two columns are called 'day'; rename one", b"day,day\n1,2\n"),
    File("two columns but for case", r"two columns are called 'Day'; rename one", b"Day,day\n1,2\n"),
    File("header of data, twice the same", r"its first line looks like data.*give names:", f"{SECRET},{SECRET}\n1,2\n".encode()),
    *[
        File(f"column called {name}", f"a column may not be called '{name}'; rename it", f"{name},day\n1,2\n".encode())
        for name in ("row_id", "ROW_NUMBER", "file", "malformed")
    ],
    File("names twice", r"two columns are called 'a'", b"1,2\n", options={"names": ["a", "a"]}),
    File("names blank", r"column 2 has no name", b"1,2\n", options={"names": ["a", ""]}),
    File("no names", r"has no columns; export it again, or correct names:", b"1,2\n", options={"names": []}),
    File("NUL bytes in a row", _MARKS, GOOD.replace(b"p1", b"\0\0\0\0p1")),
    File("Parquet called CSV", _MARKS, _COLUMN),
    File("spreadsheet called CSV", _MARKS, _SHEET),
    File("gzip called CSV", _MARKS, gzip.compress(GOOD)),
    File("gzip in gzip", _MARKS, gzip.compress(gzip.compress(GOOD)), "orders.csv.gz"),
    File("picture", r"byte 0 is not UTF-8 and no other encoding fits", b"\xff\xd8\xff\xe0\x10JFIF\x01\x81\x8d\x8f\x90\x9d" * 40),
    File("all bytes that there are", r"byte 127 is not UTF-8 and no other encoding fits", bytes(range(1, 256)) * 9),
    File("UTF-16 of odd length", r"byte \d+ is not utf-16 text; say encoding:", GOOD.decode().encode("utf-16")[:-1]),
    File("UTF-16 without mark, of odd length", r"is not utf-16-le text", GOOD.decode().encode("utf-16-le")[:-1]),
    File("declared UTF-16, but is UTF-8", r"byte 0 is not utf-16 text", GOOD, options={"encoding": "utf-16"}),
    File("declared UTF-8, but is UTF-16", r"byte 0 is not utf-8 text", GOOD.decode().encode("utf-16"), options={"encoding": "utf-8"}),
    File("declared UTF-8, but is cp1252", r"byte \d+ is not utf-8 text", GOOD + "é,é\n".encode("cp1252"), options={"encoding": "utf-8"}),
    File("declared ASCII, but is not", r"is not ascii text", GOOD + "é,é\n".encode(), options={"encoding": "ascii"}),
    File("two encodings", r"is not UTF-8, though most of its lines are; save all of it", GOOD.replace(b"p1", b"\xc3\xa9") + b"A9,c\xe9\n"),
    *[
        File(f"encoding {name!r}", r"encoding '.+' is not known; write for example utf-8", GOOD, options={"encoding": name})
        for name in ("klingon", "base64", "idna", "undefined", "utf-8\0")
    ],
    File("quotation never closed", r"^orders\.csv: row 3 opens a quotation mark that is never closed", b'a,b\n1,2\n"3,4\n5,6\n'),
    File("quotation in the header never closed", r"row 1 opens a quotation mark", b'"order,customer\n1,2\n'),
    File("gzip cut off", r"^orders\.csv\.gz: " + _DAMAGED, gzip.compress(GOOD)[:-12], "orders.csv.gz"),
    File("gzip of other content", _DAMAGED, gzip.compress(GOOD)[:-8] + b"\0" * 8, "orders.csv.gz"),
    File("gzip with rubbish behind", _DAMAGED, gzip.compress(GOOD) + b"rubbish", "orders.csv.gz"),
    File("gzip that is none", _DAMAGED, GOOD, "orders.csv.gz"),
    File("gzip of nothing", r"is empty", gzip.compress(b""), "orders.csv.gz"),
    File("bzip2 cut off", _DAMAGED, bz2.compress(GOOD)[:-9], "orders.csv.bz2"),
    File("bzip2 that is none", _DAMAGED, GOOD, "orders.csv.bz2"),
    File("xz that is none", _DAMAGED, GOOD, "orders.csv.xz"),
    File("xz cut off", _DAMAGED, lzma.compress(GOOD)[:-20], "orders.csv.xz"),
    File("Zstandard that is none", _DAMAGED, GOOD, "orders.csv.zst"),
    File("archive of nothing", r"^orders\.zip: holds no files; pack it again$", zipped({}), "orders.zip"),
    File("archive of a folder", r"holds no files", zipped({"a/": b""}), "orders.zip"),
    File("archive that is none", _DAMAGED, GOOD, "orders.zip"),
    File("archive cut off", _DAMAGED, zipped({"a.csv": GOOD * 50})[:60], "orders.zip"),
    File("archive with a hole", _DAMAGED, overwritten(zipped({"a.csv": GOOD * 50}), 60, 20), "orders.zip"),
    File("archive with a password", r"is locked with a password; unpack it by hand", locked({"a.csv": GOOD}), "orders.zip"),
    File("archive in an archive", r"cannot tell its format", zipped({"a.zip": zipped({"a.csv": GOOD})}), "orders.zip"),
    File(
        "archive with two files of one name", r"orders\.zip: holds two files called aa\.csv; pack it again",
        zipped({"aa.csv": GOOD, "bb.csv": GOOD}).replace(b"bb.csv", b"aa.csv"), "orders.zip",
    ),
    File("old spreadsheet called new", _NO_BOOK, b"\xd0\xcf\x11\xe0" + bytes(600), "orders.xlsx"),
    File("CSV called spreadsheet", _NO_BOOK, GOOD, "orders.xlsx"),
    File("archive called spreadsheet", _NO_BOOK, zipped({"a": b"b"}), "orders.xlsx"),
    File("spreadsheet cut off", _NO_BOOK, _SHEET[:-200], "orders.xlsx"),
    *[
        File(f"spreadsheet with half its {part}", _NO_BOOK, broken_part(_SHEET, part), "orders.xlsx")
        for part in ("xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/styles.xml", "[Content_Types].xml")
    ],
    File("spreadsheet of charts", _NO_BOOK, charts_only(), "orders.xlsx"),
    File("spreadsheet of nothing", r"its sheet is empty; export it again", book(), "orders.xlsx"),
    File("spreadsheet of a header", r"has a header but no rows", book(["a", "b"]), "orders.xlsx"),
    File("sheet that is not there", r"has no sheet 'Orders'; it has Sheet$", _SHEET, "orders.xlsx", {"sheet": "Orders"}),
    File("Parquet cut off", r"is empty or is not a Parquet file; export it again", _COLUMN[:-20], "orders.parquet"),
    File("Parquet with a hole", _DAMAGED, overwritten(_COLUMN, 10, 50), "orders.parquet"),
    File("CSV called Parquet", r"is empty or is not a Parquet file", GOOD, "orders.parquet"),
    File("Parquet of structures", r"column 'a' of type struct<.+> cannot be read as text", parquet({"a": [{"x": 1}]}), "orders.parquet"),
    File("Parquet of lists", r"column 'a' of type list<.+> cannot be read as text", parquet({"a": [[1]]}), "orders.parquet"),
    File("Parquet of bytes", r"column 'a' of type binary cannot be read as text", parquet({"a": [b"\xff"]}), "orders.parquet"),
    File(
        "Parquet of text that is none", r"column 'a' holds bytes that are not UTF-8",
        parquet({"a": pa.array([b"caf\xe9"]).view(pa.string())}), "orders.parquet",
    ),
    File("Parquet without rows", r"has a header but no rows", parquet({"a": pa.array([], pa.string())}), "orders.parquet"),
    File("Parquet without columns", r"has no columns", parquet({}), "orders.parquet"),
    File("Parquet with one name twice", r"two columns are called 'a'", parquet([["1"], ["2"]], ["a", "a"]), "orders.parquet"),
    File("Parquet with a blank name", r"column 1 has no name", parquet([["1"]], ["  "]), "orders.parquet"),
    File("month without a column", r"^2\.csv: has no column 'amount', which 1\.csv has", {"o/1.csv": GOOD, "o/2.csv": GOOD.replace(b"amount", b"total")}, "o/"),
    File("month with one more column", r"^2\.csv: has a column 'x', which 1\.csv has not", {"o/1.csv": GOOD, "o/2.csv": GOOD.replace(b"amount", b"amount,x")}, "o/"),
    File(
        "month without a header", r"^2\.csv: has not the columns that 1\.csv has, and one of them begins with data; give names:",
        {"o/1.csv": GOOD, "o/2.csv": GOOD.partition(b"\n")[2]}, "o/",
    ),
    File("month of nothing", r"^2\.csv: is empty", {"o/1.csv": GOOD, "o/2.csv": b"\n"}, "o/"),
]  # fmt: skip

DATABASES = [
    ("that no driver knows", {"database": "foo://bar", "table": "t"}, r"^database foo://bar t: .*; correct the source"),
    ("that is not there", {"database": "sqlite:///no/where.db", "table": "t"}, r"there is no such file; correct database in the study"),
    ("whose variable is not set", {"database": "postgres://me:${NO_SUCH_SECRET}@h/s", "table": "t"}, r"the environment variable NO_SUCH_SECRET is not set"),
    ("with a $ too many", {"database": "postgres://me:se$ cret@h/s", "table": "t"}, r"a \$ that stands for itself is written \$\$"),
    ("that refuses", {"database": f"postgres://me:{SECRET.partition('@')[0]}@127.0.0.1:1/s", "table": "t"}, r"postgres://…@127\.0\.0\.1:1/s t: connection failed"),
    ("without this table", {"database": "duckdb://{folder}/shop.db", "table": "nope"}, r"nope: there is no such table; correct table in the study"),
    ("asked in bad SQL", {"database": "duckdb://{folder}/shop.db", "query": "selekt a from t"}, r"syntax error at or"),
    ("asked for another column", {"database": "duckdb://{folder}/shop.db", "query": "select nope from t"}, r"column .nope. not found"),
    ("asked for numbers in words", {"database": "duckdb://{folder}/shop.db", "query": "select cast(a as integer) as a from t"}, r"Could not convert string … to"),
]  # fmt: skip


@dataclass(frozen=True)
class Text:
    """A study.yaml that is no study, as text."""

    what: str
    message: str
    text: str


TEXTS = [
    Text("empty", r"title is missing \(and 2 more\)$", " "),
    Text("a list", r"expected 'key: value' lines, found a list", "- a\n- b\n"),
    Text("a number", r"expected 'key: value' lines, found a int", "42\n"),
    Text("a tab", r"line 2 found character '\\t' that cannot start any token", "title: X\n\tcurrency: EUR\n"),
    Text("a quotation never closed", r"line 2 found unexpected end of stream", 'title: "X\n'),
    Text("a bracket never closed", r"line \d", "title: [a\n"),
    Text("an unknown anchor", r"line 1 found undefined alias 'x'", "title: *x\n"),
    Text("a call of a program", r"line 1 could not determine a constructor", "title: !!python/object/apply:os.system [ls]\n"),
    Text("two documents", r"line 2 but found another document", "title: X\n---\ntitle: Y\n"),
    Text("a key twice", r"line 2 the key 'title' is there twice", "title: a\ntitle: b\n"),
    Text("a key of several words", r"line 2 a key must be one word", "title: a\n? [b, c]\n: 1\n"),
    Text("a date for a key", r"is not a known key; check its spelling", "2024-01-01: x\n"),
    Text("nothing for a key", r"None is not a known key", "~: x\n"),
    Text("its own name", r"name is not set here; the folder's name says it", "title: a\nname: b\n"),
    Text("like no other", r"like: there is no study 'nowhere'; take like: out$", "like: nowhere\n"),
    Text("like itself", r"like: 'shop' is like this study itself; name a study", "like: shop\n"),
    Text("like another folder", r"like: there is no study '\.\./shop'", "like: ../shop\n"),
    Text("brackets without end", r"study\.yaml: is nested too deeply to be read", "title: " + "[" * 3000),
    Text("a control character", r"line 2 holds the control character U\+0001; take it out", "title: X\nabout: a\x01b\n"),
    Text("30 February, unquoted", r"line 3 '2024-02-30' is no timestamp; correct it", "title: X\nclock:\n  observed_from: 2024-02-30\n"),
]  # fmt: skip


def lines(**columns):
    """The shop's order lines with other mappings; None takes one out."""
    table = shop()["tables"]["order_lines"]
    mapped = table["columns"] | columns
    return {"tables": {"order_lines": table | {"columns": {c: m for c, m in mapped.items() if m is not None}}}}


def source(**options):
    return {"sources": {"orders": {"file": "orders.csv"} | options}}


def rules(**wanted):
    return {"rules": wanted}


def survey(scale=(1, 10), items=("s1",), columns=None):
    table = {"source": "orders", "columns": {"response_id": "order"} | (columns or {})}
    return {"survey": {"scale": list(scale), "blocks": {"S": list(items)}}, "tables": {"survey_responses": table}}


def contacts(**more):
    columns = {"campaign_id": "order", "customer_id": "customer", "arm": {"constant": "a"}}
    table = {"source": "orders", "columns": columns | more.pop("columns", {})} | more
    return {"tables": shop()["tables"] | {"contacts": table}}


def strangers():
    """Campaigns and contacts of customers that no table lists."""
    columns = {"campaign_id": "order", "starts_on": "day", "design": {"constant": "observational"}}
    tables = {
        "campaigns": {"source": "orders", "columns": columns},
        "contacts": contacts(untargeted=True)["tables"]["contacts"],
    }
    return {"tables": tables}


# What is wrong, what is said, the change of the shop's study; found when the study is loaded.
STUDIES = [
    ("unknown key", r"moeny is not a known key; check its spelling", {"moeny": {}}),
    ("title that is a list", r"title: Input should be a valid string", {"title": ["a"]}),
    ("margin of 30", r"money\.margin: 30 is not a share between 0 and 1; write 0\.30 for 30 %", {"money": {"margin": 30}}),
    ("margin in words", r"money\.margin: .*; found '30 %'", {"money": {"margin": "30 %"}}),
    ("margin that is no number", r"money\.margin\.value: Input should be a finite number; found 'nan'", {"money": {"margin": float("nan")}}),
    ("margin without bounds", r"money\.margin\.value: Input should be a finite number; found 'inf'", {"money": {"margin": float("inf")}}),
    ("margin outside its range", r"0\.3 is not between low 0\.5 and high 0\.3", {"money": {"margin": {"value": 0.3, "low": 0.5}}}),
    ("cost without bounds", r"money\.contact_cost\.value: Input should be a finite number", {"money": {"contact_cost": float("inf")}}),
    ("negative cost", r"money\.contact_cost: -1 is negative", {"money": {"contact_cost": -1}}),
    ("negative discount rate", r"money\.discount_rate: -0\.1 is not a share", {"money": {"discount_rate": -0.1}}),
    ("clock backwards", r"clock: observed_from 2024-12-31 is not before observed_to 2024-01-01", {"clock": {"observed_from": "2024-12-31", "observed_to": "2024-01-01"}}),
    ("clock that stands still", r"is not before observed_to", {"clock": {"observed_from": "2024-01-01", "observed_to": "2024-01-01"}}),
    ("30 February", r"clock\.observed_from: .*; found '2024-02-30'", {"clock": {"observed_from": "2024-02-30", "observed_to": "2024-12-31"}}),
    ("today", r"clock\.observed_to: .*; found 'today'", {"clock": {"observed_from": "2024-02-01", "observed_to": "today"}}),
    ("unknown entry", r"clock\.entry: Input should be", {"clock": {"observed_from": "2024-01-01", "observed_to": "2024-12-31", "entry": "never"}}),
    ("no clock", r"clock: missing; say observed_from and observed_to", {"clock": None}),
    ("unknown zone", r"timezone: 'Paris' is not an IANA time zone", {"timezone": "Paris"}),
    ("offset for a zone", r"timezone: '\+02:00' is not an IANA time zone", {"timezone": "+02:00"}),
    ("currency in words", r"currency: 'euro' is not an ISO 4217", {"currency": "euro"}),
    ("currency as a number", r"currency: '978' is not an ISO 4217", {"currency": 978}),
    ("unknown locale", r"locale: 'xx-99' is not a locale", {"locale": "xx-99"}),
    ("negative seed", r"seed: Input should be greater than or equal to 0", {"seed": -1}),
    ("seed beyond all generators", r"seed: Input should be less than or equal to 4294967295", {"seed": 10**30}),
    ("no editions", r"keep_editions: Input should be greater than or equal to 1", {"keep_editions": 0}),
    ("unknown engine", r"engine\.kind: Input should be 'duckdb', 'postgres' or 'spark'; found 'oracle'", {"engine": "oracle"}),
    ("list of engines", r"engine: Input should be a valid dictionary", {"engine": ["duckdb"]}),
    ("postgres without a database", r"engine: postgres needs database", {"engine": "postgres"}),
    ("duckdb with a database", r"engine: database is for postgres; duckdb has none", {"engine": {"kind": "duckdb", "database": "x"}}),
    ("postgres in a file", r"engine: database must begin with postgres:// or postgresql://", {"engine": {"kind": "postgres", "database": "sqlite:///x.db"}}),
    ("postgres without an address", r"engine: database must begin with postgres://", {"engine": {"kind": "postgres", "database": "a secret word"}}),
    ("sources that are a list", r"sources: Input should be a valid dictionary", {"sources": ["orders.csv"]}),
    ("no sources", r"source 'orders' is not under sources", {"sources": {}}),
    ("source without a place", r"sources\.orders: give either file or database", {"sources": {"orders": {}}}),
    ("source in two places", r"give either file or database", source(database="x")),
    ("source with a path for a name", r"sources: '\.\./x' cannot name a source; use letters, digits, _ and -", {"sources": {"../x": {"file": "orders.csv"}}}),
    ("source without a name", r"sources: '' cannot name a source", {"sources": {"": {"file": "orders.csv"}}}),
    *[
        (f"file {file!r}", r"sources\.orders: file '.*' names no file; write for example orders\.csv", source(file=file))
        for file in ("", " ", "a\0.csv", "a\n.csv")
    ],
    *[
        (f"file {file}", r"must lie in the study's folder of raw data", source(file=file))
        for file in ("/etc/passwd", "../cdnow/orders.csv", "a/../../orders.csv", "**/../../*.csv")
    ],
    ("old spreadsheet", r"cannot tell the format of orders\.xls; .*save a spreadsheet as \.xlsx", source(file="orders.xls")),
    ("table and query", r"needs either table or query", {"sources": {"orders": {"database": "x", "table": "a", "query": "b", "snapshot": "1"}}}),
    ("database without a snapshot", r"needs snapshot", {"sources": {"orders": {"database": "x", "table": "a"}}}),
    ("delimiter of two characters", r"delimiter ';;' is not one character, tab or whitespace", source(delimiter=";;")),
    ("delimiter of none", r"delimiter '' is not one character", source(delimiter="")),
    *[
        (f"delimiter {sign!r}", r"delimiter '.+' cannot part fields; write for example ; or tab", source(delimiter=sign))
        for sign in ('"', "\n", "\r", "\0")
    ],
    *[
        (f"thousands {sign}", r"thousands '.' must be a comma, a point, an apostrophe, _ or a blank", source(thousands=sign))
        for sign in ("0", "-", "e", "(")
    ],
    ("thousands and decimals alike", r"thousands '\.' must be one character, and not the decimal sign", source(thousands=".")),
    ("unknown decimal sign", r"sources\.orders\.decimal: Input should be", source(decimal="'")),
    ("sample of nobody", r"sample\.customers: Input should be greater", source(sample={"column": "customer", "customers": 0})),
    ("sample among nowhere", r"sample\.among: 'x' is not under sources", source(sample={"column": "c", "customers": 5, "among": "x"})),
    ("no table", r"tables: needs at least one; choose from customers", {"tables": {}}),
    ("unknown table", r"tables\.orders: not a table that a study maps", {"tables": {"orders": {"source": "orders", "columns": {}}}}),
    ("table that is made", r"tables\.customer_value: not a table that a study maps", {"tables": {"customer_value": {"source": "orders", "columns": {}}}}),
    ("needed column not mapped", r"ordered_at has no mapping", lines(ordered_at=None)),
    ("unknown column", r"'colour' is not a column of order_lines", lines(colour="sku")),
    ("mapping in two ways", r"columns\.cost: give exactly one of column, constant", lines(cost={"column": "a", "constant": "1"})),
    ("mapping in no way", r"columns\.cost: give exactly one of", lines(cost={})),
    ("mapping that is a number", r"columns\.cost: .*; found '5'", lines(cost=5)),
    *[
        (f"{way} of nothing", rf"order_lines\.columns\.cost\.{way}: names no raw column; name at least one", lines(cost={way: []}))
        for way in ("sum", "product", "combine")
    ],
    *[
        (f"{way} of days", r"columns\.ordered_at: only numbers can be summed or multiplied", lines(ordered_at={way: ["day"]}))
        for way in ("sum", "product")
    ],
    ("product of ids", r"columns\.order_id: only numbers can be", lines(order_id={"product": ["order"]})),
    ("sum for an attribute", r"attributes\.a: only numbers can be", contacts(attributes={"a": {"sum": ["pieces"]}})),
    ("attribute looked up", r"attributes\.a: cannot be looked up", contacts(attributes={"a": {"column": "sku", "lookup": {"source": "orders", "key": "sku", "value": "day"}}})),
    ("format of a number", r"columns\.cost: format and day_first are for dates", lines(cost={"column": "amount", "format": "%d"})),
    ("day first in a text", r"columns\.channel: format and day_first are for dates", lines(channel={"column": "sku", "day_first": True})),
    ("format of nothing", r"format '' has no part of a date", lines(ordered_at={"column": "day", "format": ""})),
    ("format in words", r"format 'day' has no part of a date", lines(ordered_at={"column": "day", "format": "day"})),
    ("untargeted among nobody", r"contacts\.untargeted: needs tables\.order_lines or tables\.customers", strangers()),
    ("lookup to nowhere", r"source 'nowhere' is not under sources", lines(cost={"column": "sku", "lookup": {"source": "nowhere", "key": "a", "value": "b"}})),
    ("lookup of a constant", r"columns\.cost: lookup needs column", lines(cost={"constant": "1", "lookup": {"source": "orders", "key": "a", "value": "b"}})),
    ("lookup of money", r"net_amount: cannot be looked up", lines(net_amount={"column": "sku", "lookup": {"source": "orders", "key": "sku", "value": "amount"}})),
    ("prefix of nothing", r"prefix needs column", lines(order_id={"constant": "1", "prefix": "x"})),
    ("unknown part of a date", r"format '%q': %q is not a part of a date", lines(ordered_at={"column": "day", "format": "%q"})),
    ("format that breaks off", r"% is not a part of a date", lines(ordered_at={"column": "day", "format": "%Y-%m-%"})),
    ("day first perhaps", r"ordered_at\.day_first: Input should be a valid boolean", lines(ordered_at={"column": "day", "day_first": "maybe"})),
    ("zone of a mapping", r"'Mars' is not an IANA time zone", lines(ordered_at={"column": "day", "timezone": "Mars"})),
    ("price without quantity", r"unit_price: means nothing without quantity", lines(unit_price="amount", quantity=None)),
    ("line number without order", r"line_number: means nothing without order_id", lines(line_number="pieces", order_id=None)),
    ("returns by a word", r"is_return: cannot be mapped", lines(is_return="sku")),
    ("attributes of lines", r"order_lines takes none", {"tables": {"order_lines": shop()["tables"]["order_lines"] | {"attributes": {"a": "sku"}}}}),
    ("redemptions from nowhere", r"source 'zz' is not under sources", contacts(redemptions={"source": "zz", "campaign_id": "order", "customer_id": "customer"})),
    ("redemptions twice", r"redeemed is mapped and redemptions are given", contacts(columns={"redeemed": "sku"}, redemptions={"source": "orders", "campaign_id": "order", "customer_id": "customer"})),
    *[
        (f"pattern {pattern}", r"rules\.non_products\.0: .* is not a regular expression", rules(non_products=[pattern]))
        for pattern in ("(", "[", "*", "x(?i)y", "(?P=n)", r"\p{L}", "\\")
    ],
    *[
        (f"pattern {pattern}", r"rules\.non_products\.0: .* not every engine reads '.+' as meant", rules(non_products=[pattern]))
        for pattern in (
            "(?=x)y", "(?<!x)y", r"\bx", "a++", "a+?", r"x\Z", "(?P<n>x)", "(?i)x", r"(a)\1", "a{1001}", "a{256}", "a{,2}",
            r"\N{BULLET}", r"\u00e9", r"\x41", r"\n", "[[:alpha:]]", "[a&&b]", "[]a]", r"[\D]", "a\tb", "x}",
        )
    ],
    ("pattern that repeats repeats", r"repeats more than every engine can count", rules(non_products=["((a{200}){200}){200}"])),
    ("cancellations that are blank", r"rules\.cancellations: order_id 'C\*' fits a blank too", rules(cancellations={"order_id": "C*"})),
    ("cancellations of two orders", r"rules\.cancellations: order_id '.+' has several groups", rules(cancellations={"order_id": "(C)-(.+)"})),
    *[
        (f"{name} without orders", rf"rules\.{name}: needs tables\.order_lines\.columns\.order_id", lines(order_id=None) | rules(**{name: wanted}))
        for name, wanted in (("cancellations", {"order_id": "C.+"}), ("duplicate_lines", 60), ("order_times", True))
    ],
    *[
        (f"{name} without quantities", rf"rules\.{name}: needs tables\.order_lines\.columns\.quantity", lines(quantity=None) | rules(**{name: wanted}))
        for name, wanted in (("cancellations", {"order_id": "C.+"}), ("duplicate_lines", 60))
    ],
    ("tests by what is not mapped", r"rules\.test_orders\.store_id: needs tables\.order_lines\.columns\.store_id", rules(test_orders={"store_id": "T"})),
    ("fees without products", r"rules\.non_products: needs tables\.order_lines\.columns\.product_id", lines(product_id=None) | rules(non_products=["FEE"])),
    ("id form longer than an id", r"rules\.customer_id: prefix 5 is longer than length 3", rules(customer_id={"pattern": "C.+", "prefix": 5, "length": 3})),
    ("outliers without bounds", r"rules\.outliers: Input should be a finite number", rules(outliers=float("inf"))),
    ("persons by a key of nothing", r"rules\.same_person\.keys\.0: names no raw column", rules(same_person={"keys": [[]]})),
    ("id form without a pattern", r"rules\.customer_id\.pattern is missing", rules(customer_id={})),
    ("id form with a bad pattern", r"rules\.customer_id\.pattern: 'C\[' is not a regular expression", rules(customer_id={"pattern": "C["})),
    ("id form with a negative prefix", r"rules\.customer_id\.prefix: ", rules(customer_id={"pattern": "C", "prefix": -1})),
    ("cancellations without a pattern", r"rules\.cancellations\.order_id is missing", rules(cancellations={})),
    ("unknown treatment", r"rules\.treatment\.outlier: .*; found 'ignore'", rules(treatment={"outlier": "ignore"})),
    ("treatments in a list", r"rules\.treatment: Input should be a valid dictionary", rules(treatment=["outlier"])),
    ("repeats before", r"rules\.duplicate_lines: Input should be greater", rules(duplicate_lines=-5)),
    ("outliers that are the middle", r"rules\.outliers: Input should be greater than 1", rules(outliers=1)),
    ("tests by a colour", r"rules\.test_orders\.colour", rules(test_orders={"colour": "x"})),
    ("persons by nothing", r"rules\.same_person: give keys, or at least two columns to compare", rules(same_person={})),
    ("persons by one column", r"give keys, or at least two columns", rules(same_person={"compare": {"mail": "email"}})),
    ("persons by their smell", r"same_person\.compare\.mail: Input should be", rules(same_person={"compare": {"mail": "smell", "x": "name"}})),
    ("persons beyond certainty", r"same_person\.threshold: Input should be less than 1", rules(same_person={"keys": ["mail"], "threshold": 2})),
    ("personal column of no source", r"privacy\.personal: 'nope\.x' is not a source\.column", {"privacy": {"personal": ["nope.x"]}}),
    ("groups of nobody", r"privacy\.small_group: ", {"privacy": {"small_group": 0}}),
    ("survey without a scale", r"survey: missing; say the answer scale", {"tables": {"survey_responses": {"source": "orders", "columns": {"response_id": "order"}}}}),
    ("scale downwards", r"survey.scale: scale \[10\.0, 1\.0\] does not go from low to high", survey(scale=(10, 1))),
    ("scale of three", r"survey\.scale: ", survey(scale=(1, 2, 3))),
    ("no item mapped", r"no item of survey\.blocks is mapped", survey()),
    ("simulation of Mars", r"simulation\.world: ", {"simulation": {"world": "mars", "customers": 100}}),
]  # fmt: skip

_PEOPLE = {"people": {"file": "people.csv"}, "orders": {"file": "orders.csv"}}


def customers(**more):
    table = {"source": "people", "columns": {"customer_id": "id"}} | more
    return {"sources": _PEOPLE, "tables": shop()["tables"] | {"customers": table}}


# The same, where only the files tell that the study is wrong.
AGAINST_FILES = [
    ("misspelt column", r"net_amount: source orders has no column 'amonut'; did you mean 'amount'\?", lines(net_amount="amonut")),
    ("column with a blank", r"no column ' amount'; did you mean 'amount'\?", lines(net_amount=" amount")),
    ("lookup without a key", r"columns\.cost\.lookup: source orders has no column 'a'; it has order, customer", lines(cost={"column": "sku", "lookup": {"source": "orders", "key": "a", "value": "b"}})),
    ("mapping of a blank name", r"columns\.cost: source orders has no column ''", lines(cost="")),
    *[
        (f"survey item called {name!r}", rf"survey_responses\.columns: '{name}' is the name of another column", survey(items=(name,), columns={name: "pieces"}))
        for name in ("mask", "row_id", "s__bad", "customer_id")
    ],
    ("survey items alike but for case", r"columns: 'S1' is the name of another column", survey(items=("s1", "S1"), columns={"s1": "pieces", "S1": "pieces"})),
    ("sample of no column", r"sources\.orders\.sample\.column: source orders has no column 'cust'", source(sample={"column": "cust", "customers": 1})),
    ("declared delimiter is wrong", r"no column 'order'; it has order,customer,day,sku,pieces,amount only; check delimiter:", source(delimiter=";")),
    *[
        (f"attribute called {name!r}", r"is the name of another column", customers(attributes={name: "mail"}))
        for name in ("customer_id", "mask", "Region", "a__b", "duplicate_key")
    ],
    ("attributes alike but for case", r"'mail' is the name of another column", customers(attributes={"Mail": "mail", "mail": "id"})),
    ("persons without customers", r"rules\.same_person: needs tables\.customers", rules(same_person={"keys": ["mail"]})),
    ("persons by a misspelt column", r"rules\.same_person: source people has no column 'mial'; did you mean 'mail'", customers() | rules(same_person={"keys": ["mial"]})),
    ("treatment of no rule", r"rules\.treatment\.no_such: 'warn' cannot be; these rules leave a choice", rules(treatment={"no_such": "warn"})),
    ("treatment where there is no choice", r"rules\.treatment\.missing_value: 'warn' cannot be; it leaves no choice; take it out", rules(treatment={"missing_value": "warn"})),
    ("treatment that a rule does not offer", r"'set_aside' cannot be; choose warn or off", rules(treatment={"cancelled_whole": "set_aside"})),
    ("engine whose variable is not set", r"^studies/shop/study\.yaml: engine\.database: the environment variable NO_SUCH_SECRET is not set", {"engine": {"kind": "postgres", "database": "postgres://a:${NO_SUCH_SECRET}@h/d"}}),
    ("engine whose variable holds no address", r"engine\.database: must begin with postgres://", {"engine": {"kind": "postgres", "database": "${HOME}"}}),
    ("engine that refuses", r"engine: no connection to PostgreSQL \(.+\); correct engine\.database", {"engine": {"kind": "postgres", "database": f"postgres://a:{SECRET.partition('@')[0]}@127.0.0.1:1/d"}}),
    ("personal column without a key", r"RAPPORT_KEY must hold a key of 16 characters", {"privacy": {"personal": ["orders.customer"]}}),
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of a file: its cells, the reasons of quarantine (blank: it is kept), all other reasons that are counted for it, and
    values that it has when it is kept."""

    what: str
    cells: tuple[str, ...]
    aside: str = ""
    counted: str = ""
    gives: dict[str, object] = field(default_factory=dict)


_LINE = {"customer": "C0001", "day": "2024-05-02", "sku": "p1", "pieces": "1", "price": "", "cost": "", "amount": "10.00", "channel": "web"}  # fmt: skip
LINE_COLUMNS = ("order", *_LINE)


def line(what, aside="", counted="", gives=None, **cells):
    """A line of an order of its own, unless it says which."""
    order = cells.pop("order", what)
    return Row(what, (order, *(_LINE | cells).values()), aside, counted, gives or {})


def fields(what, *cells):
    return Row(what, cells, "malformed_row")


def at(moment):
    return {"ordered_at": moment}


def worth(amount):
    return {"net_amount": amount}


_NARROW = " "  # a narrow no-break space
LINES = [
    line("good"),
    # -- rows that do not fit
    fields("too few fields", "short", "C0001", "2024-05-02"),
    fields("too many fields", "long", *_LINE.values(), "more"),
    fields("unquoted comma in an amount", "comma", *[*_LINE.values()][:-2], "1", "234.50", "web"),
    # -- who
    line("no customer", "missing_customer_id", customer=""),
    line("white space for a customer", "missing_customer_id", customer="  "),
    line("customer of another form", "malformed_customer_id", customer="X0001"),
    line("e-mail for a customer", "malformed_customer_id", customer=SECRET),
    line("formula for a customer", "malformed_customer_id", customer="=HYPERLINK(1)"),
    line("HTML for a customer", "malformed_customer_id", customer="<script>alert(1)</script>"),
    line("SQL for a customer", "malformed_customer_id", customer="C0001'; DROP TABLE customers; --"),
    line("customer with a digit too many", "malformed_customer_id", customer="C00011"),
    line("customer in small letters", counted="customer_id_form", customer="c0001", gives={"customer_id": "C0001"}),
    line("letters O for zeros", counted="customer_id_form", customer="CoO01", gives={"customer_id": "C0001"}),
    line("zeros lost", counted="customer_id_form", customer="C1", gives={"customer_id": "C0001"}),
    line("blanks in a customer", counted="customer_id_form", customer="C 00 01", gives={"customer_id": "C0001"}),
    line("white space around a customer", customer=" C0001 ", gives={"customer_id": "C0001"}),
    line("full-width customer", customer="Ｃ０００１", gives={"customer_id": "C0001"}),
    line("second id of one person", counted="merged_id", customer="C0003", gives={"customer_id": "C0002"}),
    # -- when
    line("no day", "missing_value", day=""),
    line("day first or month first", "ambiguous_date", day="02/03/2024"),
    line("day first or month first, with hours", "ambiguous_date", day="02/03/2024 10:00"),
    line("a word for a day", "unreadable_value", day="yesterday"),
    line("infinity for a day", "unreadable_value", day="infinity"),
    line("a serial number of a spreadsheet", "unreadable_value", day="45414"),
    line("seconds of an epoch", "unreadable_value", day="1714608000"),
    line("31 April", "unreadable_value", day="2024-04-31"),
    line("29 February of no leap year", "unreadable_value", day="2023-02-29"),
    line("month 13", "unreadable_value", day="2024-13-01"),
    line("day 0", "unreadable_value", day="2024-05-00"),
    line("hour 25", "unreadable_value", day="2024-05-02 25:00"),
    line("minute 60", "unreadable_value", day="2024-05-02 10:60"),
    line("year of two digits", "unreadable_value", day="31/12/24"),
    line("year 0001", "unreadable_value", day="0001-01-01"),
    line("year 9999", "unreadable_value", day="9999-12-31"),
    line("offset of no zone", "unreadable_value", day="2024-05-02T10:00:00+99:99x"),
    line("before the clock", "before_period", day="2023-12-31 23:59:59"),
    line("after the clock", "after_period", day="2025-01-01"),
    line("before the clock only in UTC", day="2024-01-01 00:30", gives=at("2023-12-31 23:30")),
    line("after the clock only in Paris", "after_period", day="2024-12-31T23:30:00Z"),
    line("29 February of a leap year", day="2024-02-29", gives=at("2024-02-28 23:00")),
    line("month first, one reading", counted="date_form", day="05/31/2024", gives=at("2024-05-30 22:00")),
    line("day first, one reading", counted="date_form", day="31/05/2024", gives=at("2024-05-30 22:00")),
    line("day first with points", counted="date_form", day="2.5.2024", gives=at("2024-05-01 22:00")),
    line("day and month alike", counted="date_form", day="5/5/2024", gives=at("2024-05-04 22:00")),
    line("year first with strokes", counted="date_form", day="2024/5/2", gives=at("2024-05-01 22:00")),
    line("offset", day="2024-05-02T23:30:00-08:00", gives=at("2024-05-03 07:30")),
    line("offset without a colon", day="2024-05-02 23:30:00+0530", gives=at("2024-05-02 18:00")),
    line("Z", day="2024-05-02T10:00:00Z", gives=at("2024-05-02 10:00")),
    line("hour that there is not", day="2024-03-31 02:30", gives=at("2024-03-31 01:30")),
    line("hour that comes twice", day="2024-10-27 02:30", gives=at("2024-10-27 01:30")),
    line("full-width day", day="２０２４-０５-０２", gives=at("2024-05-01 22:00")),
    # -- how much
    line("no amount", "missing_value", amount=""),
    line("a word for an amount", "unreadable_value", amount="ten"),
    line("NaN", "unreadable_value", amount="NaN"),
    line("inf", "unreadable_value", amount="-inf"),
    line("hexadecimal amount", "unreadable_value", amount="0x10"),
    line("share for an amount", "unreadable_value", amount="10 %"),
    line("formula for an amount", "unreadable_value", amount="=1+1"),
    line("two amounts", "unreadable_value", amount="10.00/12.00"),
    line("two points too near", "unreadable_value", amount="1.2.3"),
    line("amount with the sign of another currency", "unreadable_value", amount="£10.00"),
    line("amount of 15 digits", "unreadable_value", amount="100000000000000"),
    line("amount of 40 digits", "unreadable_value", amount="1" * 40),
    line("exponent beyond all money", "unreadable_value", amount="1e99"),
    line("thousands or decimals", "ambiguous_number", amount="1,234"),
    line("thousands or decimals, with a sign", "ambiguous_number", amount="€1,234"),
    line("decimal comma", counted="decimal_sign", amount="10,50", gives=worth("10.5")),
    line("thousands with points, decimals with a comma", counted="thousands_separator decimal_sign outlier", amount="1.234,50", gives=worth("1234.5")),
    line("thousands with commas", counted="thousands_separator outlier", amount="1,234.50", gives=worth("1234.5")),
    line("thousands with blanks", counted="thousands_separator outlier", amount=f"1{_NARROW}234.50", gives=worth("1234.5")),
    line("thousands with apostrophes", counted="thousands_separator outlier", amount="1'234.50", gives=worth("1234.5")),
    line("currency sign", counted="currency_sign", amount="€ 10.00", gives=worth("10")),
    line("currency code", counted="currency_sign", amount="10.00 EUR", gives=worth("10")),
    line("minus behind", counted="negative_form return_quantity", amount="10.00-", gives=worth("-10")),
    line("brackets for a minus", counted="negative_form return_quantity", amount="(10.00)", gives=worth("-10")),
    line("dash for a minus", counted="negative_form return_quantity", amount="\u221210.00", gives=worth("-10")),
    line("brackets and a currency sign", counted="negative_form currency_sign return_quantity", amount="(€10.00)", gives=worth("-10")),
    line("full-width amount", amount="１０．００", gives=worth("10")),
    line("exponent", amount="1.5e1", gives=worth("15")),
    line("many places", amount="10.00004999", gives=worth("10")),
    line("tie to the even digit", amount="10.00025", gives=worth("10.0002")),
    line("plus", amount="+10.00", gives=worth("10")),
    line("the largest amount", counted="outlier", amount="99999999999999.99", gives=worth("99999999999999.99")),
    # -- how many, at what price
    line("a word for a quantity", "unreadable_value", pieces="many"),
    line("no quantity", "missing_value", pieces=""),
    line("fraction of a piece", pieces="0.453", price="22.08", gives={"quantity": "0.453"}),
    line("nothing for nothing", "empty_line", pieces="0", amount="0"),
    line("money for nothing", counted="quantity_zero", pieces="0", gives={"unit_price": None}),
    line("a gift", counted="zero_price", amount="0.00", gives=worth("0")),
    line("return for money", "sign_conflict", pieces="-1"),
    line("return of a positive quantity", counted="return_quantity", amount="-10.00", gives={"quantity": "-1"}),
    line("negative price", "negative_price", price="-10.00"),
    line("negative cost", "negative_price", cost="-4.00"),
    line("price that is not the amount", "amount_mismatch", pieces="2", price="10.00"),
    line("a word for a cost", counted="unreadable_optional", cost="dear", gives={"cost": None}),
    line("ambiguous cost", counted="unreadable_optional", cost="1,234", gives={"cost": None}),
    line("several at once", "missing_customer_id unreadable_value", customer="", day="2024-13-45", amount="x"),
    # -- what
    line("unknown product", counted="unknown_product", sku="p404"),
    line("postage", "non_product", "unknown_product", sku="POST"),
    line("fee", "non_product", "unknown_product", sku="FEE-7"),
    line("test by its order", "test_order", order="TEST-1"),
    line("test by its channel", "test_order", channel="staging"),
    # -- again, and back
    line("moments before", order="A1"),
    line("moments later", "duplicate_line", order="A1", day="2024-05-02 00:00:30"),
    line("taken back whole", order="B1", day="2024-05-02", amount="12.00"),
    line("whole cancellation", counted="cancelled_whole", order="C-B1", day="2024-05-03", pieces="-1", amount="-12.00"),
    line("taken back in part", order="B2", day="2024-05-02", pieces="3", amount="30.00"),
    line("part cancellation", counted="cancelled_partly", order="C-B2", day="2024-05-03", pieces="-1", amount="-10.00"),
    line("cancellation without original", "cancellation_without_original", order="C-B404", pieces="-1", amount="-10.00"),
    line("cancellation before its original", "cancellation_without_original", order="C-B2", day="2024-05-01", pieces="-1", amount="-10.00"),
    # -- texts that would do harm elsewhere
    line("formula for an order", order="=cmd|' /C calc'!A0", gives={"order_id": "=cmd|' /C calc'!A0"}),
    line("HTML for a channel", channel="<img src=x onerror=alert(1)>", gives={"channel": "<img src=x onerror=alert(1)>"}),
    line("quotation marks for an order", order='say ""hello""', gives={"order_id": 'say ""hello""'}),
    line("line break in a channel", channel="two\nlines", gives={"channel": "two\nlines"}),
    *[line(f"good {n}") for n in range(20)],
]  # fmt: skip

OTHERS = {
    "products": (("sku", "name"), [
        Row("product", ("p1", "Tea")),
        Row("product twice", ("p1", "Milk"), "duplicate_key"),
        Row("product without an id", ("", "Nothing"), "missing_value"),
    ]),
    "people": (("id", "mail", "since", "news"), [
        Row("person", ("C0001", SECRET, "2024-01-05", "yes")),
        Row("first id of a person", ("C0002", "bo@example.org", "2024-01-05", "no")),
        Row("second id of a person", ("C0003", "bo@example.org", "2024-02-05", "no"), "same_person"),
        Row("person twice", ("C0001", "other@example.org", "2024-01-05", "yes"), "duplicate_key"),
        Row("person without an id", ("", "x@example.org", "2024-01-05", "yes"), "missing_customer_id"),
        Row("person with a name for an id", ("Anna Secret", "y@example.org", "2024-01-05", "yes"), "malformed_customer_id"),
        Row("person since no day", ("C0005", "z@example.org", "long ago", "yes"), counted="unreadable_optional"),
        Row("person who may be written to perhaps", ("C0006", "w@example.org", "2024-01-05", "perhaps"), counted="unreadable_optional"),
    ]),
    "campaigns": (("id", "start", "end", "design", "cost"), [
        Row("campaign", ("k1", "2024-03-01", "2024-03-31", "randomised", "0.50")),
        Row("campaign that ends before it starts", ("k2", "2024-03-31", "2024-03-01", "randomised", "1"), "ends_before_start"),
        Row("campaign of no design", ("k3", "2024-03-01", "2024-03-31", "guesswork", "1"), "unknown_word"),
        Row("campaign without a start", ("k4", "", "2024-03-31", "randomised", "1"), "missing_value"),
        Row("campaign twice", ("k1", "2024-04-01", "2024-04-30", "randomised", "1"), "duplicate_key"),
        Row("campaign at a negative cost", ("k5", "2024-03-01", "2024-03-31", "randomised", "-1"), counted="below_zero"),
        Row("campaign without an end", ("k6", "2024-03-01", "", "randomised", "1")),
        Row("campaign for ever", ("k7", "2024-03-01", "9999-12-31", "randomised", "1")),
    ]),
    "mailings": (("id", "customer", "arm"), [
        Row("contact", ("k1", "C0001", "letter")),
        Row("contact twice", ("k1", "C0001", "control"), "duplicate_key"),
        Row("contact of a stranger", ("k1", "C0999", "letter"), "unknown_customer"),
        Row("contact in no campaign", ("k404", "C0001", "letter"), "unknown_campaign"),
        Row("contact in a campaign set aside", ("k2", "C0001", "letter"), "unknown_campaign"),
        Row("contact without an arm", ("k1", "C0002", ""), "missing_value"),
        Row("contact by a second id", ("k5", "C0003", "letter"), counted="merged_id"),
    ]),
    "redeemed": (("id", "customer"), [
        Row("redemption", ("k1", "C0001")),
        Row("redemption without a contact", ("k1", "C0002"), "no_contact"),
        Row("redemption by nobody", ("k1", ""), "no_contact"),
        Row("redemption in no campaign", ("k404", "C0001"), "no_contact"),
    ]),
    "answers": (("id", "customer", "s1", "s2"), [
        Row("answers", ("r1", "C0001", "7", "8")),
        Row("answer outside the scale", ("r2", "C0001", "11", "8"), counted="outside_scale"),
        Row("no answer", ("r3", "C0001", "", "-99"), "empty_response"),
        Row("answers twice", ("r1", "C0002", "1", "2"), "duplicate_key"),
        Row("answers of no questionnaire", ("", "C0001", "7", "8"), "missing_value"),
        Row("answer in words", ("r4", "C0001", "seven", "8"), counted="unreadable_optional"),
        fields("answers with a comma too many", "r5", "C0001", "7", "8", "9"),
    ]),
    "calls": (("id", "customer", "opened", "closed"), [
        Row("call", ("i1", "C0001", "2024-05-02 10:00", "2024-05-02 11:00")),
        Row("call of nobody", ("i2", "", "2024-05-02 10:00", ""), "missing_customer_id"),
        Row("call at no time", ("i3", "C0001", "noon", ""), "unreadable_value"),
        Row("call that ended sometime", ("i4", "C0001", "2024-05-02 10:00", "soon"), counted="unreadable_optional"),
        *[Row(f"call {n}", (f"j{n}", "C0001", "2024-05-02 10:00", "")) for n in range(6)],
    ]),
    "costs": (("month", "channel", "purpose", "amount"), [
        Row("cost", ("2024-05", "mail", "retain", "100.00")),
        Row("cost for no purpose", ("2024-05", "mail", "party", "100.00"), "unknown_word"),
        Row("cost of nothing", ("2024-05", "web", "retain", ""), "missing_value"),
        Row("cost twice", ("2024-05", "mail", "retain", "33.33"), "duplicate_key"),
        Row("cost of thousands or decimals", ("2024-06", "mail", "retain", "1,234"), "ambiguous_number"),
    ]),
}  # fmt: skip


def everything():
    """A study with every table, most rules on."""
    columns = {
        "order_id": "order",
        "customer_id": "customer",
        "ordered_at": "day",
        "product_id": "sku",
        "quantity": "pieces",
    }
    columns |= {"unit_price": "price", "cost": "cost", "net_amount": "amount", "channel": "channel"}
    mapped = {
        "order_lines": ("orders", columns),
        "products": ("products", {"product_id": "sku", "name": "name"}),
        "customers": ("people", {"customer_id": "id", "acquired_on": "since", "consent_email": "news"}),
        "campaigns": ("campaigns", {"campaign_id": "id", "starts_on": "start", "ends_on": "end", "design": "design", "cost_per_contact": "cost"}),
        "contacts": ("mailings", {"campaign_id": "id", "customer_id": "customer", "arm": "arm"}),
        "survey_responses": ("answers", {"response_id": "id", "customer_id": "customer", "s1": "s1", "s2": "s2"}),
        "interactions": ("calls", {"interaction_id": "id", "customer_id": "customer", "opened_at": "opened", "resolved_at": "closed"}),
        "marketing_costs": ("costs", {"period": "month", "channel": "channel", "purpose": "purpose", "amount": "amount"}),
    }  # fmt: skip
    tables = {table: {"source": name, "columns": made} for table, (name, made) in mapped.items()}
    tables["contacts"]["redemptions"] = {"source": "redeemed", "campaign_id": "id", "customer_id": "customer"}
    return {
        "sources": {name: {"file": f"{name}.csv"} for name in ("orders", *OTHERS)},
        "tables": tables,
        "survey": {"scale": [1, 10], "blocks": {"Satisfaction": ["s1", "s2"]}, "missing_codes": ["-99"]},
        "rules": {
            "customer_id": {"pattern": "C[0-9]{4}", "prefix": 1, "length": 5},
            "cancellations": {"order_id": "C-(B[0-9]+)"},
            "non_products": ["POST", "FEE.*"],
            "test_orders": {"order_id": "TEST.*", "channel": "staging"},
            "duplicate_lines": 60,
            "same_person": {"keys": ["mail"]},
        },
    }
