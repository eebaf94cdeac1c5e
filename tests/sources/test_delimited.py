"""Arrow's reader gives what Python's gives, whatever the file looks like."""

import random

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.sources import delimited
from analysis.sources.errors import SourceError
from analysis.sources.files import RawFile
from analysis.sources.rows import ReadAgain
from analysis.study import Source

# What delimited text can go wrong on, glued together at random.
_pieces = st.sampled_from(
    [
        "a",
        "b1",
        "é",
        "\u2003",
        " ",
        ",",
        ",",
        ",",
        '"',
        '"',
        '""',
        "\n",
        "\n",
        "\r\n",
        "\r",
        "\0",
        "\x1e",
        "\ufeff",
        "x" * 40,
    ]
)
_cells = st.sampled_from(
    ["", "1", "ab", '"q,\n"', '"two\r\nlines"', '"a""b"', '"ab"c', 'd"e', " ", "é", "y" * 30, "\0"]
)
_tables = st.lists(st.lists(_cells, min_size=1, max_size=4).map(",".join), min_size=1, max_size=30)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return RawFile(tmp_path_factory.mktemp("delimited") / "file.csv", "file.csv", "csv")


def table(batches):
    found = [row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
    assert [row[0] for row in found] == sorted({row[0] for row in found})
    return found


def either(batches):
    """The rows that a way of reading gives in the end, or what it says of the file; and whether it began again."""
    again = False
    while True:
        try:
            return table(batches()), again
        except ReadAgain as other:
            batches, again = other.batches, True
        except SourceError as error:
            return str(error), again


def compare(raw, content, names=None, block=48):
    raw.path.write_bytes(content)
    source = Source(file="file.csv", encoding="utf-8", delimiter=",", names=names)
    reader = delimited._Delimited(raw, source, "utf-8")
    try:
        reader.read()
    except SourceError:
        return None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "BLOCK", block)
        fast, again = either(reader._by_arrow)
    assert fast == either(reader._by_python)[0]
    return again


@settings(max_examples=150)
@given(text=st.lists(_pieces, max_size=40).map("".join), named=st.booleans(), block=st.sampled_from([24, 64, 1 << 16]))
@example(text='a,b\n1,"2\n3,4\n', named=False, block=64)
@example(text="a,b\r\n1,2\r\n\r\n3,4,,\r\n", named=False, block=24)
@example(text="\x1e end of file\n1,2\n\x1e end of file\n3,4", named=True, block=64)
def test_both_readers_agree_on_any_text(raw, text, named, block):
    compare(raw, ("a,b\n" + text).encode() if not named else text.encode(), ("a", "b") if named else None, block)


@settings(max_examples=80)
@given(
    lines=_tables,
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    width=st.integers(1, 4),
    block=st.sampled_from([80, 4096]),
)
@example(
    lines=['1,"q,\n","a""b"', '1,"q,\n","a""b"', ',"q,\n","a""b",é', ",".join(['"two\r\nlines"'] * 3)],
    ending="\n",
    width=1,
    block=80,
)  # a piece of the file ends within a line end within quotations
def test_both_readers_agree_on_tables_with_faults(raw, lines, ending, width, block):
    header = ",".join("abcd"[:width])
    compare(raw, (ending.join([header, *lines]) + ending).encode(), block=block)


def test_arrow_reads_a_file_of_many_blocks_with_every_kind_of_row(raw):
    choose = random.Random(1)
    kinds = ["1,2,3", '"a\nb",é,"c""d"', "", ",,", "1,2", "1,2,3,4", "1,2,3,,", 'x"y,"p"q,z', "  ,\0,\u3000"]
    lines = [choose.choice(kinds) for _ in range(5_000)]
    assert compare(raw, ("\n\na,b,c\n" + "\n".join(lines)).encode(), block=8192) is False


def test_arrow_reads_lines_that_all_end_in_a_delimiter(raw):
    assert compare(raw, b"a,b,,\n" + b"1,2,,\n" * 500 + b"1,2,,3\n,,,\n1,2\n", block=256) is False
    assert compare(raw, b"a,b\n" + b"1,2,\n" * 500 + b"1,2,3\n1,2\n", block=256) is False
    assert compare(raw, b"a\n1\n\n2,\n3,4\n", block=256) is False


def test_a_row_longer_than_a_block_is_left_to_the_other_reader(raw):
    assert compare(raw, b"a,b\n" + b"1,2\n" * 50 + b"x" * 1000 + b",2\n" + b"3,4\n" * 50, block=128) is True


def test_text_that_is_not_utf_8_only_far_down_is_read_in_the_encoding_it_is_in(raw):
    lines = "a,b\n" + "1,2\n" * 400_000 + "caf\xe9 cr\xe8me,Gr\xfc\xdfe aus K\xf6ln\n" * 50
    raw.path.write_bytes(lines.encode("cp1252"))
    columns, batches = delimited.read(raw, Source(file="file.csv"))
    found, again = either(batches)
    assert (columns, again, len(found)) == (("a", "b"), True, 400_050)
    assert found[-1][1:3] == ("caf\xe9 cr\xe8me", "Gr\xfc\xdfe aus K\xf6ln")


def test_one_bad_byte_behind_good_utf_8_says_where(raw):
    raw.path.write_bytes("é,b\n".encode() + b"1,2\n" * 400_000 + b"\xe9,2\n")
    found, _ = either(delimited.read(raw, Source(file="file.csv"))[1])
    assert (
        found == "file.csv: byte 1,600,005 is not utf-8 text; say encoding: in the study, for example cp1252 or gb18030"
    )


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "cp1252"])
def test_a_declared_encoding_over_many_reads(raw, encoding):
    word = "日本語" if "utf" in encoding or encoding == "gb18030" else "déjà"
    text = "\ufeff" * ("16-" in encoding) + "a,b\n" + "".join(f"{i},{word}\n" for i in range(200_000))
    raw.path.write_bytes(text.encode(encoding))
    columns, batches = delimited.read(raw, Source(file="file.csv", encoding=encoding))
    total = pa.Table.from_batches(batches())
    assert columns == ("a", "b")
    assert total.num_rows == 200_000
    assert total.column("b").unique().to_pylist() == [word]
    assert total.column("row_number").to_pylist() == list(range(2, 200_002))


def test_an_encoding_that_is_no_text_is_not_known(raw):
    raw.path.write_bytes(b"a,b\n1,2\n")
    for encoding in ("hex", "klingon"):
        with pytest.raises(SourceError, match=f"encoding '{encoding}' is not known"):
            delimited.read(raw, Source(file="file.csv", encoding=encoding))
