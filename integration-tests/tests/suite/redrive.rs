//! A record that one store refuses is redriven after the cause is gone; one that was overtaken meanwhile changes nothing.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use integration_tests::case::Case;
use integration_tests::deadline::until;
use integration_tests::stack::Stack;
use integration_tests::topics::header;
use mongodb::IndexModel;
use mongodb::bson::{Document, doc};
use mongodb::options::IndexOptions;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "redrive").await?;
    // MongoDB takes each name once; MySQL and Redis don't mind.
    let customers = case.checker.mongodb.collection::<Document>("customers");
    let options = IndexOptions::builder().unique(true).name("one_of_a_name".to_owned()).build();
    customers.create_index(IndexModel::builder().keys(doc! { "name": 1 }).options(options).build()).await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.sql("INSERT INTO customers (customer_id, name) VALUES (1, 'ada');").await?;
    until("row 1 has the name", async || {
        ensure!(customers.find_one(doc! { "_id": 1_i64 }).await?.is_some(), "row 1 is not there");
        Ok(())
    })
    .await?;
    // Rows of different partitions arrive in any order, hence only now.
    case.sql("INSERT INTO customers (customer_id, name) VALUES (2, 'ada'), (3, 'ada');").await?;
    let open = async || -> Result<Vec<Value>> {
        let (_, listed) = case.command(&["dlq", "list", "--route", "customers", "--format", "json"]).await?;
        listed.lines().map(|line| serde_json::from_str(line).context("a line of `dlq list`")).collect()
    };
    until("two open letters", async || {
        let letters = open().await?;
        ensure!(letters.len() == 2, "{} letters", letters.len());
        ensure!(letters.iter().all(|letter| letter["stage"] == "mongodb" && letter["code"] == "duplicate-key"), "{letters:?}");
        Ok(())
    })
    .await?;
    shown(&case, &open().await?).await?;
    ensure!(worker.metrics().await?.sum("streamsync_keys_marked_total", &[]) == 2.0, "both keys are marked in MongoDB alone");

    // A later image of row 3 heals it; what row 2 lacks is only told at first.
    case.sql("UPDATE customers SET name = 'grace' WHERE customer_id = 3;").await?;
    until("row 3 is healed", async || {
        ensure!(customers.find_one(doc! { "_id": 3_i64 }).await?.is_some(), "row 3 is not there");
        Ok(())
    })
    .await?;
    customers.drop_index("one_of_a_name").await?;
    let (_, told) = case.command(&["dlq", "redrive"]).await?;
    ensure!(told.lines().count() == 2 && told.contains("applied") && told.contains("stale"), "{told}");
    ensure!(customers.find_one(doc! { "_id": 2_i64 }).await?.is_none(), "nothing is written without --apply");
    ensure!(open().await?.len() == 2, "nothing is closed without --apply");

    let (done, told) = case.command(&["dlq", "redrive", "--code", "duplicate-key", "--apply"]).await?;
    ensure!(done && told.contains("applied") && told.contains("stale"), "{told}");
    case.wait_equal(&mut worker).await?;
    ensure!(open().await?.is_empty(), "redriven letters are closed");
    let (_, all) = case.command(&["dlq", "list", "--all"]).await?;
    ensure!(all.lines().count() == 3, "a head and both letters: {all}");
    worker.stop().await
}

/// Each letter names the module that made what was refused, in its header, in the list and where it is shown, with its record.
async fn shown(case: &Case, letters: &[Value]) -> Result<()> {
    let module = sha256(&case.component("customers")?);
    for kept in case.topics.read_all(&case.dead_letter_topic())? {
        ensure!(
            header(&kept, "streamsync.module").as_deref() == Some(module.as_str()),
            "a letter names another module than {module}: {kept:?}"
        );
    }
    for letter in letters {
        let id = letter["letter"].as_str().context("a letter's place")?;
        let (done, told) = case.command(&["dlq", "show", id]).await?;
        let expected = [id, "customers", "duplicate-key", module.as_str(), "\"customer_id\":", "\"ada\""];
        ensure!(done && expected.iter().all(|part| told.contains(part)), "`dlq show {id}` lacks one of {expected:?}: {told}");
    }
    let (done, _) = case.command(&["dlq", "show", "0/999999"]).await?;
    ensure!(!done, "a letter that is not there was shown");
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
