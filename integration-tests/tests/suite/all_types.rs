//! Every type of MySQL's, at its limits, from the snapshot and from the stream: exact in typed BSON and in JSON.

use std::sync::Arc;

use anyhow::Result;
use integration_tests::case::Case;
use integration_tests::stack::Stack;
use integration_tests::tables::ALL_TYPES;

const TABLE: &str = include_str!("../../sql/all_types.sql");
const ROWS: &str = include_str!("../../sql/all_types_rows.sql");

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::with_sql(stack, "all_types", &[ALL_TYPES], &format!("{TABLE}\n{ROWS}")).await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.wait_equal(&mut worker).await?;
    // The same values once more, now through the binlog.
    case.sql(ROWS).await?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await
}
