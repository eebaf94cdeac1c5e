"""Make a company: raw files as its systems would export them, and beside them the truth.

Customers are made in batches that do not depend on each other, each written as soon as it is made, so memory does not
grow with the company and the same settings give the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from analysis.errors import RapportError
from analysis.simulate import baskets, campaigns, comments, dirt, people, purchases, satisfaction
from analysis.simulate.baskets import Lines
from analysis.simulate.clock import LAST_DAY, OBSERVED_DAYS, PERIOD_DAYS, PERIODS, dates, instants
from analysis.simulate.people import RESPONSIVENESS, People, PeoplePlan
from analysis.simulate.world import WORLDS, World

BATCH = 20_000
ENCODINGS = {"customers": "gb18030", "prospects": "utf-16"}  # of the systems that export them; the others write UTF-8
INVITED = 24_000  # in all, over both waves: a survey institute's budget does not grow with the company
DISCOUNT_RATE = 0.10  # a year, for what lies beyond the simulated time
_SURNAMES = np.array(list("王李张刘陈杨黄赵吴周徐孙马朱胡林郭何高罗"))
_GIVEN = np.array(list("伟芳娜敏静丽强磊军洋勇艳杰娟涛明超霞平刚"))


@dataclass(frozen=True)
class Settings:
    """Which company to make.

    Attributes
    ----------
    world : ``textbook`` or ``company``. customers : how many. seed : of every random number. confounding : how much an
    unobserved trait moves both satisfaction (share of a standard deviation) and the mean order (log-change); 0 is off.
    """

    world: str
    customers: int
    seed: int = 1
    confounding: float = 0.0

    def __post_init__(self) -> None:
        if self.world not in WORLDS:
            raise RapportError(f"world: {self.world!r} is not known; choose {' or '.join(sorted(WORLDS))}")
        if self.customers < 1 or self.seed < 0:
            raise RapportError(
                f"a company needs at least 1 customer, and a seed of 0 or more; found {self.customers}, {self.seed}"
            )
        if not 0 <= self.confounding <= 0.9:
            raise RapportError(f"confounding: {self.confounding} is not between 0 and 0.9")

    @property
    def planted(self) -> World:
        """The world with the settings' own switch set."""
        world = WORLDS[self.world]
        return replace(
            world,
            people=replace(world.people, trait_spend=self.confounding),
            satisfaction=replace(world.satisfaction, confounding=self.confounding),
        )


def generate(settings: Settings, folder: Path) -> None:
    """Write a company's raw files into ``folder`` and the truth into ``folder/truth``; both are made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "truth").mkdir(parents=True)
    world = settings.planted
    products = baskets.catalogue(world.baskets, _rng(settings, 0, "catalogue"))
    with _Files(folder) as files:
        books = _Books(world)
        for batch, first in enumerate(range(0, settings.customers, BATCH)):
            made = _Batch(settings, world, products, batch, first, min(BATCH, settings.customers - first))
            made.write(files, books)
        _write_small(files, world, products, books)
    _write_truth(folder / "truth", settings, world, products, books)


def _rng(settings: Settings, batch: int, stream: str) -> np.random.Generator:
    """Random numbers of one stream of one batch; a change to one stream leaves the others as they were."""
    return np.random.default_rng([settings.seed, batch, *stream.encode()])


class _Books:
    """What is counted over all batches."""

    def __init__(self, world: World) -> None:
        self.totals: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()
        self.population: Counter[tuple[int, int, int]] = Counter()
        self.acquired: Counter[tuple[str, str]] = Counter()
        self.contacted: Counter[tuple[str, str]] = Counter()
        self.effects: list[pd.DataFrame] = []
        self.world = world

    def count(self, **amounts: float) -> None:
        self.totals.update({name: int(amount) for name, amount in amounts.items()})


class _Files:
    """The files of a company, open while batches are added to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._csv: dict[str, object] = {}
        self._parquet: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (*self._csv.values(), *self._parquet.values()):
            file.close()

    def csv(self, name: str, frame: pd.DataFrame) -> None:
        """Add rows to a CSV in the encoding that its source system writes."""
        new = name not in self._csv
        if new:
            path = self.folder / f"{name}.csv"
            self._csv[name] = path.open("w", encoding=ENCODINGS.get(name, "utf-8"), newline="")
        frame.to_csv(self._csv[name], header=new, index=False, lineterminator="\n")

    def parquet(self, name: str, table: pa.Table | pd.DataFrame) -> None:
        """Add rows to a Parquet file."""
        if isinstance(table, pd.DataFrame):
            table = pa.Table.from_pandas(table, preserve_index=False)
        if name not in self._parquet:
            path = self.folder / f"{name}.parquet"
            self._parquet[name] = pq.ParquetWriter(path, table.schema, compression="zstd")
        self._parquet[name].write_table(table.cast(self._parquet[name].schema))


