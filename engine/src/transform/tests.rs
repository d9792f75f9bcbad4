//! Guests that are made to fail, and what the host makes of them.
