//! adit-model
