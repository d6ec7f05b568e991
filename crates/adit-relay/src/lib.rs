//! adit-relay
