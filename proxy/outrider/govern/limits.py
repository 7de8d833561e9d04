"""Which limits and budgets apply to a call, and the counters that they count with.

Rules
- A rule counts apart for every value of its `key` fields. Models are compared and counted in lower case; a name that is
  too long or not printable counts as "other"; a caller whom nobody knows is one caller, `anonymous`.
- What needs no model is decided before the body; all else when it is there: a plan per stage, made once per (principal,
  model) and remembered. Tables are bounded; when one is full, or the store forgot a counter, all plans are made anew.
- Of a route whose calls may be served by several targets (`planned`), what looks at the provider or the operation is
  decided late too, for the target that is tried.
- Counters belong to the store and outlive a reload where the rule's name and numbers did not change.
- A rule in dollars needs a price: without one the call is refused, unless the budget says `unpriced: allow`.
Does not know: exchanges.
"""

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from time import monotonic_ns
from typing import Any

from outrider.errors import UnpricedError
from outrider.govern.budgets import Periods
from outrider.govern.estimate import Estimates
from outrider.govern.principal import Principal
from outrider.govern.queues import Room
from outrider.store.base import Store
from outrider.store.memory import MemoryStore
from outrider.telemetry.log import JsonLog
from outrider.telemetry.metrics import MAX_MODEL_CHARS, OTHER, Metrics
from outrider_ext.counters import Counter, ForeignCounter
from outrider_ext.limits import (
    BudgetRow,
    Clock,
    Plan,
    RateRow,
    Row,
    SlotRow,
    TokenRow,
)

PLANS_MAX = 4096
ROWS_MAX = 20_000
ROOMS_MAX = 10_000
SHOWN_KEYS = 200  # of a budget, in metrics
_SEPARATOR = "\x1f"
_NS = 1_000_000_000
_KINDS = {"total": 0, "input": 1, "output": 2}  # as TokenRow knows them

# Operations that make no tokens: what they keep, list or count. All others are counted, by their bytes if need be.
FREE_OPERATIONS = frozenset(
    {
        "account", "admin", "batches", "cached_contents", "chat_stored", "client_secrets", "connectors", "containers",
        "conversations", "count_tokens", "endpoints", "evals", "files", "fine_tuning", "guardrail",
        "interactions_stored", "models", "moderations", "operations", "responses_stored", "skills", "traces",
        "vector_stores",
    }
)  # fmt: skip

# The members of a threshold's event: budget, key, percent, spent, limit, unit ("nusd" or "tokens"), period.
type OnThreshold = Callable[[dict[str, Any]], None]


def counts_tokens(operation: Any) -> bool:
    return operation.name not in FREE_OPERATIONS


class Ledger:
    """What outlives a reload: the store, what was learned, who waits. listeners: told of every threshold."""

    def __init__(self, store: Store, clock: Clock, metrics: Metrics, log: JsonLog) -> None:
        self.store = store
        self.clock = clock
        self.metrics = metrics
        self.log = log
        self.estimates = Estimates()
        self.listeners: list[OnThreshold] = []
        self._rooms: dict[tuple[str, str], Room] = {}

    def use(self, rules: "Rulebook", max_keys: int) -> None:
        """These rules are in force now: what others counted is forgotten."""
        self.store.keep_only(rules.names)
        if isinstance(self.store, MemoryStore):
            self.store.max_keys = max_keys
            self.store.on_evict = rules.forget

    def room(self, name: str, key: str, cap: int) -> Room:
        room = self._rooms.get((name, key))
        if room is None or room.cap != cap:
            if len(self._rooms) >= ROOMS_MAX:
                self._rooms = {at: kept for at, kept in self._rooms.items() if kept.waiting}
            room = self._rooms[name, key] = Room(cap)
        return room

    def threshold(self, row: BudgetRow, percent: int, spent: int) -> None:
        """Where others count too, the first of them that sees it says it: once per period, restarts included."""
        about = {
            "budget": row.name, "key": row.key.replace(_SEPARATOR, "/"), "percent": percent, "spent": spent,
            "limit": row.limit, "unit": "tokens" if row.in_tokens else "nusd", "period": row.period,
        }  # fmt: skip
        say_once = getattr(row.spend, "say_once", None)
        if say_once is None:
            self._say(about)
        else:
            say_once(row.period, str(percent), partial(self._say, about))

    def _say(self, about: dict[str, Any]) -> None:
        percent = about["percent"]
        self.metrics.thresholds.add((about["budget"], str(percent)))
        sentence = f"budget {about['budget']} has reached {percent} % of what it may spend"
        self.log.event("warning" if percent < 100 else "error", "budget_threshold", **about, message=sentence)
        for listener in self.listeners:
            listener(about)


