//! A shop that inserts, updates and deletes customers, orders and shipments, and keeps the foreign keys as MySQL would.
//!
//! Deterministic: the same seed makes the same history.

use std::collections::BTreeMap;

/// A row of `customers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Customer {
    pub(super) id: i32,
    pub(super) name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) address: Option<String>,
    /// Seconds since the Unix epoch.
    pub(super) created_at: i64,
}

/// A row of `orders`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) id: i32,
    pub(super) customer_id: i32,
    pub(super) cents: Option<i64>,
    pub(super) status: Option<String>,
    /// Seconds since the Unix epoch.
    pub(super) created_at: i64,
    /// Seconds since the Unix epoch.
    pub(super) updated_at: i64,
}

/// A row of `shipping_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shipment {
    pub(super) id: i32,
    pub(super) order_id: i32,
    pub(super) address: Option<String>,
    pub(super) method: Option<String>,
    /// Days since 1970-01-01.
    pub(super) estimated: Option<i32>,
    pub(super) status: Option<String>,
}

/// A row of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Customer(Customer),
    Order(Order),
    Shipment(Shipment),
}

/// One change of one row, with its images as the binlog has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) before: Option<Row>,
    pub(super) after: Option<Row>,
}

/// The three tables as MySQL holds them after the changes so far.
pub(super) struct Shop {
    pub(super) customers: BTreeMap<i32, Customer>,
    pub(super) orders: BTreeMap<i32, Order>,
    pub(super) shipments: BTreeMap<i32, Shipment>,
    next_id: i32,
    random: Random,
}

const NAMES: [&str; 8] =
    ["Ada Lovelace", "  Grace Hopper ", "José Ñandú", "王小明", "Edsger Dijkstra", "Barbara Liskov", "O'Neill 😀", "Tony Hoare"];
const STREETS: [&str; 5] =
    ["12 St James's Sq, London", "C/ Mayor 1\nMadrid", "Unter den Linden 5", "1600 Amphitheatre Pkwy", "中关村大街 27"];
const ORDER_STATUSES: [&str; 6] = ["pending", "paid", "shipped", "delivered", "cancelled", "refunded"];
const SHIPMENT_STATUSES: [&str; 4] = ["preparing", "in transit", "delivered", "returned"];
const METHODS: [&str; 4] = ["ground", "Express", "pick-up", "drone "];

impl Shop {
    pub(super) fn new(seed: u64) -> Self {
        Self { customers: BTreeMap::new(), orders: BTreeMap::new(), shipments: BTreeMap::new(), next_id: 1, random: Random(seed) }
    }

    /// Does one thing that a shop does. `now` is in seconds since the Unix epoch.
    pub(super) fn change(&mut self, now: i64) -> Change {
        let dice = self.random.below(100);
        let change = match dice {
            0..15 => None,
            15..35 => self.insert_order(now),
            35..45 => self.insert_shipment(now),
            45..55 => self.update_customer(),
            55..78 => self.update_order(now),
            78..88 => self.update_shipment(),
            88..92 => self.delete_shipment(),
            92..96 => self.delete_order(),
            96..98 => self.delete_customer(),
            _ => self.renumber_shipment(),
        };
        // What can't be done yet, such as an order without a customer, becomes a new customer.
        change.unwrap_or_else(|| self.insert_customer(now))
    }

    fn id(&mut self) -> i32 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn insert_customer(&mut self, now: i64) -> Change {
        let id = self.id();
        let name = self.random.pick(&NAMES).map(str::to_owned);
        let email = Some(format!("Customer{id}@Example.com"));
        let address = self.random.sometimes(&STREETS).map(str::to_owned);
        let row = Customer { id, name, email, address, created_at: now };
        self.customers.insert(id, row.clone());
        Change { before: None, after: Some(Row::Customer(row)) }
    }

    fn insert_order(&mut self, now: i64) -> Option<Change> {
        let customer_id = self.random.key(&self.customers)?;
        let id = self.id();
        let cents = (self.random.below(20) > 0).then(|| self.random.below(2_000_000) as i64 - 20_000);
        let row = Order { id, customer_id, cents, status: Some("pending".to_owned()), created_at: now, updated_at: now };
        self.orders.insert(id, row.clone());
        Some(Change { before: None, after: Some(Row::Order(row)) })
    }

    fn insert_shipment(&mut self, now: i64) -> Option<Change> {
        let order_id = self.random.key(&self.orders)?;
        let id = self.id();
        let address = self.random.sometimes(&STREETS).map(str::to_owned);
        let method = self.random.sometimes(&METHODS).map(str::to_owned);
        let estimated = (self.random.below(5) > 0).then(|| (now / 86_400) as i32 + self.random.below(30) as i32);
        let row = Shipment { id, order_id, address, method, estimated, status: Some("preparing".to_owned()) };
        self.shipments.insert(id, row.clone());
        Some(Change { before: None, after: Some(Row::Shipment(row)) })
    }

