"""Two ids of one person: exact keys on two engines, and linkage by probability against a planted truth."""

import random
import sys
from collections import defaultdict
from itertools import combinations

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import engine
from analysis.cleaning import identity
from analysis.errors import RapportError

EMAIL, PHONE = [["email"]], [["email"], ["phone"]]


# -- exact keys --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["duckdb", "postgres"])
def connection(request):
    if request.param == "duckdb":
        yield engine.connect()
        return
    connection = ibis.connect(request.getfixturevalue("postgres"))
    yield connection
    connection.disconnect()


def found(connection, rows, keys=PHONE, prefix="t", **options):
    """Link rows of (id, e-mail, phone); ``row_id`` is their order."""
    columns = {"row_id": pa.int64(), "id": pa.string(), "email": pa.string(), "phone": pa.string()}
    table = pa.Table.from_pylist(
        [{"row_id": i, "id": a, "email": b, "phone": c} for i, (a, b, c) in enumerate(rows)], pa.schema(columns)
    )
    people = connection.create_table(f"{prefix}_people", table, temp=True)
    return identity.same_person(
        people, "id", keys, lambda name, made: connection.create_table(f"{prefix}_{name}", made, temp=True), **options
    )


def links(made):
    rows = made.links.to_pyarrow()
    assert rows.column_names == ["customer_id", "person_id"]
    assert rows.num_rows == made.linked_ids
    return dict(zip(rows["customer_id"].to_pylist(), rows["person_id"].to_pylist(), strict=True))


def test_a_chain_over_several_keys_is_one_person_called_by_its_first_row(connection):
    rows = [("z", "a@x", None), ("m", "b@x", "2"), ("a", "a@x", "2"), ("k", "c@x", "3"), ("b", "c@x", None)]
    made = found(connection, rows)
    assert links(made) == {"m": "z", "a": "z", "b": "k"}
    assert (made.persons, made.values_over_limit) == (2, 0)


def test_case_and_white_space_do_not_tell_people_apart(connection):
    made = found(connection, [("a", " Ann@X.com\t", "1  2"), ("b", "ann@x.COM", None), ("c", None, " 1 2 ")])
    assert links(made) == {"b": "a", "c": "a"}


def test_a_blank_part_matches_nobody(connection):
    rows = [("a", "", None), ("b", " \t", None), ("c", "x", " "), ("d", "x", None), ("e", "y", "1"), ("f", "y", "1")]
    assert links(found(connection, rows, [["email", "phone"]])) == {"f": "e"}


def test_parts_of_a_key_are_not_run_together(connection):
    assert links(found(connection, [("a", "ab", "c"), ("b", "a", "bc")], [["email", "phone"]])) == {}


def test_a_value_that_too_many_share_links_nobody_and_is_counted(connection):
    rows = [(str(i), "info@shop.com", f"{i // 2}") for i in range(6)]
    made = found(connection, rows)
    assert links(made) == {"1": "0", "3": "2", "5": "4"}
    assert (made.persons, made.values_over_limit) == (3, 1)
    assert found(connection, rows, prefix="again", limit=6).linked_ids == 5


def test_rows_of_one_id_count_as_one_and_blank_ids_are_left_out(connection):
    rows = [("a", "x", None), ("a", "x", None), (" a ", "y", None), ("b", "y", None), (None, "y", None), (" ", "x", "")]
    made = found(connection, rows, EMAIL, limit=2)
    assert links(made) == {"b": "a"}
    assert made.values_over_limit == 0


def test_nobody_is_linked_where_nobody_shares_anything(connection):
    made = found(connection, [("a", "x", None), ("b", "y", "1"), ("c", None, "2")])
    assert links(made) == {}
    assert (made.linked_ids, made.persons) == (0, 0)


def test_nobody_at_all(connection):
    assert links(found(connection, [])) == {}


def test_components_are_those_of_a_plain_search(connection):
    draw = random.Random(4)
    rows = [(f"c{i}", f"m{draw.randrange(160)}", f"p{draw.randrange(160)}") for i in range(150)]
    rows += [(f"l{i}", f"chain{i // 2}", f"chain{(i + 1) // 2}") for i in range(200)]
    made = found(connection, rows)
    assert links(made) == searched(rows, limit=5)


