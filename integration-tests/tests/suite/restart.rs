//! A worker killed in the middle, while changes go on: its successor loses nothing and repeats nothing visible.

use std::sync::Arc;

use anyhow::{Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;

const ROWS: u32 = 4000;
const KILLS: u32 = 3;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "restart_case").await?;
    case.connect().await?;
    for round in 0..KILLS {
        let worker = case.start_worker().await?;
        let before = case.checker.redis_documents("customers").await?.len();
        case.sql(&rows(round)).await?;
        // Killed as soon as the first of the round's rows are seen: the others are on their way.
        until("the first rows of the round", async || {
            ensure!(case.checker.redis_documents("customers").await?.len() > before, "no new row yet");
            Ok(())
        })
        .await?;
        worker.kill().await?;
        case.sql(&format!("DELETE FROM customers WHERE customer_id % 7 = {round};\nUPDATE customers SET address = 'while it was down {round}' WHERE customer_id % 11 = 0;"))
            .await?;
    }
    let mut worker = case.start_worker().await?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await
}

fn rows(round: u32) -> String {
    let first = round * ROWS + 1;
    let values: Vec<String> = (first..first + ROWS).map(|id| format!("({id}, 'Name {id}', 'mail{id}@example.com')")).collect();
    let statements = values.chunks(500).map(|rows| format!("INSERT INTO customers (customer_id, name, email) VALUES {};", rows.join(",")));
    statements.collect::<Vec<_>>().join("\n")
}
