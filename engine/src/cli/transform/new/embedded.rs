//! The files of the projects, embedded so that the binary alone can write them. A test compares the lists with the folders.
#![cfg_attr(rustfmt, rustfmt_skip)]

/// `transforms/templates`, except the tests and what is said of the folder itself.
pub(super) const TEMPLATE_FILES: &[(&str, &str)] = &[
    ("c/any/transform.c", include_str!("../../../../../transforms/templates/c/any/transform.c")),
    ("c/customers/transform.c", include_str!("../../../../../transforms/templates/c/customers/transform.c")),
    ("c/orders/transform.c", include_str!("../../../../../transforms/templates/c/orders/transform.c")),
    ("c/project/.gitignore", include_str!("../../../../../transforms/templates/c/project/.gitignore")),
    ("c/shipping_info/transform.c", include_str!("../../../../../transforms/templates/c/shipping_info/transform.c")),
    ("go/any/main.go", include_str!("../../../../../transforms/templates/go/any/main.go")),
    ("go/customers/main.go", include_str!("../../../../../transforms/templates/go/customers/main.go")),
    ("go/orders/main.go", include_str!("../../../../../transforms/templates/go/orders/main.go")),
    ("go/project/.gitignore", include_str!("../../../../../transforms/templates/go/project/.gitignore")),
    ("go/project/go.mod", include_str!("../../../../../transforms/templates/go/project/go.mod")),
    ("go/shipping_info/main.go", include_str!("../../../../../transforms/templates/go/shipping_info/main.go")),
    ("js/any/transform.js", include_str!("../../../../../transforms/templates/js/any/transform.js")),
    ("js/customers/transform.js", include_str!("../../../../../transforms/templates/js/customers/transform.js")),
    ("js/orders/transform.js", include_str!("../../../../../transforms/templates/js/orders/transform.js")),
    ("js/project/.gitignore", include_str!("../../../../../transforms/templates/js/project/.gitignore")),
    ("js/shipping_info/transform.js", include_str!("../../../../../transforms/templates/js/shipping_info/transform.js")),
    ("other/any/transform.wat", include_str!("../../../../../transforms/templates/other/any/transform.wat")),
    ("other/project/.gitignore", include_str!("../../../../../transforms/templates/other/project/.gitignore")),
    ("python/any/transform.py", include_str!("../../../../../transforms/templates/python/any/transform.py")),
    ("python/customers/transform.py", include_str!("../../../../../transforms/templates/python/customers/transform.py")),
    ("python/orders/transform.py", include_str!("../../../../../transforms/templates/python/orders/transform.py")),
    ("python/project/.gitignore", include_str!("../../../../../transforms/templates/python/project/.gitignore")),
    ("python/shipping_info/transform.py", include_str!("../../../../../transforms/templates/python/shipping_info/transform.py")),
    ("rust/project/.gitignore", include_str!("../../../../../transforms/templates/rust/project/.gitignore")),
    ("rust/project/Cargo.toml", include_str!("../../../../../transforms/templates/rust/project/Cargo.toml")),
];

/// `transforms/sdks`: a folder a language.
pub(super) const SDK_FILES: &[(&str, &str)] = &[
    ("c/streamsync.c", include_str!("../../../../../transforms/sdks/c/streamsync.c")),
    ("c/streamsync.h", include_str!("../../../../../transforms/sdks/c/streamsync.h")),
    ("go/contract.go", include_str!("../../../../../transforms/sdks/go/contract.go")),
    ("go/streamsync.go", include_str!("../../../../../transforms/sdks/go/streamsync.go")),
    ("js/streamsync.js", include_str!("../../../../../transforms/sdks/js/streamsync.js")),
    ("python/streamsync.py", include_str!("../../../../../transforms/sdks/python/streamsync.py")),
];

/// `transforms/sdk`: the crate of the guests.
pub(super) const RUST_SDK_FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../../../../transforms/sdk/Cargo.toml")),
    ("src/changes.rs", include_str!("../../../../../transforms/sdk/src/changes.rs")),
    ("src/component.rs", include_str!("../../../../../transforms/sdk/src/component.rs")),
    ("src/contract.rs", include_str!("../../../../../transforms/sdk/src/contract.rs")),
    ("src/document.rs", include_str!("../../../../../transforms/sdk/src/document.rs")),
    ("src/guest.rs", include_str!("../../../../../transforms/sdk/src/guest.rs")),
    ("src/kind.rs", include_str!("../../../../../transforms/sdk/src/kind.rs")),
    ("src/lib.rs", include_str!("../../../../../transforms/sdk/src/lib.rs")),
    ("src/log.rs", include_str!("../../../../../transforms/sdk/src/log.rs")),
    ("src/metrics.rs", include_str!("../../../../../transforms/sdk/src/metrics.rs")),
    ("src/row.rs", include_str!("../../../../../transforms/sdk/src/row.rs")),
    ("src/table.rs", include_str!("../../../../../transforms/sdk/src/table.rs")),
    ("src/testing.rs", include_str!("../../../../../transforms/sdk/src/testing.rs")),
    ("src/text.rs", include_str!("../../../../../transforms/sdk/src/text.rs")),
    ("src/value.rs", include_str!("../../../../../transforms/sdk/src/value.rs")),
];

/// The default transforms, which are the templates in Rust, with their tests.
pub(super) const RUST_FILES: &[(&str, &str)] = &[
    ("customers/src/lib.rs", include_str!("../../../../../transforms/customers/src/lib.rs")),
    ("customers/src/tests.rs", include_str!("../../../../../transforms/customers/src/tests.rs")),
    ("orders/config.schema.json", include_str!("../../../../../transforms/orders/config.schema.json")),
    ("orders/src/lib.rs", include_str!("../../../../../transforms/orders/src/lib.rs")),
    ("orders/src/tests.rs", include_str!("../../../../../transforms/orders/src/tests.rs")),
    ("passthrough/src/lib.rs", include_str!("../../../../../transforms/passthrough/src/lib.rs")),
    ("shipping_info/src/lib.rs", include_str!("../../../../../transforms/shipping_info/src/lib.rs")),
    ("shipping_info/src/tests.rs", include_str!("../../../../../transforms/shipping_info/src/tests.rs")),
];
