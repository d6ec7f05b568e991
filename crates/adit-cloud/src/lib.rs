//! adit-cloud
