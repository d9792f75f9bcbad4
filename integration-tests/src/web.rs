//! HTTP, of workers and of Kafka Connect.

use reqwest::{Client, ClientBuilder};

/// A client before its settings. reqwest's clients ask for a provider of TLS, although nothing here speaks it: the engine's own, ring.
pub fn builder() -> ClientBuilder {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails where another thread came first, with the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    Client::builder()
}

/// A client.
///
/// # Errors
/// The system's certificates can't be read.
pub fn client() -> reqwest::Result<Client> {
    builder().build()
}
