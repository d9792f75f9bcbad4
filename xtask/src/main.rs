//! The commands of the repository: `cargo xtask guests` builds the default transforms.

mod guests;

use std::env;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let Some("guests") = env::args().nth(1).as_deref() else { bail!("usage: cargo xtask guests") };
    let mut out = io::stdout().lock();
    let guests = guests::build(root, &mut |line| drop(writeln!(io::stderr(), "{line}")))?;
    for component in &guests.components {
        let imports = if component.imports.is_empty() { "nothing".to_owned() } else { component.imports.join(", ") };
        writeln!(
            out,
            "{}: {} bytes, imports {imports}, sha256 {}, in {}",
            component.name,
            component.bytes,
            component.sha256,
            component.path.display()
        )?;
    }
    Ok(())
}