def searched(rows, limit):
    holders = defaultdict(list)
    for i, (_, email, phone) in enumerate(rows):
        holders["email", email].append(i)
        holders["phone", phone].append(i)
    root = list(range(len(rows)))
    for _ in rows:
        for ids in holders.values():
            if len(ids) <= limit:
                lowest = min(root[i] for i in ids)
                for i in ids:
                    root[i] = lowest
    return {rows[i][0]: rows[r][0] for i, r in enumerate(root) if i != r}


@pytest.mark.parametrize("keys", [[], [[]], [["email"], []]])
def test_a_key_without_columns(keys):
    with pytest.raises(RapportError, match="name at least one column"):
        found(engine.connect(), [("a", "x", None)], keys)


def test_a_key_column_that_is_not_there():
    with pytest.raises(RapportError, match="no column 'mail'; there are row_id, id, email, phone"):
        found(engine.connect(), [("a", "x", None)], [["mail"]])


# -- probability -------------------------------------------------------------------------------------------------------

KINDS = {
    "first name": "name",
    "surname": "name",
    "email": "email",
    "phone": "phone",
    "born": "date_of_birth",
    "postcode": "postcode",
}
PRECISION, RECALL = 0.95, 0.85
PERSONS, TWICE = 1_600, 400
FIRST = ["anna", "ben", "clara", "david", "emma", "felix", "greta", "hans", "ida", "jonas", "klara", "lukas", "marie"]
FIRST += ["noah", "olga", "paul", "rosa", "simon", "tina", "ulrich", "vera", "wim", "xenia", "yann", "zoe", "amir"]
SYLLABLES = ["ba", "be", "da", "do", "fe", "go", "ha", "ke", "la", "le", "mo", "na", "no", "ra", "se", "ta", "to", "wi"]


def person(draw):
    first, surname = draw.choice(FIRST), "".join(draw.choice(SYLLABLES) for _ in range(3))
    return {
        "first name": first,
        "surname": surname,
        "email": f"{first}.{surname}{draw.randrange(1000)}@{draw.choice(['post.example', 'mail.example'])}",
        "phone": f"0{draw.randrange(10**8, 10**9)}",
        "born": f"{draw.randrange(1940, 2005)}-{draw.randrange(1, 13):02}-{draw.randrange(1, 29):02}",
        "postcode": str(draw.randrange(10_000, 10_200)),
    }


def mistyped(draw, word):
    place, sign = draw.randrange(len(word)), draw.choice("0123456789" if word[-1].isdigit() else "abcdefghijklm")
    return draw.choice([word[:place] + sign + word[place + 1 :], word[:place] + word[place + 1 :], word + sign])


def simulated(seed):
    """1,600 persons, 400 of them with a second id whose record has typos, moves and gaps; and who is who."""
    draw = random.Random(seed)
    persons = [person(draw) for _ in range(PERSONS)]
    for i in range(0, 60, 2):  # couples: a name, a home and a phone in common
        persons[i] |= {column: persons[i + 1][column] for column in ("surname", "phone", "postcode")}
    records = list(enumerate(persons))
    for i in draw.sample(range(PERSONS), TWICE):
        again, moved = dict(persons[i]), person(draw)
        for column in again:
            chance = draw.random()
            if chance < 0.2:
                again[column] = mistyped(draw, again[column])
            elif chance < 0.35 and column in ("email", "phone", "postcode"):
                again[column] = moved[column]
        records.append((i, again))
    draw.shuffle(records)
    rows, truth = [], {}
    for row_id, (who, record) in enumerate(records):
        kept = {column: None if draw.random() < 0.1 else value for column, value in record.items()}
        rows.append({"row_id": row_id, "id": f"C{row_id}", **kept})
        truth[f"C{row_id}"] = who
    return pa.Table.from_pylist(rows), truth


@pytest.fixture(scope="module")
def company(tmp_path_factory):
    table, truth = simulated(seed=1)
    path = tmp_path_factory.mktemp("people") / "people.parquet"
    pq.write_table(table, path)
    return path, table, truth, identity.probable_person(path, "id", KINDS)


