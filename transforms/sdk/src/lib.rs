//! What a streamsync transform is written with.
//!
//! A transform sees rows by column name and writes documents by field. In `open`, once for each version of a table, it says which
//! columns it reads and which documents it writes; in `event` it is called for each change.
//!
//! ```
//! use streamsync_sdk::{Changes, Column, Document, Field, NoConfig, OpenError, Reject, Row, Table, Transform, kind};
//!
//! /// A city: its name in capitals, its population passed on.
//! pub struct Cities {
//!     name: Column<kind::Text>,
//!     city: Document,
//!     capitals: Field,
//! }
//!
//! impl Transform for Cities {
//!     const NAME: &'static str = "cities";
//!     const VERSION: &'static str = env!("CARGO_PKG_VERSION");
//!     type Config = NoConfig;
//!
//!     fn open(table: &Table<'_>, _: &NoConfig) -> Result<Self, OpenError> {
//!         let mut city = table.document();
//!         let capitals = city.copy("city_id")?.copy("population")?.field("name")?;
//!         Ok(Self { name: table.column("name")?, city: city.build(), capitals })
//!     }
//!
//!     fn event(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject> {
//!         let name = row.get(self.name)?;
//!         changes.put(&self.city).set(self.capitals, name.map(str::to_uppercase));
//!         Ok(())
//!     }
//! }
//!
//! streamsync_sdk::export!(Cities);
//! ```
//!
//! A transform is pure: the same batch gives the same outcome, on every machine. It has no clock, no randomness, no files and no
//! network; [`log`] and [`metrics`] are all that leaves it besides its outcome.

mod changes;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod component;
pub mod contract;
mod document;
mod guest;
pub mod kind;
pub mod log;
pub mod metrics;
mod row;
mod table;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod text;
mod value;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use changes::{Changes, Delete, Put, Reject};
pub use contract::{Context, TableSchema, Target};
pub use document::{Document, DocumentBuilder, Field};
pub use guest::Guest;
pub use row::{Op, Presence, Row};
pub use table::{Column, OpenError, Table};
pub use value::{Date, Datetime, Decimal, DecimalError, IntoCell, Json, OwnedDecimal, Time, Timestamp, Value};

/// A transform of one table: made by `open` for each version of the table, then called for each event.
pub trait Transform: Sized + 'static {
    /// As the configuration and the metrics know it.
    const NAME: &'static str;
    /// Of the transform.
    const VERSION: &'static str;
    /// JSON Schema of [`Self::Config`].
    const CONFIG_SCHEMA: Option<&'static str> = None;
    /// What the route's `config` holds; [`NoConfig`] where there is none.
    type Config: DeserializeOwned + 'static;

    /// Resolves columns and declares documents. An error dead-letters the table's events.
    fn open(table: &Table<'_>, config: &Self::Config) -> Result<Self, OpenError>;

    /// Puts, deletes, skips or rejects. Documents that are a function of the row as it is after the change can be recomputed from
    /// MySQL at any time.
    fn event(&self, row: &Row<'_>, changes: &mut Changes) -> Result<(), Reject>;
}

/// For a transform that takes no configuration: anything in it is a mistake, and named.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Makes a component of a transform. On the host, where there are no components, it does nothing.
#[macro_export]
macro_rules! export {
    ($transform:ty) => {
        #[cfg(target_family = "wasm")]
        #[allow(missing_docs, unsafe_code, unreachable_pub, reason = "the component's exports are generated")]
        mod streamsync_component {
            use super::*;

            ::std::thread_local! {
                static GUEST: ::std::cell::RefCell<Option<$crate::Guest<$transform>>> = const { ::std::cell::RefCell::new(None) };
            }

            pub struct Component;

            impl $crate::component::Instance for Component {
                type Transform = $transform;

                fn with<R>(call: impl FnOnce(&mut Option<$crate::Guest<$transform>>) -> R) -> R {
                    GUEST.with_borrow_mut(call)
                }
            }

            $crate::component::export_component!(Component with_types_in $crate::component);
        }
    };
}
