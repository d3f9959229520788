"""What the treasury knows: the accounts of ministries and the payment orders that wait. Invented, in memory, safe between threads."""

import threading
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Account:
    """Money of one body, in cents."""

    iban: str
    owner: str
    cents: int


@dataclass(frozen=True, slots=True)
class Order:
    """A payment that was prepared and waits to be released."""

    number: str
    from_iban: str
    payee: str
    purpose: str
    cents: int
    released_by: str | None = None
    released_under: str | None = None
    """The grant under which it was released."""


class NotReleased(Exception):
    """A release that must not happen; the message says why, in one plain sentence."""


ACCOUNTS = (
    Account("XK05 1000 0000 0000 0417", "Ministry of Infrastructure", 2_845_317_740),
    Account("XK05 1000 0000 0000 0233", "Ministry of Finance", 912_004_500),
    Account("XK05 1000 0000 0000 0518", "Civil Registration Agency", 64_250_055),
)
ORDERS = (
    Order("TR-000123", ACCOUNTS[1].iban, "Drini Office Supplies", "Paper, third quarter", 418_250),
    Order("TR-000388", ACCOUNTS[2].iban, "Sharr Print House", "Identity card blanks", 7_900_000),
    Order("TR-000417", ACCOUNTS[0].iban, "Ibar Road Works", "Motorway section 4, interim payment 2", 125_000_000),
    Order("TR-000431", ACCOUNTS[0].iban, "Lumi Bridges", "Bridge survey", 38_140_000),
)


class Ledger:
    """The books."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._accounts = {account.iban: account for account in ACCOUNTS}
        self._orders = {order.number: order for order in ORDERS}

    def accounts(self) -> list[Account]:
        """Return all accounts."""
        with self._guard:
            return list(self._accounts.values())

    def orders(self) -> list[Order]:
        """Return all orders, the waiting ones first."""
        with self._guard:
            return sorted(self._orders.values(), key=lambda order: (order.released_by is not None, order.number))

    def release(self, number: str, *, at_most_cents: int, by: str, under: str) -> Order:
        """Pay one order; raises NotReleased. Money moves once, and never more than `at_most_cents`."""
        with self._guard:
            order = self._orders.get(number)
            if order is None:
                raise NotReleased("There is no such order.")
            if order.released_by is not None:
                raise NotReleased("This order was released already.")
            if order.cents > at_most_cents:
                raise NotReleased("This order is larger than what was approved.")
            account = self._accounts[order.from_iban]
            if account.cents < order.cents:
                raise NotReleased("The account does not hold enough.")
            self._accounts[account.iban] = replace(account, cents=account.cents - order.cents)
            released = self._orders[number] = replace(order, released_by=by, released_under=under)
            return released