def same(groups):
    members = defaultdict(list)
    for customer, group in groups.items():
        members[group].append(customer)
    return {pair for ids in members.values() for pair in combinations(sorted(ids), 2)}


def test_planted_doubles_are_found_and_hardly_anybody_else(company):
    _, _, truth, made = company
    claimed, planted = same({c: c for c in truth} | links(made)), same(truth)
    assert len(planted) == TWICE
    right = len(claimed & planted)
    assert right / len(claimed) > PRECISION
    assert right / len(planted) > RECALL
    # The model knows nothing of couples; apart from them, its own count of mistakes is right within chance.
    strangers = [pair for pair in claimed - planted if len({truth[customer] // 2 for customer in pair}) == 2]
    assert 0 < made.expected_false_pairs < 1
    assert len(strangers) <= 4
    assert made.pairs >= made.linked_ids >= made.persons


def test_the_person_is_the_first_row(company):
    order = {customer: i for i, customer in enumerate(company[1]["id"].to_pylist())}
    assert all(order[person_id] < order[customer] for customer, person_id in links(company[3]).items())


def test_the_same_inputs_give_the_same_result_whatever_their_order(company):
    table = company[1].slice(0, 500)
    backwards = table.take(list(range(table.num_rows))[::-1])
    one, other = (
        identity.probable_person(ibis.memtable(rows), "id", KINDS, threshold=0.5) for rows in (table, backwards)
    )
    assert one.links.to_pyarrow().equals(other.links.to_pyarrow())
    assert one.expected_false_pairs == other.expected_false_pairs > 0


def few(records, **kinds):
    rows = [{"row_id": i, "id": f"C{i}", **record} for i, record in enumerate(records)]
    columns = {"row_id": pa.int64(), "id": pa.string()} | dict.fromkeys(kinds, pa.string())
    return identity.probable_person(ibis.memtable(pa.Table.from_pylist(rows, pa.schema(columns))), "id", kinds)


def test_one_customer_and_none():
    record = {"name": "ann", "email": "a@x"}
    for records in ([record], []):
        made = few(records, name="name", email="email")
        assert links(made) == {}
        assert (made.persons, made.pairs, made.expected_false_pairs) == (0, 0, 0)


def test_columns_that_say_nothing_link_nobody():
    alike = [{"name": "ann", "city": "ulm", "code": None} for _ in range(40)]
    assert links(few(alike, name="name", city="text", code="exact")) == {}
    names = [{"name": "ann", "email": f"{chr(97 + i)}{i * i}@x"} for i in range(26)]
    assert links(few(names, name="name", email="email")) == {}


def test_hashed_columns_are_compared_exactly():
    draw = random.Random(2)
    persons = [{c: f"{draw.getrandbits(128):032x}" for c in ("email", "phone", "name", "street")} for _ in range(300)]
    doubles = [persons[i] | {"phone": None} for i in range(30)]
    made = few(persons + doubles, **dict.fromkeys(persons[0], "exact"))
    assert links(made) == {f"C{300 + i}": f"C{i}" for i in range(30)}


def test_probability_says_nothing_on_the_way(capfd, caplog):
    few(
        [{"name": n, "email": e} for n, e in [("ann", "a@x"), ("ann", "a@x"), ("bob", "b@x")]],
        name="name",
        email="email",
    )
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("kinds", "options", "message"),
    [
        ({"email": "email"}, {}, "at least two"),
        ({"email": "email", "phone": "fax"}, {}, "unknown kind 'fax'; choose of name, email"),
        ({"email": "email", "mail": "email"}, {}, "no column 'mail'"),
        ({"email": "email", "phone": "phone"}, {"threshold": 95}, "threshold 95 is not a probability"),
    ],
)
def test_a_mistake_is_one_line(kinds, options, message):
    people = ibis.memtable(pa.table({"row_id": [0], "id": ["a"], "email": ["x"], "phone": ["1"]}))
    with pytest.raises(RapportError, match=message) as error:
        identity.probable_person(people, "id", kinds, **options)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(RapportError, match="no file"):
        identity.probable_person(tmp_path / "none.parquet", "id", KINDS)


def test_without_splink_there_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "splink", None)
    with pytest.raises(RapportError, match="needs the package splink"):
        few([], name="name", email="email")