class _Batch:
    """One batch of customers with everything that happens to them."""

    def __init__(
        self, settings: Settings, world: World, products: pd.DataFrame, batch: int, first: int, n: int
    ) -> None:
        self.world, self.products, self.batch, self.settings = world, products, batch, settings

        def rng(stream: str) -> np.random.Generator:
            return _rng(settings, batch, stream)

        self.people = people.draw(world.people, first + 1, n, rng("people"))
        age = standardised(world.people.age_bands, self.people.age_band)
        self.latents = satisfaction.latents(n, world.satisfaction, rng("latents"), self.people.trait, age=age)
        self.lapsed = purchases.lapses(
            self.people, satisfaction.hazard_multiplier(self.latents, world.satisfaction), rng("lapses")
        )
        own = purchases.simulate(
            self.people,
            self.lapsed,
            satisfaction.rate_multiplier(self.latents, world.satisfaction),
            world.people.p,
            world.purchases,
            rng("purchases"),
        )
        self.campaigns = campaigns.run(
            world.campaigns,
            self.people,
            own,
            self.lapsed,
            settings.customers,
            rng("campaigns"),
            shape=world.people.p,
        )
        self.occasions = self.campaigns.occasions
        self.lines = baskets.fill(self.people, self.occasions, products, world.baskets, rng("baskets"))
        ends = PERIOD_DAYS * np.arange(1, PERIODS + 1)
        self.active = (self.people.arrival[:, None] < ends) & (self.lapsed[:, None] >= ends)
        self.rng = rng

    def write(self, files: _Files, books: _Books) -> None:
        """Add the batch to every file."""
        second = dirt.second_ids(self.people, self.world.dirt, self.rng("second ids"))
        self._write_people(files, books, second)
        self._write_orders(files, books, second)
        self._write_campaigns(files, books)
        self._write_voice(files)
        files.parquet("truth/customers", self._truth())

    def _write_people(self, files: _Files, books: _Books, second: pd.DataFrame) -> None:
        frame = _person_columns(self.people, self.world.people, self.rng("names"))
        frame = frame.assign(
            registered_on=dates(self.people.arrival).astype(str),
            acquisition_channel=_named(self.world.people.channels, self.people.channel),
            household_no=np.char.add("H", self.people.household.astype(str)),
            consent_email=np.where(self.campaigns.consent_email, "yes", "no"),
            universal_holdout=np.where(self.people.holdout, "yes", "no"),
        )
        columns = ["customer_no", "name", "email", "registered_on", "acquisition_channel", "region", "household_no"]
        columns += ["age_band", "consent_email", "consent_sms", "universal_holdout"]
        table = pa.Table.from_pandas(frame[columns].astype("str"), preserve_index=False)
        rng, first_row = self.rng("dirty customers"), books.rows["customers"] + 2  # row 1 is the header
        table, record = dirt.dirty_customers(table, second, rng, first_row)
        books.rows["customers"] += len(table)
        files.csv("customers", table.to_pandas())
        files.parquet("truth/dirt", record)
        files.parquet("truth/second_ids", second)
        month = dates(self.people.arrival).astype("datetime64[M]").astype(str)
        books.acquired.update(zip(month, frame["acquisition_channel"], strict=True))
        books.population.update(zip(frame["region"], frame["age_band"], frame["acquisition_channel"], strict=True))
        self._write_prospects(files)

    def _write_prospects(self, files: _Files) -> None:
        plan, rng = self.world.people, self.rng("prospects")
        n = round(plan.prospects * len(self.people))
        if not n:
            return
        others = people.draw(plan, self.batch * BATCH + 1, n, rng)
        frame = _person_columns(others, plan, rng)
        number = np.char.replace(others.customer_id, "C", "P")
        rows = pd.DataFrame(
            {
                "prospect_no": number,
                "source": rng.choice(["fair", "newsletter", "partner"], n),
                "acquired_from": dates(others.arrival).astype(str),
                **{c: frame[c] for c in ("region", "age_band", "consent_email", "consent_sms")},
            }
        )
        files.csv("prospects", rows)
        truth = {"prospect_id": number, "kind": _named(plan.kinds, others.kind), "rate": others.rate}
        files.parquet("truth/prospects", pd.DataFrame(truth | {"spend_mean": others.spend_mean}))

    def _write_orders(self, files: _Files, books: _Books, second: pd.DataFrame) -> None:
        seen = self.lines.take(np.flatnonzero(self.lines.day < OBSERVED_DAYS))
        table = _order_table(seen, self.people, self.products, self.batch)
        rng, first_row = self.rng("dirty orders"), books.rows["orders"] + 1
        table, record = dirt.dirty_orders(table, self.world.dirt, rng, first_row, second)
        books.rows["orders"] += len(table)
        files.parquet("orders", table)
        files.parquet("truth/dirt", record)
        sold = seen.net[~seen.is_return]
        books.count(
            customers=len(self.people),
            orders=np.unique(seen.order[~seen.is_return]).size,
            lines=len(seen),
            raw_rows=len(table),
            sold_cents=sold.sum(),
            net_cents=seen.net.sum(),
        )

    def _write_campaigns(self, files: _Files, books: _Books) -> None:
        contacts = self.campaigns.contacts
        if contacts.empty:
            return
        flags = ["delivered", "opened", "clicked", "converted", "redeemed", "unsubscribed"]
        words = contacts[flags].astype("boolean").astype("string").replace({"True": "yes", "False": "no"})
        contacted = contacts["contacted_day"].to_numpy(float)
        days = pd.Series(dates(np.nan_to_num(contacted)).astype(str)).where(~np.isnan(contacted))
        rows = pd.DataFrame(
            {
                "campaign_no": contacts["campaign_id"],
                "customer_no": self.people.customer_id[contacts["owner"]],
                "arm": contacts["arm"],
                "contacted_on": days.to_numpy(),
                "channel": contacts["channel"],
                "offer_no": contacts["offer_id"],
            }
        ).reset_index(drop=True)
        rows = pd.concat([rows, words.reset_index(drop=True)], axis=1)
        files.parquet("contacts", pa.table({c: pa.array(rows[c], pa.string(), from_pandas=True) for c in rows}))
        reached = rows[rows["contacted_on"].notna()]
        books.contacted.update(zip(reached["contacted_on"].str[:7], reached["campaign_no"], strict=True))
        effects = self.campaigns.effects
        files.parquet(
            "truth/effects",
            effects.drop(columns="owner").assign(customer_id=self.people.customer_id[effects["owner"]]),
        )
        books.effects.append(_effect_sums(effects))

    def _write_voice(self, files: _Files) -> None:
        """What customers say: the survey, contacts with the service, recommendations."""
        plan, number = self.world.satisfaction, self.people.customer_id
        share = min(0.5, INVITED / self.settings.customers)
        answers = satisfaction.survey(self.people, self.latents, self.active, plan, share, self.rng("survey"))
        items = answers.drop(columns=["owner", "wave", "answered_day"])
        head = pd.DataFrame(
            {
                "response_no": [f"Q{self.batch:03d}{k:06d}" for k in range(len(answers))],
                "customer_no": number[answers["owner"]],
                "answered_on": dates(answers["answered_day"]).astype(str),
                "wave": answers["wave"],
            }
        )
        texts, said = comments.comments(answers, self.latents, self.world.comments, self.rng("comments"))
        files.csv("survey", pd.concat([head, items, pd.Series(texts, name="comment")], axis=1))
        files.parquet("truth/comments", _comment_truth(head["response_no"], said))
        contacts = satisfaction.interactions(self.people, self.latents, self.active, plan, self.rng("interactions"))
        solved = contacts["resolved_day"]
        rows = pd.DataFrame(
            {
                "interaction_no": [f"I{self.batch:03d}{k:06d}" for k in range(len(contacts))],
                "customer_no": number[contacts["owner"]],
                "opened_at": _when(contacts["opened_day"]).to_pandas(),
                "resolved_at": _when(solved.fillna(0.0)).to_pandas().where(solved.notna()),
                "kind": contacts["kind"],
                "channel": contacts["channel"],
                "outcome": contacts["outcome"],
            }
        )
        files.csv("interactions", rows)
        told = [level.name == "referral" for level in self.world.people.channels]
        by_referral = np.array(told)[self.people.channel]
        referrals = satisfaction.referrals(self.people, self.latents, by_referral, plan, self.rng("referrals"))
        told = {"referrer_no": number[referrals["referrer"]], "referred_no": number[referrals["referred"]]}
        files.csv("referrals", pd.DataFrame(told | {"referred_on": dates(referrals["day"]).astype(str)}))
        truth = {"customer_id": number[referrals["referred"]], "came_anyway": referrals["came_anyway"].to_numpy(bool)}
        files.parquet("truth/referrals", pd.DataFrame(truth))

    def _truth(self) -> pd.DataFrame:
        """One row a customer: what they are, what they did, what they will do."""
        who, lines, n = self.people, self.lines, len(self.people)
        seen, back = lines.day < OBSERVED_DAYS, lines.is_return

        def money(rows: NDArray, cents: NDArray) -> NDArray:
            return np.bincount(lines.owner[rows], cents[rows], n) / 100

        def purchase_days(rows: NDArray) -> NDArray:
            days = np.unique(self.occasions.owner[rows] * np.int64(LAST_DAY) + self.occasions.day[rows].astype(int))
            return np.bincount(days // LAST_DAY, minlength=n)

        future = (lines.day >= OBSERVED_DAYS) & (lines.day < LAST_DAY)
        margin_to_date, margin_next = money(seen, lines.margin), money(future, lines.margin)
        share = lines.margin.sum() / lines.net.sum()
        discount = np.log1p(DISCOUNT_RATE) / 365.25
        # The last quarter's satisfaction goes on for ever.
        plan = self.world.satisfaction
        rate = who.rate * satisfaction.rate_multiplier(self.latents, plan)[:, -1]
        hazard = who.hazard * satisfaction.hazard_multiplier(self.latents, plan)[:, -1]
        after = rate * who.spend_mean * share / (hazard + discount)
        after[self.lapsed <= LAST_DAY] = 0.0
        lapsed_on = pd.Series(dates(np.minimum(self.lapsed, LAST_DAY)).astype("datetime64[s]"))
        frame = {
            "customer_id": who.customer_id,
            "kind": _named(self.world.people.kinds, who.kind),
            "responsiveness": np.array(RESPONSIVENESS)[who.responsiveness],
            "arrived_on": dates(who.arrival).astype("datetime64[s]"),
            "lapsed_on": lapsed_on.where(self.lapsed < LAST_DAY),
            "alive": self.lapsed >= OBSERVED_DAYS,
            "rate": who.rate,
            "hazard": who.hazard,
            "spend_mean": who.spend_mean,
            "habit": who.habit,
            "purchases": purchase_days(self.occasions.day < OBSERVED_DAYS),
            "spend": money(seen & ~back, lines.net),
            "purchases_next": purchase_days(self.occasions.day >= OBSERVED_DAYS),
            "spend_next": money(future & ~back, lines.net),
            "margin_next": margin_next,
            "margin_to_date": margin_to_date,
            "margin_after": after,
            "lifetime_value": margin_to_date + margin_next + after,
            "trait": who.trait,
        }
        scores = {f"satisfaction_{t}": self.latents["Satisfaction"][:, t] for t in range(PERIODS)}
        return pd.DataFrame(frame | scores)


def _comment_truth(response_no: pd.Series, said: pd.DataFrame) -> pa.Table:
    """With types that do not hang on whether anybody of a batch gave a name."""
    frame = pd.concat([response_no.rename("response_id"), said], axis=1)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    return table.cast(
        pa.schema([(f.name, pa.bool_() if pa.types.is_boolean(f.type) else pa.string()) for f in table.schema])
    )


def _named(levels: tuple, codes: NDArray) -> NDArray:
    return np.array([level.name for level in levels])[codes]


def standardised(levels: tuple, codes: NDArray) -> NDArray[np.float64]:
    """Level numbers with mean 0 and variance 1 over everybody."""
    share, level = np.array([one.share for one in levels]), np.arange(len(levels))
    share /= share.sum()
    mean = share @ level
    return (codes - mean) / np.sqrt(share @ (level - mean) ** 2)


def _person_columns(who: People, plan: PeoplePlan, rng: np.random.Generator) -> pd.DataFrame:
    """What both customers and prospects have in their files."""
    names = np.char.add(rng.choice(_SURNAMES, len(who)), rng.choice(_GIVEN, len(who)))
    return pd.DataFrame(
        {
            "customer_no": who.customer_id,
            "name": names,
            "email": np.char.add(np.char.lower(who.customer_id), "@mail.example"),
            "region": _named(plan.regions, who.region),
            "age_band": _named(plan.age_bands, who.age_band),
            "consent_email": np.where(who.consent_email, "yes", "no"),
            "consent_sms": np.where(who.consent_sms, "yes", "no"),
        }
    )


def _when(day: NDArray) -> pa.Array:
    """Local time as text, to the second."""
    return pc.strftime(pa.array(instants(day)), format="%Y-%m-%d %H:%M:%S")


def _decimal(cents: NDArray[np.int64]) -> pa.Array:
    """Whole cents as text with two places; through the bytes of a decimal, since Python is too slow for each."""
    halves = np.stack([cents, cents >> 63], axis=1)
    numbers = pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(halves.tobytes())])
    return numbers.cast(pa.string())