    fn update_customer(&mut self) -> Option<Change> {
        let id = self.random.key(&self.customers)?;
        let address = self.random.sometimes(&STREETS).map(str::to_owned);
        let row = self.customers.get_mut(&id)?;
        let before = row.clone();
        row.address = address;
        row.name = row.name.as_ref().map(|name| format!("{} *", name.trim_end_matches(" *")));
        Some(Change { before: Some(Row::Customer(before)), after: Some(Row::Customer(row.clone())) })
    }

    fn update_order(&mut self, now: i64) -> Option<Change> {
        let id = self.random.key(&self.orders)?;
        let status = self.random.sometimes(&ORDER_STATUSES).map(str::to_owned);
        let row = self.orders.get_mut(&id)?;
        let before = row.clone();
        row.status = status;
        row.cents = row.cents.map(|cents| cents + 1);
        row.updated_at = now;
        Some(Change { before: Some(Row::Order(before)), after: Some(Row::Order(row.clone())) })
    }

    fn update_shipment(&mut self) -> Option<Change> {
        let id = self.random.key(&self.shipments)?;
        let status = self.random.sometimes(&SHIPMENT_STATUSES).map(str::to_owned);
        let row = self.shipments.get_mut(&id)?;
        let before = row.clone();
        row.status = status;
        row.estimated = row.estimated.map(|day| day + 1);
        Some(Change { before: Some(Row::Shipment(before)), after: Some(Row::Shipment(row.clone())) })
    }

    fn delete_shipment(&mut self) -> Option<Change> {
        let id = self.random.key(&self.shipments)?;
        let row = self.shipments.remove(&id)?;
        Some(Change { before: Some(Row::Shipment(row)), after: None })
    }

    /// An order that a shipment refers to stays, as its foreign key demands.
    fn delete_order(&mut self) -> Option<Change> {
        let id = self.random.key(&self.orders)?;
        if self.shipments.values().any(|s| s.order_id == id) {
            return None;
        }
        let row = self.orders.remove(&id)?;
        Some(Change { before: Some(Row::Order(row)), after: None })
    }

    fn delete_customer(&mut self) -> Option<Change> {
        let id = self.random.key(&self.customers)?;
        if self.orders.values().any(|o| o.customer_id == id) {
            return None;
        }
        let row = self.customers.remove(&id)?;
        Some(Change { before: Some(Row::Customer(row)), after: None })
    }

    /// Changes a primary key, which Debezium writes as a delete and a create.
    fn renumber_shipment(&mut self) -> Option<Change> {
        let id = self.random.key(&self.shipments)?;
        let new_id = self.id();
        let before = self.shipments.remove(&id)?;
        let after = Shipment { id: new_id, ..before.clone() };
        self.shipments.insert(new_id, after.clone());
        Some(Change { before: Some(Row::Shipment(before)), after: Some(Row::Shipment(after)) })
    }
}

/// SplitMix64: enough for a shop, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> Option<&'a str> {
        let index = self.below(of.len() as u64) as usize;
        of.get(index).copied()
    }

    /// One of ten is NULL.
    fn sometimes<'a>(&mut self, of: &[&'a str]) -> Option<&'a str> {
        if self.below(10) == 0 { None } else { self.pick(of) }
    }

    /// A key of the table, uniformly enough: the first at or behind a random number.
    fn key<T>(&mut self, of: &BTreeMap<i32, T>) -> Option<i32> {
        let last = *of.keys().next_back()?;
        let from = self.below(last as u64 + 1) as i32;
        of.range(from..).next().map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_history_with_every_kind_of_change() {
        let history = |seed| {
            let mut shop = Shop::new(seed);
            (0..2000).map(|i| shop.change(1_700_000_000 + i)).collect::<Vec<_>>()
        };
        let changes = history(7);
        assert_eq!(changes, history(7));
        assert_ne!(changes, history(8));
        let count = |f: fn(&Change) -> bool| changes.iter().filter(|c| f(c)).count();
        assert!(count(|c| c.before.is_none()) > 100);
        assert!(count(|c| c.after.is_none()) > 20);
        assert!(count(|c| matches!((&c.before, &c.after), (Some(Row::Shipment(b)), Some(Row::Shipment(a))) if a.id != b.id)) > 5);
    }

    #[test]
    fn foreign_keys_hold() {
        let mut shop = Shop::new(1);
        for i in 0..5000 {
            shop.change(1_700_000_000 + i);
        }
        assert!(shop.orders.values().all(|o| shop.customers.contains_key(&o.customer_id)));
        assert!(shop.shipments.values().all(|s| shop.orders.contains_key(&s.order_id)));
    }
}