def memory_ledger(metrics: Metrics, log: JsonLog, clock: Clock | None = None, max_keys: int = 100_000) -> Ledger:
    clock = clock if clock is not None else Clock()
    store = MemoryStore(lambda: clock.steady(monotonic_ns()), max_keys, lambda: metrics.count("limit_keys_full"))
    return Ledger(store, clock, metrics, log)


class Rulebook:
    """The rules of one configuration. tariffs(provider, kind, model) -> Tariff or None."""

    def __init__(
        self,
        limits: Sequence[Any],
        budgets: Sequence[Any],
        ledger: Ledger,
        tariffs: Callable[[str, str, str | None], Any] = lambda provider, kind, model: None,
    ) -> None:
        self._limits = limits
        self._budgets = [
            (budget, Periods(unit.unit, budget.time_zone), what, unit) for budget, what, unit in _parts(budgets)
        ]
        self.ledger = ledger
        self._tariffs = tariffs
        self._tables: dict[tuple[str, str, str], dict[Any, Plan]] = {}
        self._rows: dict[tuple[str, str, str], Row] = {}

    def has_entry_rules(self, provider: str, *, planned: bool = False) -> bool:
        return any((limit.requests or limit.concurrent) and _is_early(limit, planned) for limit in self._of(provider))

    def has_body_rules(self, provider: str, *, counts: bool, planned: bool = False) -> bool:
        """planned: of any provider, since any may serve the call, by an operation that counts."""
        counts = counts or planned
        late = any(
            (counts and limit.tokens is not None)
            or (not _is_early(limit, planned) and (limit.requests or limit.concurrent))
            for limit in (self._limits if planned else self._of(provider))
        )
        return late or (counts and any(planned or _applies(budget, provider) for budget, *_ in self._budgets))

    def _of(self, provider: str) -> Iterator[Any]:
        return (limit for limit in self._limits if _applies(limit, provider))

    def table(self, stage: str, provider: str, operation: str, *, planned: bool = False) -> dict[Any, Plan]:
        """Plans of one stage, by principal or (principal, model). Cleared in place, since hooks hold it."""
        return self._tables.setdefault((f"planned {stage}" if planned else stage, provider, operation), {})

    def forget(self) -> None:
        """The store forgot counters: what stands on them is made anew."""
        self._rows.clear()
        for table in self._tables.values():
            table.clear()

    # -- plans

    def entry_plan(self, provider: str, operation: str, principal: Principal, *, planned: bool = False) -> Plan:
        rates: list[RateRow] = []
        slots: list[SlotRow] = []
        fields = _fields(principal, provider, operation, None)
        for limit in self._of(provider):
            if _is_early(limit, planned):
                self._add_counts(limit, fields, rates, slots)
        plan = Plan(rates=tuple(rates), slots=tuple(slots))
        self._keep(self.table("entry", provider, operation, planned=planned), principal, plan, None)
        return plan

    def body_plan(
        self,
        provider: str,
        kind: str,
        operation: str,
        principal: Principal,
        model: str | None,
        *,
        counts: bool,
        planned: bool = False,
    ) -> Plan:
        rates: list[RateRow] = []
        slots: list[SlotRow] = []
        tokens: list[TokenRow] = []
        named = model_name(model)
        fields = _fields(principal, provider, operation, named)
        for limit in self._of(provider):
            if not _names_model(limit, named):
                continue
            if not _is_early(limit, planned):
                self._add_counts(limit, fields, rates, slots)
            if counts and limit.tokens is not None:
                tokens.append(self._token_row(limit, fields))
        budgets = self._budget_rows(provider, named, fields) if counts else []
        needs_price = any(not row.in_tokens for row in budgets)
        counted = bool(tokens or budgets)
        estimates = self.ledger.estimates
        plan = Plan(
            rates=tuple(rates),
            slots=tuple(slots),
            tokens=tuple(tokens),
            budgets=tuple(budgets),
            family=estimates.family(provider, model) if counted else None,
            outputs=estimates.outputs(provider, principal.id, model) if counted else None,
            needs_price=needs_price,
        )
        if needs_price and self._tariffs(provider, kind, model) is None:
            plan.refusal = self._unpriced(budgets, provider, model)
        self._keep(self.table("body", provider, operation, planned=planned), (principal, model), plan, model)
        return plan

    def _keep(self, table: dict[Any, Plan], key: Any, plan: Plan, model: str | None) -> None:
        if len(table) >= PLANS_MAX or len(self._rows) >= ROWS_MAX:
            self.forget()
        # A price may come with the next quarter of an hour, so its absence is not remembered.
        if (model is None or len(model) <= MAX_MODEL_CHARS) and plan.refusal is None:
            table[key] = plan

    def _unpriced(self, budgets: list[BudgetRow], provider: str, model: str | None) -> Callable[[], None] | None:
        strict = [row for row in budgets if not row.in_tokens and row.denies and row.rule.unpriced == "deny"]
        if not strict:
            return None
        row = strict[0]
        shown = f"{provider}/{model[:80]}" if model else f"this call of {provider}, which names no model,"

        def refuse() -> None:
            row.rejected()
            self.ledger.metrics.unpriced.add((provider, self.ledger.metrics.model(model)))
            raise UnpricedError(
                f"the price of {shown} is not known, and budget {row.name} is in dollars; "
                f"add it under prices:, or set unpriced: allow for that budget"
            )

        return refuse

    # -- rows

    def _row(self, name: str, what: str, key: str, make: Callable[[], Row]) -> Any:
        row = self._rows.get((name, what, key))
        if row is None:
            row = self._rows[name, what, key] = make()
        return row

    def _add_counts(self, limit: Any, fields: Callable[[str], str], rates: list[RateRow], slots: list[SlotRow]) -> None:
        key = _key(limit, fields)
        if limit.concurrent is not None:
            slots.append(self._row(limit.name, "concurrent", key, lambda: self._slot_row(limit, key)))
        if limit.requests is not None:
            rates.append(self._row(limit.name, "requests", key, lambda: self._rate_row(limit, key)))

    def _common(self, limit: Any, key: str, what: str) -> tuple[Any, Any, Any]:
        """(allowed, rejected, room): of one rule's rows the first one counts who was let in."""
        tally = self.ledger.metrics.limits.tally
        first = next(name for name in ("requests", "concurrent", "tokens") if getattr(limit, name) is not None)
        room = (
            self.ledger.room(limit.name, key, limit.on_exceed.queue.max_waiting)
            if limit.on_exceed is not None
            else None
        )
        return tally((limit.name, "allow")) if what == first else None, tally((limit.name, "reject")), room

    def _rate_row(self, limit: Any, key: str) -> RateRow:
        counter, _ = self._counter(limit, limit.requests, key, "requests")
        return RateRow(limit.name, key, limit, counter, *self._common(limit, key, "requests"))

    def _slot_row(self, limit: Any, key: str) -> SlotRow:
        slots = self.ledger.store.slots(f"{limit.name}:concurrent", key, limit=limit.concurrent)
        allowed, rejected, room = self._common(limit, key, "concurrent")
        if room is not None and hasattr(slots, "on_granted"):  # places that come from afar are for who waits here
            slots.on_granted = room.poke
        return SlotRow(limit.name, key, limit, slots, allowed, rejected, room)

    def _token_row(self, limit: Any, fields: Callable[[str], str]) -> TokenRow:
        key = _key(limit, fields)

        def make() -> TokenRow:
            counter, burst = self._counter(limit, limit.tokens, key, "tokens")
            hard = limit.reserve == "max"
            common = self._common(limit, key, "tokens")
            return TokenRow(limit.name, key, limit, counter, burst, _KINDS[limit.count], hard, *common)

        row: TokenRow = self._row(limit.name, "tokens", key, make)
        return row

    def _counter(self, limit: Any, rate: Any, key: str, what: str) -> tuple[Counter, int]:
        """burst: of requests where both are limited; tokens then come in bursts of their own count."""
        both = limit.requests is not None and limit.tokens is not None
        burst = rate.count if limit.burst is None or (both and what == "tokens") else limit.burst
        found = self.ledger.store.counter(
            f"{limit.name}:{what}",
            key,
            algorithm=limit.algorithm,
            count=rate.count,
            period_ns=rate.period_s * _NS,
            burst=burst,
        )
        capacity = burst if limit.algorithm == "token-bucket" else rate.count
        return found if isinstance(found, Counter) else ForeignCounter(found), capacity

    def _budget_rows(
        self, provider: str, model: str, fields: Callable[[str], str], *, any_model: bool = False
    ) -> list[BudgetRow]:
        """any_model: those that do not look at the model, and no others."""
        rows = []
        for budget, periods, what, amount in self._budgets:
            if any_model and (budget.models is not None or "model" in budget.key):
                continue
            if _applies(budget, provider) and _names_model(budget, model):
                key = _key(budget, fields)
                rows.append(
                    self._row(
                        budget.name,
                        f"budget:{what}",
                        key,
                        partial(self._budget_row, budget, periods, what, amount, key),
                    )
                )
        return rows

    def _budget_row(self, budget: Any, periods: Periods, what: str, amount: Any, key: str) -> BudgetRow:
        limit = int(amount.amount * (_NS if what == "usd" else 1))
        percents = sorted({*budget.soft, 100})
        marks = tuple((-(-limit * percent // 100), percent) for percent in percents)
        tally = self.ledger.metrics.limits.tally
        first = "usd" if budget.usd is not None else "tokens"
        return BudgetRow(
            budget.name,
            key,
            budget,
            self.ledger.store.spend(f"{budget.name}:{what}", key),
            limit,
            what == "tokens",
            budget.on_exceed == "deny",
            marks,
            periods.of,
            self.ledger.threshold,
            tally((budget.name, "allow")) if what == first else None,
            tally((budget.name, "reject")),
        )

    # -- for the store, metrics and `check`

    @property
    def names(self) -> frozenset[str]:
        """What the store counts under."""
        found = [f"{limit.name}:{what}" for limit in self._limits for what in ("requests", "tokens", "concurrent")]
        return frozenset([*found, *(f"{budget.name}:{what}" for budget, _, what, _ in self._budgets)])

    def spent(self, wall_ns: int) -> dict[tuple[str, ...], float]:
        """(budget, key, unit) -> what is settled in the current period, for the first keys of each."""
        shown: dict[tuple[str, ...], float] = {}
        for row in self._rows.values():
            if isinstance(row, BudgetRow) and len(shown) < SHOWN_KEYS:
                spent = row.spent_at(wall_ns)
                unit, value = ("tokens", float(spent)) if row.in_tokens else ("usd", spent / _NS)
                shown[row.name, row.key.replace(_SEPARATOR, "/"), unit] = value
        return shown

    def usage(self, principal: Principal, provider: str) -> dict[str, dict[str, float]]:
        """What rules may ask of budgets: name -> {fraction: settled share of the period's amount, spent, limit}.

        Budgets that count models apart are left out: a rule may be asked before the model is known. Of a budget in both
        dollars and tokens the one nearer to its end is told.
        """
        told: dict[str, dict[str, float]] = {}
        fields = _fields(principal, provider, "", None)
        wall_ns = self.ledger.clock.wall(monotonic_ns())
        for row in self._budget_rows(provider, "", fields, any_model=True):
            spent = row.spent_at(wall_ns)
            fraction = spent / row.limit
            if row.name not in told or fraction > told[row.name]["fraction"]:
                unit = 1 if row.in_tokens else _NS
                told[row.name] = {"fraction": fraction, "spent": spent / unit, "limit": row.limit / unit}
        return told


def _parts(budgets: Sequence[Any]) -> Iterator[tuple[Any, str, Any]]:
    for budget in budgets:
        for what in ("usd", "tokens"):
            if (amount := getattr(budget, what)) is not None:
                yield budget, what, amount


def _applies(rule: Any, provider: str) -> bool:
    return rule.providers is None or provider in rule.providers


def _is_early(limit: Any, planned: bool) -> bool:
    """Whether its requests and slots can be counted before the model is known, and who serves the call."""
    if limit.models is not None or "model" in limit.key:
        return False
    return not planned or (limit.providers is None and "provider" not in limit.key and "operation" not in limit.key)


def _names_model(rule: Any, model: str) -> bool:
    return rule.models is None or any(fnmatchcase(model, pattern.lower()) for pattern in rule.models)


def model_name(model: str | None) -> str:
    """As rules compare and count it."""
    if not model:
        return ""
    return model.lower() if len(model) <= MAX_MODEL_CHARS and model.isprintable() else OTHER


def _fields(principal: Principal, provider: str, operation: str, model: str | None) -> Callable[[str], str]:
    def value(field: str) -> str:
        if field == "provider":
            return provider
        if field == "operation":
            return operation
        if field == "model":
            return model or ""
        name = field.removeprefix("principal.")
        if name.startswith("labels."):
            return principal.labels.get(name.removeprefix("labels."), "")
        found: str = getattr(principal, name)
        return found

    return value


def _key(rule: Any, fields: Callable[[str], str]) -> str:
    return _SEPARATOR.join(fields(field).replace(_SEPARATOR, "") for field in rule.key)


def unset_fields(config: Any) -> Iterator[tuple[str, int, str]]:
    """(section, index, field) of limits and budgets whose key nobody sets: they count everybody as one."""
    for section, rules in (("limits", config.limits), ("budgets", config.budgets)):
        for index, rule in enumerate(rules):
            for field in rule.key:
                name = field.removeprefix("principal.")
                if name != field and not any(sets(principal, name) for principal in config.principals):
                    yield section, index, field


def sets(principal: Any, name: str) -> bool:
    """Whether this entry of `principals:` gives the callers that it makes this field."""
    if name.startswith("labels."):
        return name.removeprefix("labels.") in principal.labels
    return bool(getattr(principal, name))
