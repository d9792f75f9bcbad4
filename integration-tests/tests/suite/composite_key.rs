//! Keys of several columns: none is taken for another, whatever characters they hold.

use std::sync::Arc;

use anyhow::Result;
use integration_tests::case::Case;
use integration_tests::stack::Stack;
use integration_tests::tables::COMPOSITE;

pub(crate) async fn run(stack: &Arc<Stack>) -> Result<()> {
    let table = "CREATE TABLE composite (
        tenant VARCHAR(20) COLLATE utf8mb4_bin NOT NULL,
        region INT NOT NULL,
        seq BIGINT UNSIGNED NOT NULL,
        payload VARCHAR(100),
        PRIMARY KEY (region, tenant, seq)
    );
    INSERT INTO composite VALUES ('acme', 1, 1, 'one'), ('acme', 1, 18446744073709551615, 'max'), ('zeta', -2, 1, NULL);";
    let case = Case::with_sql(stack, "composite", &[COMPOSITE], table).await?;
    case.connect().await?;
    let mut worker = case.start_worker().await?;
    case.wait_equal(&mut worker).await?;
    case.sql(
        "INSERT INTO composite VALUES ('a:b', 1, 2, 'x'), ('a', 1, 2, 'y'), ('a%3Ab', 1, 2, 'z'), ('{a}', 1, 2, 'w'), ('', 1, 2, 'empty'), ('A', 1, 2, 'case');
         UPDATE composite SET payload = 'changed' WHERE tenant = 'acme' AND seq = 1;
         UPDATE composite SET seq = 9223372036854775808 WHERE tenant = 'zeta';
         DELETE FROM composite WHERE seq = 18446744073709551615;",
    )
    .await?;
    case.wait_equal(&mut worker).await?;
    worker.stop().await
}