def _order_table(lines: Lines, who: People, products: pd.DataFrame, batch: int) -> pa.Table:
    """Order lines as the shop's system exports them: text, in local time."""

    def text(values: NDArray) -> pa.Array:
        return pa.array(values).cast(pa.string())

    def chosen(values: NDArray, codes: NDArray) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values, pa.string())).cast(
            pa.string()
        )

    padded = pc.utf8_lpad(text(lines.order), 7, "0")
    letter = pc.if_else(pa.array(lines.is_return), "R", "A")
    number = pc.binary_join_element_wise(letter, f"{batch:03d}", padded, "")
    region = who.region[lines.owner].astype(np.int64)
    shops = pc.binary_join_element_wise("S", text(10 * (region + 1) + lines.store), "")
    web = pa.array(lines.web)
    return pa.table(
        {
            "order_no": number,
            "line_no": text(lines.number),
            "customer_no": chosen(who.customer_id.astype(object), lines.owner),
            "ordered_at": _when(lines.day),
            "sku": chosen(products["sku"].to_numpy(object), lines.product),
            "qty": text(lines.quantity),
            "unit_price": _decimal(lines.unit),
            "discount": _decimal(lines.discount),
            "amount": _decimal(lines.net),
            "cost": _decimal(lines.cost),
            "channel": pc.if_else(web, "web", "store"),
            "store": pc.if_else(web, pa.scalar(None, pa.string()), shops),
        }
    )


