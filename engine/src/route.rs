//! Which route a batch belongs to, and that its rows are of the route's table.
//!
//! Enters: [`ChangeBatch`] of one topic. Leaves: [`RoutedBatch`]. Pure.

use std::sync::Arc;

use crate::change::ChangeBatch;
use crate::config::RouteSettings;
use crate::plan::{Fault, RecordFault};

/// Why a record does not belong to its topic's route.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The row is of a table that the route does not name.
    #[error("the row is of table {found}, route {route} is for {declared}: give each table a topic of its own")]
    OtherTable {
        /// `database.table` of the event.
        found: String,
        /// Name of the route.
        route: String,
        /// `database.table` of the route.
        declared: String,
    },
}

/// Change events, all of the route's table.
#[derive(Debug)]
pub struct RoutedBatch {
    /// Their way.
    pub route: Arc<RouteSettings>,
    /// The events; those of other tables are taken out.
    pub batch: ChangeBatch,
    /// What was met so far that keeps a record from being written.
    pub faults: Vec<RecordFault>,
}

/// Leads the batches of one topic.
pub struct Router {
    route: Arc<RouteSettings>,
}

impl Router {
    /// A router of the topic's one route.
    pub fn new(route: Arc<RouteSettings>) -> Self {
        Self { route }
    }

    /// Takes out what is not of the route's table.
    pub fn route(&self, mut batch: ChangeBatch) -> RoutedBatch {
        let route = &self.route;
        let mut faults: Vec<RecordFault> =
            batch.faults.drain(..).map(|(record, error)| RecordFault { record, fault: Fault::Decode(error) }).collect();
        let foreign: Vec<bool> = batch.schemas.iter().map(|s| *s.database != *route.database || *s.table != *route.table).collect();
        if foreign.contains(&true) {
            let is_foreign = |schema: u32| foreign.get(schema as usize).copied().unwrap_or(true);
            for event in batch.events.iter().filter(|e| is_foreign(e.schema)) {
                let found = batch.schemas.get(event.schema as usize).map(|s| format!("{}.{}", s.database, s.table)).unwrap_or_default();
                let declared = format!("{}.{}", route.database, route.table);
                let error = Error::OtherTable { found, route: route.name.clone(), declared };
                faults.push(RecordFault { record: event.record, fault: Fault::Route(error) });
            }
            batch.events.retain(|e| !is_foreign(e.schema));
        }
        RoutedBatch { route: Arc::clone(route), batch, faults }
    }
}
