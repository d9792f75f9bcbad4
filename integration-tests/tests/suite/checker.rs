//! The judge is judged: what is corrupted on purpose, in one store and one place, it finds and names.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bson::{Bson, Document, doc};
use integration_tests::case::Case;
use integration_tests::stack::Stack;
use redis::AsyncCommands as _;
use redis::aio::MultiplexedConnection;

/// Where the version of order 1 lies.
const VERSION: &str = "_sync:{orders:1}";

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let case = Case::shop(stack, "checker").await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.sql(
        "INSERT INTO customers (customer_id, name) VALUES (1, 'one'), (2, 'two');
         INSERT INTO orders (order_id, customer_id, total_amount, status) VALUES (1, 1, 10.00, 'pending'), (2, 2, 20.00, 'paid');",
    )
    .await?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await?;
    redis_is_judged(&case).await?;
    mongodb_is_judged(&case).await?;
    case.assert_equal().await
}

async fn redis_is_judged(case: &Case) -> Result<()> {
    let mut redis = case.checker.redis.get_multiplexed_async_connection().await?;
    let text: String = redis.get("orders:1").await?;
    for (from, to) in [("PENDING", "PENDINg"), ("\"10.00\"", "\"10.0\""), ("\"10.00\"", "10.00"), ("{", "{\"more\":null,")] {
        let changed = text.replacen(from, to, 1);
        ensure!(changed != text, "{text} has no {from}");
        let () = redis.set("orders:1", changed).await?;
        finds(case, "Redis orders:1").await.with_context(|| format!("{from} was made {to}"))?;
    }
    let () = redis.del("orders:1").await?;
    finds(case, "Redis lacks orders:1").await?;
    let () = redis.set("orders:1", &text).await?;
    for (key, what) in [("orders:1", "it expires"), (VERSION, "its version expires")] {
        let () = redis.expire(key, 1000).await?;
        finds(case, &format!("Redis orders:1: {what}")).await?;
        let () = redis.persist(key).await?;
    }
    let () = redis.set("orders:3", &text).await?;
    finds(case, "Redis holds orders:3").await?;
    let () = redis.del("orders:3").await?;
    versions_are_judged(case, &mut redis).await?;
    case.assert_equal().await
}

async fn versions_are_judged(case: &Case, redis: &mut MultiplexedConnection) -> Result<()> {
    let version: String = redis.get(VERSION).await?;
    let another = format!("{:019}{}", i64::MAX, version.get(19..).context("the version is too short")?);
    let changes = [
        (another.as_str(), "orders [Int(1)] has version 32767:281474976710655 in Redis, 1:"),
        (&version.replacen(" p ", " d ", 1), "Redis orders:1: its version is that of no put"),
        (version.get(1..).unwrap_or_default(), "Redis orders:1: "),
    ];
    for (changed, expected) in changes {
        let () = redis.set(VERSION, changed).await?;
        finds(case, expected).await.with_context(|| format!("the version was made {changed}"))?;
    }
    let () = redis.del(VERSION).await?;
    finds(case, "Redis orders:1: it has no version").await?;
    Ok(redis.set(VERSION, &version).await?)
}

async fn mongodb_is_judged(case: &Case) -> Result<()> {
    let orders = case.checker.mongodb.collection::<Document>("orders");
    let one = doc! { "_id": 1_i64 };
    let kept = orders.find_one(one.clone()).await?.context("order 1 is in MongoDB")?;
    let sync = kept.get_document("_sync").context("order 1 has a version")?;
    let changes = [
        ("status", Bson::from("PENDINg")),
        ("total", Bson::from("10.00")),
        ("total_minor", Bson::Int32(1000)),
        ("customer_id", Bson::Null),
        ("more", Bson::Null),
        ("_sync", Bson::from(doc! { "v": sync.get_i64("v")? })),
    ];
    for (field, value) in changes {
        let mut changed = kept.clone();
        changed.insert(field, value.clone());
        orders.replace_one(one.clone(), changed).await?;
        finds(case, "MongoDB orders [Int(1)]").await.with_context(|| format!("{field} was made {value:?}"))?;
    }
    let mut newer = kept.clone();
    newer.get_document_mut("_sync")?.insert("v", sync.get_i64("v")? + 1);
    orders.replace_one(one.clone(), newer).await?;
    finds(case, "orders [Int(1)] has version 1:").await?;
    orders.delete_one(one.clone()).await?;
    finds(case, "MongoDB orders [Int(1)] is missing").await?;
    orders.insert_one(&kept).await?;
    let mut ghost = kept.clone();
    ghost.insert("_id", 3_i64);
    orders.insert_one(ghost).await?;
    finds(case, "MongoDB orders holds Some(Int64(3))").await?;
    orders.delete_one(doc! { "_id": 3_i64 }).await?;
    case.assert_equal().await
}

/// The judge objects, once, and to this.
async fn finds(case: &Case, expected: &str) -> Result<()> {
    let Err(error) = case.assert_equal().await else { anyhow::bail!("the judge found nothing; {expected:?} was expected") };
    let found = format!("{error:#}");
    ensure!(found.starts_with(expected) && !found.contains('\n'), "the judge found {found:?}; {expected:?} was expected");
    Ok(())
}
