//! Rows for the `ecommerce` schema, as SQL: the same numbers give the same rows, on every machine and every day.

use std::fmt::Write as _;

const FIRST: [&str; 12] = ["Ada", "Grace", "Edsger", "Barbara", "José", "小明", "Łucja", "Noor", "Zoë", "Ravi", "Ingrid", "Tunde"];
const LAST: [&str; 10] = ["Lovelace", "Hopper", "O'Neill", "Liskov", "Ñandú", "王", "Kowalska", "Haddad", "Müller", "Okafor"];
const STREETS: [&str; 6] = ["Main Street", "Rue de l'Été", "Karl-Marx-Allee", "C/ Mayor", "Station Road", "Jalan Besar"];
const CITIES: [&str; 6] = ["London", "Québec", "Berlin", "Madrid", "Cape Town", "Singapore"];
const STATUSES: [&str; 5] = ["pending", "paid", "shipped", "delivered", "cancelled"];
const METHODS: [&str; 3] = ["standard", "express", "pickup"];
const SHIPPING: [&str; 4] = ["preparing", "in_transit", "delivered", "returned"];
const ROWS_A_STATEMENT: u32 = 500;

/// A generator of numbers that are the same everywhere (SplitMix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let index = usize::try_from(self.below(words.len() as u64)).unwrap_or_default();
        words.get(index).copied().unwrap_or_default()
    }

    fn address(&mut self) -> String {
        format!("{} {}, {}", 1 + self.below(200), self.of(&STREETS), self.of(&CITIES))
    }

    /// A second of 2026's first half, as MySQL writes it.
    fn time(&mut self) -> String {
        let (month, day, hour) = (1 + self.below(6), 1 + self.below(28), self.below(24));
        format!("2026-{month:02}-{day:02} {hour:02}:{:02}:{:02}", self.below(60), self.below(60))
    }
}

/// SQL that fills the three tables; rows which are there already stay as they are.
pub(crate) fn sql(customers: u32, orders: u32) -> String {
    let mut draw = Draw(20_260_101);
    let mut out = String::from("SET NAMES utf8mb4;\nSET time_zone = '+00:00';\n");
    insert(&mut out, "customers (customer_id, name, email, address, created_at)", customers, |id| {
        let (first, last) = (draw.of(&FIRST), draw.of(&LAST));
        let (address, created) = (draw.address(), draw.time());
        format!("({id}, {}, 'customer{id}@example.com', {}, '{created}')", text(&format!("{first} {last}")), text(&address))
    });
    // An order needs a customer.
    let orders = if customers == 0 { 0 } else { orders };
    insert(&mut out, "orders (order_id, customer_id, total_amount, status, created_at, updated_at)", orders, |id| {
        let (customer, cents) = (1 + draw.below(u64::from(customers)), draw.below(100_000));
        let (status, time) = (draw.of(&STATUSES), draw.time());
        format!("({id}, {customer}, {}.{:02}, '{status}', '{time}', '{time}')", cents / 100, cents % 100)
    });
    insert(
        &mut out,
        "shipping_info (shipping_id, order_id, shipping_address, shipping_method, estimated_delivery, status)",
        orders,
        |id| {
            let (address, method, status) = (draw.address(), draw.of(&METHODS), draw.of(&SHIPPING));
            format!("({id}, {id}, {}, '{method}', '2026-{:02}-{:02}', '{status}')", text(&address), 7 + draw.below(6), 1 + draw.below(28))
        },
    );
    out
}

fn insert(out: &mut String, table: &str, rows: u32, mut row: impl FnMut(u32) -> String) {
    let mut next = 1;
    while next <= rows {
        let last = rows.min(next + ROWS_A_STATEMENT - 1);
        let values: Vec<String> = (next..=last).map(&mut row).collect();
        // Writing to a String can't fail.
        let _infallible = writeln!(out, "INSERT IGNORE INTO ecommerce.{table} VALUES\n{};", values.join(",\n"));
        next = last + 1;
    }
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::sql;

    #[test]
    fn the_same_numbers_give_the_same_rows() {
        assert_eq!(sql(10, 100), sql(10, 100));
        assert_ne!(sql(10, 100), sql(11, 100));
    }

    #[test]
    fn every_row_is_there_once() {
        let rows = sql(3, 1200);
        assert_eq!(rows.matches("@example.com'").count(), 3);
        assert_eq!(rows.matches("INSERT IGNORE INTO ecommerce.orders").count(), 3);
        assert!(rows.contains("\n(1200, "));
        assert!(!rows.contains("\n(1201, "));
    }

    #[test]
    fn quotes_are_doubled() {
        assert!(sql(200, 0).contains("O''Neill"));
    }

    #[test]
    fn without_customers_there_are_no_orders() {
        assert!(!sql(0, 10).contains("INSERT"));
    }
}
