//! How a volume is.