def _effect_sums(effects: pd.DataFrame) -> pd.DataFrame:
    """Sums over the members of each campaign and arm, to be added up over batches."""
    given = effects["assigned"].to_numpy(bool)
    rows = effects.assign(
        members=1,
        assigned=given.astype(int),
        spend_effect_assigned=np.where(given, effects["spend_effect"], 0.0),
        day_effect_assigned=np.where(given, effects["day_effect"], 0.0),
        coupon_assigned=np.where(given, effects["coupon"], 0.0),
    )
    sums = ["members", "assigned", "spend_effect", "order_effect", "day_effect"]
    sums += ["spend_effect_assigned", "day_effect_assigned", "coupon_assigned"]
    return rows.groupby(["campaign_id", "arm"], sort=True)[sums].sum().reset_index()


def _write_small(files: _Files, world: World, products: pd.DataFrame, books: _Books) -> None:
    """The files that do not grow with the company."""
    launched = dates(products["launched_day"].to_numpy()).astype(str)
    shown = products[["sku", "name", "department", "category", "list_price"]].assign(launched_on=launched)
    files.csv("products", shown)
    files.csv("campaigns", campaigns.campaign_table(world.campaigns))
    files.csv("offers", campaigns.offer_table(world.campaigns))
    population = [(*key, count) for key, count in sorted(books.population.items())]
    files.csv(
        "population", pd.DataFrame(population, columns=["region", "age_band", "acquisition_channel", "customers"])
    )
    price = {level.name: level.cost for level in world.people.channels}
    spent = [(month, channel, "acquire", count * price[channel]) for (month, channel), count in books.acquired.items()]
    plans = {plan.campaign_id: plan for plan in world.campaigns}
    kept: Counter[tuple[str, str]] = Counter()
    for (month, campaign), count in books.contacted.items():
        kept[month, plans[campaign].channel] += count * plans[campaign].cost_per_contact
    spent += [(month, channel, "retain", amount) for (month, channel), amount in kept.items()]
    costs = pd.DataFrame(sorted(spent), columns=["month", "channel", "purpose", "amount"])
    files.csv("marketing_costs", costs.assign(amount=costs["amount"].map("{:.2f}".format)))


def _write_truth(folder: Path, settings: Settings, world: World, products: pd.DataFrame, books: _Books) -> None:
    if books.effects:
        sums = pd.concat(books.effects).groupby(["campaign_id", "arm"], sort=True).sum().reset_index()
        for outcome in ("spend_effect", "order_effect", "day_effect"):
            sums[outcome] /= sums["members"]
        for outcome in ("spend_effect_assigned", "day_effect_assigned", "coupon_assigned"):
            sums[outcome] /= sums["assigned"].where(sums["assigned"] > 0)
        names = {"spend_effect": "mean_effect", "spend_effect_assigned": "mean_effect_assigned"}
        sums.rename(columns=names).to_parquet(folder / "campaigns.parquet", index=False)
    satisfaction.path_truth(world.satisfaction).to_parquet(folder / "paths.parquet", index=False)
    products.to_parquet(folder / "products.parquet", index=False)
    planted = {"settings": asdict(settings), "world": asdict(world), "totals": dict(sorted(books.totals.items()))}
    (folder / "planted.json").write_text(json.dumps(planted, indent=1, default=list), encoding="utf-8")
