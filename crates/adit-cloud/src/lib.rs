//! adit-cloud
pub mod kernel;
